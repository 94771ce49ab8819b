//! The result of a run is bit-identical for any number of threads and any number of interruptions.
#![cfg(unix)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use alexnet_core::{Progress, State, checkpoint};

use crate::TestDir;

pub const TRAIN: [&str; 11] = [
    "train",
    "--config",
    "options.toml",
    "--data",
    "flowers",
    "--epochs",
    "2",
    "--val-fraction",
    "0.25",
    "--seed",
    "7",
];

/// In addition to the default options.
const PLAIN: &str = "batch-size = 4";

/// Every option that changes what a step does.
pub const EVERYTHING: &str = r#"
batch-size = 2
opt = "adamw"
weight-decay = 0.05
lr = 1e-3
lr-scheduler = "onecycle"
label-smoothing = 0.1
mixup = 0.4
cutmix = 1.0
color-jitter = 0.4
random-erasing = 0.5
crop-scale = [0.3, 0.9]
hflip = 0.3
vflip = 0.2
crop = "random"
resize-short = 240
val-resize-crop = 230
pca-noise = 0.1
rotation = 20.0
auto-augment = "randaugment"
ra-magnitude = 12
model-ema = true
model-ema-steps = 2
model-ema-decay = 0.6
clip-grad-norm = 1.0
accumulate = 2
patience = 5
init = "pytorch"
"#;

/// The result of a run without times: weights, parameters and moments, progress, results.
#[derive(PartialEq)]
pub struct Outcome {
    best: Vec<u8>,
    last: Vec<u8>,
    pub state: State,
    pub progress: Progress,
    pub results: Vec<String>,
}

impl Outcome {
    pub fn of(run: &Path) -> Self {
        let (state, mut progress): (State, Progress) =
            checkpoint::load(run.join("checkpoint/checkpoint.safetensors")).unwrap();
        progress.seconds = 0.0;
        progress.history.iter_mut().for_each(|row| row.time = 0.0);
        let results = fs::read_to_string(run.join("results.csv")).unwrap();
        let without_time = |line: &str| {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), 6, "{line}");
            [&fields[..1], &fields[2..]].concat().join(",")
        };
        Self {
            best: fs::read(run.join("weights/best.safetensors")).unwrap(),
            last: fs::read(run.join("weights/last.safetensors")).unwrap(),
            state,
            progress,
            results: results.lines().map(without_time).collect(),
        }
    }

    /// Does not use `assert_eq` for the weights, because it would print megabytes.
    pub fn assert_same(&self, other: &Self, case: &str) {
        assert_eq!(self.results, other.results, "{case}");
        assert_eq!(self.progress, other.progress, "{case}");
        assert!(self.best == other.best, "{case}: the best weights differ");
        assert!(self.last == other.last, "{case}: the last weights differ");
        assert!(self.state == other.state, "{case}: the checkpoints differ");
    }
}

#[test]
fn interruptions_and_threads_do_not_change_the_result() {
    let outcome = check(PLAIN);
    assert!(outcome.state.average.is_empty());
}

#[test]
fn interruptions_and_threads_do_not_change_the_result_with_every_option() {
    let outcome = check(EVERYTHING);
    assert_eq!(outcome.state.average.len(), outcome.state.parameters.len());
    assert!(outcome.state.average != outcome.state.parameters);
}

/// Asserts that interrupted runs with other numbers of threads have the same result as an
/// uninterrupted run with these options. Returns that result.
fn check(options: &str) -> Outcome {
    let dir = TestDir::with_flowers(4);
    fs::write(dir.file("options.toml"), options).unwrap();
    let start = Instant::now();
    dir.succeeds(&[&TRAIN[..], &["--run-dir", "whole", "-j", "2"]].concat());
    let duration = start.elapsed();
    let uninterrupted = Outcome::of(&dir.file("whole"));
    assert_eq!((uninterrupted.progress.step, uninterrupted.results.len()), (8, 3));
    assert_eq!(uninterrupted.state.moments.len(), 2 * uninterrupted.state.parameters.len());

    interrupt(&dir);
    dir.succeeds(&["train", "--resume", "interrupted", "-j", "1"]);
    let interrupted = Outcome::of(&dir.file("interrupted"));
    uninterrupted.assert_same(&interrupted, "interrupted, and resumed with 1 thread");

    kill_at(&dir, [0.35, 0.5, 0.65].map(|share| duration.mul_f64(share)));
    uninterrupted.assert_same(&Outcome::of(&dir.file("killed")), "killed, with 4 threads");
    uninterrupted
}

