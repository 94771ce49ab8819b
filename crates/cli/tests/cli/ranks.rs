//! `train` on several processes, through MPI. The tests are skipped in a build without MPI, unless
//! `ALEXNET_REQUIRE_MPI` is 1.
#![cfg(target_os = "linux")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Ran, TestDir,
    resume::{EVERYTHING, Outcome, TRAIN},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_alexnet");

/// Returns whether the tests must be skipped, and says so.
fn is_skipped() -> bool {
    let is_skipped = !cfg!(feature = "mpi");
    if is_skipped {
        assert_ne!(env::var("ALEXNET_REQUIRE_MPI").as_deref(), Ok("1"), "this build has no MPI");
        eprintln!("skipped: no MPI");
    }
    is_skipped
}

/// Flowers and the options of [`TRAIN`].
fn dir() -> TestDir {
    let dir = TestDir::with_flowers(4);
    fs::write(dir.file("options.toml"), EVERYTHING).unwrap();
    dir
}

/// A training on several ranks that has started.
struct Training {
    parent: Child,
    err: BufReader<std::process::ChildStderr>,
    output: String,
}

impl Training {
    fn start(dir: &TestDir, more: &[&str]) -> Self {
        let mut command = dir.command(&[&TRAIN[..], more].concat());
        let mut parent = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let err = BufReader::new(parent.stderr.take().unwrap());
        let mut started = Self { parent, err, output: String::new() };
        started.wait_for("the run is stored in");
        started
    }

    fn wait_for(&mut self, text: &str) {
        while !self.output.contains(text) {
            assert!(self.err.read_line(&mut self.output).unwrap() > 0, "{}", self.output);
        }
    }

    /// Returns the exit code and all of stderr.
    fn end(mut self) -> (Option<i32>, String) {
        self.err.read_to_string(&mut self.output).unwrap();
        (self.parent.wait().unwrap().code(), self.output)
    }
}

/// Returns the process of a rank of the run `name` in this folder.
fn process_of(dir: &TestDir, name: &str, rank: usize) -> String {
    let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
    let has = |file: Option<Vec<u8>>, text: &str| {
        file.is_some_and(|bytes| bytes.split(|byte| *byte == 0).any(|part| part == text.as_bytes()))
    };
    let found = fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let file = |name: &str| fs::read(entry.path().join(name)).ok();
        fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir.path())
            && has(file("environ"), &variable)
            && has(file("cmdline"), name)
    });
    found.expect("the rank runs").file_name().into_string().unwrap()
}

fn kill(signal: &str, process: &str) {
    assert!(Command::new("kill").args([signal, process]).status().unwrap().success());
}

#[test]
fn the_number_of_ranks_does_not_change_a_bit_also_after_a_kill() {
    if is_skipped() {
        return;
    }
    let dir = dir();
    dir.succeeds(&[&TRAIN[..], &["--run-dir", "alone"]].concat());
    let alone = Outcome::of(&dir.file("alone"));
    let out = dir.succeeds(&[&TRAIN[..], &["--run-dir", "on2", "--ranks", "2"]].concat());
    alone.assert_same(&Outcome::of(&dir.file("on2")), "2 ranks");
    assert_eq!(out.matches("[epoch 2] ").count(), 1, "only rank 0 prints: {out}");

    // The end of one rank ends all, and the run is resumed on another number.
    let training =
        Training::start(&dir, &["--run-dir", "killed", "--ranks", "2", "--checkpoint-every", "1"]);
    kill("-KILL", &process_of(&dir, "killed", 1));
    let start = Instant::now();
    let (code, output) = training.end();
    assert!(!matches!(code, None | Some(0)), "{code:?}: {output}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let hybrid = ["--parallel", "hybrid"];
    dir.succeeds(&[&["train", "--resume", "killed", "--ranks", "4"][..], &hybrid].concat());
    alone.assert_same(&Outcome::of(&dir.file("killed")), "killed on 2 ranks, resumed on 4, hybrid");
}

#[test]
fn a_signal_stops_all_ranks_with_a_checkpoint() {
    if is_skipped() {
        return;
    }
    let dir = dir();
    let training = Training::start(&dir, &["--run-dir", "stopped", "--ranks", "2"]);
    kill("-INT", &training.parent.id().to_string());
    let (code, output) = training.end();
    assert_eq!(code, Some(130), "{output}");
    assert!(output.contains("continue with `train --resume stopped`"), "{output}");
    assert!(!output.contains("MPI") && !output.contains("mpirun"), "{output}");
}

#[test]
fn an_error_of_all_ranks_is_printed_once() {
    if is_skipped() {
        return;
    }
    let dir = TestDir::new();
    for (options, message) in [
        (&["--data", "nowhere"][..], "error: there is nothing at nowhere"),
        (&["--epochs", "x"], "error: invalid value 'x' for '--epochs"),
    ] {
        let ran = dir.run(&[&["train", "--ranks", "3"][..], options].concat());
        assert_eq!(ran.err.matches("error: ").count(), 1, "{}", ran.err);
        assert!(ran.err.starts_with(message) && !ran.err.contains("mpirun"), "{}", ran.err);
        assert!(!matches!(ran.code, None | Some(0)), "{ran:?}");
    }
}

/// Runs `mpirun` with these arguments.
fn mpirun(dir: &TestDir, args: &[&str]) -> Ran {
    let mut command = Command::new("mpirun");
    let settings = ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"];
    command.args(["--quiet", "--oversubscribe"]).args(args).envs(settings.map(|name| (name, "1")));
    Ran::from(command.current_dir(dir.path()).stdin(Stdio::null()).output().unwrap(), args)
}

#[test]
fn differing_ranks_and_other_launchers_are_refused() {
    if is_skipped() {
        return;
    }
    let dir = dir();
    let train = [&[PROGRAM][..], &TRAIN].concat();
    for (option, values, difference) in [
        ("--lr", ["0.1", "0.2"], ": lr is 0.2, not 0.1"),
        ("--sum-order", ["fixed", "any"], ": --sum-order is any, not fixed"),
    ] {
        let [first, second] =
            values.map(|value| [&["-n", "1"][..], &train, &[option, value]].concat());
        let ran = mpirun(&dir, &[&first[..], &[":"], &second].concat());
        assert!(ran.err.contains(difference), "{}", ran.err);
        assert!(ran.err.contains("error: rank 1 on ") && ran.code != Some(0), "{ran:?}");
    }

    let ran = mpirun(&dir, &[&["-n", "2"][..], &train, &["--ranks", "3"]].concat());
    assert!(ran.err.contains("has started 2 processes, not 3"), "{}", ran.err);
    let ran = mpirun(&dir, &["-n", "2", PROGRAM, "summary"]);
    assert!(ran.err.contains("`summary` runs as one process"), "{}", ran.err);

    // As a launcher of another MPI library would start it.
    let ran = Ran::from(dir.command(&TRAIN).env("PMI_SIZE", "4").output().unwrap(), &TRAIN);
    assert!(ran.err.contains("has started 4 processes, but MPI sees 1"), "{}", ran.err);
    assert_eq!(dir.names(), ["flowers", "options.toml"]);
}
