//! What a run prints and writes about its progress: JSON lines, `-q`, `-v`, `--log-file`, and the
//! events of TensorBoard.
#![cfg(unix)]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use alexnet_interchange::tensorboard::{EventFile, NAME};
use serde_json::Value;

use crate::TestDir;

/// Fifteen images for training and five for validation.
const TRAIN: [&str; 10] =
    ["train", "--data", "flowers", "--val-fraction", "0.25", "--epochs", "2", "--opt", "sgd", "-b"];

#[test]
fn progress_is_printed_as_json_lines() {
    let dir = TestDir::with_flowers(4);
    let ran = dir.run(&[&TRAIN[..], &["4", "--progress", "json", "--run-dir", "run"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let events: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|e| e["event"] == kind).collect::<Vec<_>>();
    assert_eq!(events[0], of("start")[0].clone());
    assert_eq!((&events[0]["run"], &events[0]["epochs"]), (&"run".into(), &2.into()));
    assert_eq!((&events[0]["train_images"], &events[0]["val_images"]), (&15.into(), &5.into()));
    assert_eq!(events[0]["steps_per_epoch"], 4);
    // At least the first step, and the last of each epoch.
    let steps = of("step");
    assert!(steps.len() >= 3, "{events:?}");
    let last = steps.last().unwrap();
    assert_eq!(
        (&last["step"], &last["epoch"], &last["batches"]),
        (&8.into(), &2.into(), &4.into())
    );
    assert!(last["loss"].as_f64().unwrap() > 0.0 && last["lr"].as_f64().unwrap() > 0.0);
    let results = fs::read_to_string(dir.file("run/results.csv")).unwrap();
    for (epoch, row) in of("epoch").into_iter().zip(results.lines().skip(1)) {
        let row: Vec<&str> = row.split(',').collect();
        let rounded = |key: &str| format!("{:.6}", epoch[key].as_f64().unwrap());
        assert_eq!(epoch["epoch"].to_string(), row[0]);
        let of_row = ["train_loss", "val_loss", "val_accuracy"].map(rounded);
        assert_eq!(of_row, [row[2], row[3], row[4]]);
    }
    let end = events.last().unwrap();
    assert_eq!((&end["event"], &end["outcome"]), (&"end".into(), &"finished".into()));
    assert_eq!((&end["epochs_done"], &end["steps_done"]), (&2.into(), &8.into()));
    // The lines of text are messages then.
    assert!(ran.err.contains("Finished Training\n") && ran.err.contains("[epoch 2] "), "{ran:?}");
}

#[test]
fn output_is_quiet_or_verbose_and_logged() {
    let dir = TestDir::with_flowers(4);
    let train = |more: &[&str]| {
        let ran = dir.run(&[&TRAIN[..], &["8"], more].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran
    };
    let quiet = train(&["-q", "--log-file", "train.log"]);
    assert_eq!((quiet.err.as_str(), quiet.out.lines().count()), ("", 5), "{quiet:?}");
    let verbose = train(&["-v", "--log-file", "train.log"]);
    let steps = verbose.err.lines().filter(|line| line.starts_with("step "));
    assert_eq!(steps.count(), 4, "{verbose:?}");
    assert!(verbose.err.contains("step 3: epoch 2, 1/2 loss "), "{verbose:?}");
    assert_eq!(dir.run(&["train", "-q", "-v"]).code, Some(2));

    let log = fs::read_to_string(dir.file("train.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let printed = [&quiet, &verbose].map(|ran| ran.out.lines().count() + ran.err.lines().count());
    assert_eq!(lines.len(), printed[0] + printed[1], "{log}");
    for line in lines {
        let (time, text) = line.split_at(20);
        assert!(time.starts_with("20") && time.as_bytes()[13] == b':', "{line}");
        let all = [&quiet.out, &verbose.out, &verbose.err];
        assert!(all.iter().any(|printed| printed.contains(text)), "{line}");
    }
    let ran = dir.run(&["train", "--resume", "none", "--log-file", "train.log"]);
    let log = fs::read_to_string(dir.file("train.log")).unwrap();
    assert_eq!(log.lines().last().unwrap().split_at(20).1, ran.err.trim_end());
    let ran = dir.run(&["train", "--log-file", "none/train.log"]);
    assert!(ran.code == Some(1) && ran.err.contains("cannot open none/train.log"), "{ran:?}");
    let photo = dir.file("flowers/roses").read_dir().unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&photo).unwrap();
    let ran = dir.run(&["train", "--log-file", photo.to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.err.contains("is not a text file"), "{ran:?}");
    assert_eq!(fs::read(&photo).unwrap(), bytes);
}

/// The steps and tags of the events in a file.
fn events(path: &Path) -> Vec<(u64, String)> {
    let mut events = vec![];
    EventFile::open(path, |step, tags| {
        events.push((step, tags.join(" ")));
        true
    })
    .unwrap();
    events
}

#[test]
fn a_killed_and_resumed_run_has_each_event_once() {
    let dir = TestDir::with_flowers(4);
    let train = [&TRAIN[..], &["1", "--tensorboard", "--run-dir"]].concat();
    dir.succeeds(&[&train[..], &["whole"]].concat());
    let whole = events(&dir.file("whole").join(NAME));
    let steps: Vec<u64> = whole.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [10, 15, 20, 30, 30]);
    assert_eq!(whole[0].1, "step/loss step/lr");
    assert_eq!(whole[1].1, "train/loss lr val/loss metrics/accuracy_top1");

    let mut command = dir.command(&[&train[..], &["killed", "-v"]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.map(Result::unwrap).find(|line| line.starts_with("step 22: ")).expect("step 22");
    child.kill().unwrap();
    child.wait().unwrap();
    let path = dir.file("killed").join(NAME);
    assert_eq!(events(&path), whole[..3]);
    // The file is continued without the option. Here a record is incomplete.
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    dir.succeeds(&["train", "--resume", "killed"]);
    assert_eq!(events(&path), whole);

    // A file that is started later has the epochs before.
    dir.succeeds(&[&TRAIN[..], &["1", "--run-dir", "late"]].concat());
    dir.succeeds(&["train", "--resume", "late", "--epochs", "3", "--tensorboard"]);
    let late = events(&dir.file("late").join(NAME));
    let epochs = late.iter().filter(|(_, tags)| tags.contains("val/loss"));
    assert_eq!(epochs.map(|(step, _)| *step).collect::<Vec<_>>(), [15, 30, 45]);

    let ran = {
        fs::write(&path, "words").unwrap();
        dir.run(&["train", "--resume", "killed", "--epochs", "3"])
    };
    assert!(
        ran.code == Some(1) && ran.err.contains("is not an event file of TensorBoard"),
        "{ran:?}"
    );
    read_by_tensorboard(&dir.file("whole"));
}

/// Asserts that TensorBoard reads the results of a run, if Python has it.
fn read_by_tensorboard(run: &Path) {
    const READ: &str = "
import csv, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]).Reload()
rows = list(csv.DictReader(open(sys.argv[1] + '/results.csv')))
for tag in ['train/loss', 'val/loss', 'metrics/accuracy_top1', 'lr']:
    scalars = events.Scalars(tag)
    assert [s.step for s in scalars] == [15, 30], scalars
    for scalar, row in zip(scalars, rows):
        assert abs(scalar.value - float(row[tag])) < 1e-5, (tag, scalar, row)
assert [s.step for s in events.Scalars('step/loss')] == [10, 20, 30]
";
    let python = env::var_os("ALEXNET_PYTHON").unwrap_or_else(|| "python3".into());
    let python = |code: &str| {
        Command::new(&python).args(["-c", code]).arg(run).stderr(Stdio::piped()).output()
    };
    if !python("import tensorboard").is_ok_and(|output| output.status.success()) {
        println!("skipped: no tensorboard");
        return;
    }
    let output = python(READ).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
