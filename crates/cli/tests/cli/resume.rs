//! A run ends with the same bits however many threads it has and however often it is stopped.
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

use crate::Place;

const TRAIN: [&str; 11] = [
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

/// Beside the tutorial's options.
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
model-ema = true
model-ema-steps = 2
model-ema-decay = 0.6
clip-grad-norm = 1.0
accumulate = 2
patience = 5
init = "pytorch"
"#;

/// What a run ends with, without times: weights, parameters and moments, progress, results.
#[derive(PartialEq)]
struct End {
    best: Vec<u8>,
    last: Vec<u8>,
    state: State,
    progress: Progress,
    results: Vec<String>,
}

impl End {
    fn of(run: &Path) -> Self {
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

    /// Not `assert_eq`: it would print megabytes.
    fn assert_same(&self, other: &Self, case: &str) {
        assert_eq!(self.results, other.results, "{case}");
        assert_eq!(self.progress, other.progress, "{case}");
        assert!(self.best == other.best, "{case}: other best weights");
        assert!(self.last == other.last, "{case}: other last weights");
        assert!(self.state == other.state, "{case}: another checkpoint");
    }
}

#[test]
fn stops_and_threads_change_no_bit() {
    let whole = check(PLAIN);
    assert!(whole.state.average.is_empty());
}

#[test]
fn with_every_option_on_neither() {
    let whole = check(EVERYTHING);
    assert_eq!(whole.state.average.len(), whole.state.parameters.len());
    assert!(whole.state.average != whole.state.parameters);
}

/// The end of an uninterrupted run with these options, after other runs were seen to end so too.
fn check(options: &str) -> End {
    let place = Place::with_flowers(4);
    fs::write(place.file("options.toml"), options).unwrap();
    let start = Instant::now();
    place.succeeds(&[&TRAIN[..], &["--run-dir", "whole", "-j", "2"]].concat());
    let duration = start.elapsed();
    let whole = End::of(&place.file("whole"));
    assert_eq!((whole.progress.step, whole.results.len()), (8, 3));
    assert_eq!(whole.state.moments.len(), 2 * whole.state.parameters.len());

    for threads in ["1", "4"] {
        place.succeeds(&[&TRAIN[..], &["--run-dir", threads, "-j", threads]].concat());
        whole.assert_same(&End::of(&place.file(threads)), &format!("{threads} threads"));
        fs::remove_dir_all(place.file(threads)).unwrap();
    }

    interrupt(&place);
    place.succeeds(&["train", "--resume", "interrupted"]);
    whole.assert_same(&End::of(&place.file("interrupted")), "interrupted");

    kill_at(&place, [0.35, 0.5, 0.65].map(|share| duration.mul_f64(share)));
    whole.assert_same(&End::of(&place.file("killed")), "killed");
    whole
}

/// Each file of a run's beginning and of its first epoch, when it has just appeared.
#[test]
fn killed_between_any_two_files_it_goes_on() {
    let place = Place::with_flowers(4);
    fs::write(place.file("options.toml"), "batch-size = 16\nweights = \"begun.safetensors\"").unwrap();
    place.save_fresh_weights("begun.safetensors");
    place.succeeds(&[&TRAIN[..], &["--run-dir", "whole"]].concat());
    let whole = End::of(&place.file("whole"));
    for file in [
        "args.toml",
        "split.json",
        "checkpoint/checkpoint.safetensors",
        "weights/last.safetensors",
        "weights/best.safetensors",
        "results.csv",
    ] {
        let mut command = place.command(&[&TRAIN[..], &["--run-dir", "killed"]].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !place.file("killed").join(file).exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended without {file}");
            sleep(Duration::from_micros(100));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let had_checkpoint = place.file("killed/checkpoint/checkpoint.safetensors").exists();
        // Then nothing else is needed but the images.
        let away = place.file("away.safetensors");
        if had_checkpoint {
            fs::rename(place.file("begun.safetensors"), &away).unwrap();
        }
        place.succeeds(&["train", "--resume", "killed"]);
        whole.assert_same(&End::of(&place.file("killed")), file);
        if had_checkpoint {
            fs::rename(&away, place.file("begun.safetensors")).unwrap();
        }
        fs::remove_dir_all(place.file("killed")).unwrap();
    }
}

/// Interrupts a run in its first steps: it ends after its step with a checkpoint, and says how to go on.
fn interrupt(place: &Place) {
    let mut command = place.command(&[&TRAIN[..], &["--run-dir", "interrupted"]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("the run is stored in interrupted") {
        assert!(err.read_line(&mut said).unwrap() > 0, "{said}");
    }
    signal(&child, "INT");
    err.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("continue with `train --resume interrupted`"), "{said}");
    let (_, progress): (State, Progress) =
        checkpoint::load(place.file("interrupted/checkpoint/checkpoint.safetensors")).unwrap();
    assert!((1..8).contains(&progress.step), "{}", progress.step);
}

/// Before there is anything to keep nothing is waited for.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_before_the_first_step_ends_a_run_at_once() {
    use std::os::unix::process::ExitStatusExt;
    let place = Place::new();
    // What runs the tests may ignore the signal, and its children would.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_alexnet"), "train"]).current_dir(place.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("using drawn flowers") {
        assert!(err.read_line(&mut said).unwrap() > 0, "{said}");
    }
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    assert!(!place.file("runs").exists());
}

/// The end of its terminal ends a run as an interrupt does, unless it was started to outlive it.
#[cfg(target_os = "linux")]
#[test]
fn a_run_is_kept_when_its_terminal_ends() {
    let place = Place::with_flowers(4);
    for (begin, code) in [("exec env --default-signal=HUP ", Some(129)), ("trap '' HUP; exec ", Some(0))] {
        let run = format!("run{}", code.unwrap());
        let binary = env!("CARGO_BIN_EXE_alexnet");
        let train =
            format!("{binary} train --data flowers --val-fraction 0.25 -b 8 --epochs 2 --run-dir {run}");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{begin}{train}")]).current_dir(place.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("the run is stored in") {
            assert!(err.read_line(&mut said).unwrap() > 0, "{said}");
        }
        signal(&child, "HUP");
        err.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{said}");
        assert_eq!(said.contains("continue with `train --resume"), code == Some(129), "{said}");
        assert!(place.file(&run).join("checkpoint/checkpoint.safetensors").exists());
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Kills the run `killed` after each of these times, going on with it in between, and lets it end.
fn kill_at<const N: usize>(place: &Place, instants: [Duration; N]) {
    let begin = [&TRAIN[..], &["--run-dir", "killed", "--checkpoint-every", "1"]].concat();
    let go_on = ["train", "--resume", "killed", "--checkpoint-every", "1"];
    // Before its arguments are written a run is none yet.
    let args = || if place.file("killed/args.toml").exists() { &go_on[..] } else { &begin[..] };
    let mut kills = 0;
    for instant in instants {
        let mut command = place.command(args());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(instant);
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0, "each run had ended before it was killed");
    place.succeeds(args());
}