/// Kills a run as soon as each file that is written at its start or in its first epoch appears.
#[test]
fn interruptions_and_threads_do_not_change_the_result_in_bf16() {
    let outcome = check(&format!("{PLAIN}\nprecision = \"bf16\""));
    let says_so = |weights: &[u8]| weights.windows(18).any(|text| text == br#""precision":"bf16""#);
    assert!(says_so(&outcome.best) && says_so(&outcome.last));
}

#[test]
fn a_run_killed_between_any_two_files_can_be_resumed() {
    let dir = TestDir::with_flowers(4);
    // Few parameters are trained, because each kill costs two starts of the run.
    let options = "batch-size = 16\nfreeze = [\"classifier\"]\nweights = \"initial.safetensors\"";
    fs::write(dir.file("options.toml"), options).unwrap();
    dir.save_fresh_weights("initial.safetensors");
    dir.succeeds(&[&TRAIN[..], &["--run-dir", "whole"]].concat());
    let uninterrupted = Outcome::of(&dir.file("whole"));
    for file in [
        "args.toml",
        "split.json",
        "checkpoint/checkpoint.safetensors",
        "weights/last.safetensors",
        "weights/best.safetensors",
        "results.csv",
    ] {
        let mut command = dir.command(&[&TRAIN[..], &["--run-dir", "killed"]].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !dir.file("killed").join(file).exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended without {file}");
            sleep(Duration::from_micros(100));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let had_checkpoint = dir.file("killed/checkpoint/checkpoint.safetensors").exists();
        // With a checkpoint, the initial weights are no longer needed.
        let away = dir.file("away.safetensors");
        if had_checkpoint {
            fs::rename(dir.file("initial.safetensors"), &away).unwrap();
        }
        dir.succeeds(&["train", "--resume", "killed"]);
        uninterrupted.assert_same(&Outcome::of(&dir.file("killed")), file);
        if had_checkpoint {
            fs::rename(&away, dir.file("initial.safetensors")).unwrap();
        }
        fs::remove_dir_all(dir.file("killed")).unwrap();
    }
}

/// Interrupts a run in its first steps. Asserts that it ends after the current step with a
/// checkpoint, and prints how to continue.
fn interrupt(dir: &TestDir) {
    let mut command = dir.command(&[&TRAIN[..], &["--run-dir", "interrupted"]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut output = String::new();
    while !output.contains("the run is stored in interrupted") {
        assert!(err.read_line(&mut output).unwrap() > 0, "{output}");
    }
    signal(&child, "INT");
    err.read_to_string(&mut output).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{output}");
    assert!(output.contains("continue with `train --resume interrupted`"), "{output}");
    let (_, progress): (State, Progress) =
        checkpoint::load(dir.file("interrupted/checkpoint/checkpoint.safetensors")).unwrap();
    assert!((1..8).contains(&progress.step), "{}", progress.step);
}

/// No handler is installed before there is a state to save.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_before_the_first_step_ends_a_run_at_once() {
    use std::os::unix::process::ExitStatusExt;
    let dir = TestDir::new();
    // The parent of the test process may ignore the signal, and child processes inherit that.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_alexnet"), "train"])
        .current_dir(dir.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut output = String::new();
    while !output.contains("using drawn flowers") {
        assert!(err.read_line(&mut output).unwrap() > 0, "{output}");
    }
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    assert!(!dir.file("runs").exists());
}

/// SIGHUP stops a run as SIGINT does, unless it is ignored as under `nohup`.
#[cfg(target_os = "linux")]
#[test]
fn a_run_is_saved_when_its_terminal_is_closed() {
    let dir = TestDir::with_flowers(4);
    for (prefix, code) in
        [("exec env --default-signal=HUP ", Some(129)), ("trap '' HUP; exec ", Some(0))]
    {
        let run = format!("run{}", code.unwrap());
        let binary = env!("CARGO_BIN_EXE_alexnet");
        let train = format!(
            "{binary} train --data flowers --val-fraction 0.25 -b 8 --epochs 2 --run-dir {run}"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{prefix}{train}")]).current_dir(dir.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut output = String::new();
        while !output.contains("the run is stored in") {
            assert!(err.read_line(&mut output).unwrap() > 0, "{output}");
        }
        signal(&child, "HUP");
        err.read_to_string(&mut output).unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{output}");
        assert_eq!(output.contains("continue with `train --resume"), code == Some(129), "{output}");
        assert!(dir.file(&run).join("checkpoint/checkpoint.safetensors").exists());
    }
}

/// Such as a run that was copied by a program that leaves empty folders out.
#[test]
fn a_run_of_which_only_the_settings_are_left_starts_again() {
    let dir = TestDir::with_flowers(4);
    fs::write(dir.file("options.toml"), PLAIN).unwrap();
    dir.succeeds(&[&TRAIN[..], &["--run-dir", "whole"]].concat());
    fs::create_dir(dir.file("only")).unwrap();
    fs::copy(dir.file("whole/args.toml"), dir.file("only/args.toml")).unwrap();
    let ran = dir.run(&["train", "--resume", "only"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("resuming after step 0, in epoch 1"), "{ran:?}");
    Outcome::of(&dir.file("whole")).assert_same(&Outcome::of(&dir.file("only")), "only settings");
}

fn signal(child: &Child, name: &str) {
    let sent =
        Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Kills the run `killed`, which has 4 threads, after each of these times, resumes it each time,
/// and lets it finish at the end.
fn kill_at<const N: usize>(dir: &TestDir, instants: [Duration; N]) {
    let options = ["-j", "4", "--checkpoint-every", "1"];
    let start = [&TRAIN[..], &["--run-dir", "killed"], &options].concat();
    let resume = [&["train", "--resume", "killed"][..], &options].concat();
    // Before args.toml is written there is no run that could be resumed.
    let args = || if dir.file("killed/args.toml").exists() { &resume[..] } else { &start[..] };
    let mut kills = 0;
    for instant in instants {
        let mut command = dir.command(args());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(instant);
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0, "each run had ended before it was killed");
    dir.succeeds(args());
}
