//! `runs`, `runs clean` and `train --resume` without a value.

use std::{fs, thread::sleep, time::Duration};

use alexnet_core::lock::Lock;
use serde_json::Value;

use crate::TestDir;

/// Trains on eight images for one epoch of one step.
fn train(dir: &TestDir, more: &[&str]) {
    let args = ["train", "--data", "flowers", "--val-fraction", "0.5", "-b", "16"];
    dir.succeeds(&[&args[..], &["--opt", "sgd"], more].concat());
}

fn json(dir: &TestDir, more: &[&str]) -> Vec<Value> {
    let args = [&["runs", "--format", "json"][..], more].concat();
    serde_json::from_str(&dir.succeeds(&args)).unwrap()
}

fn names(runs: &[Value]) -> Vec<&str> {
    runs.iter().map(|run| run["run"].as_str().unwrap()).collect()
}

#[test]
fn runs_are_listed_cleaned_and_resumed() {
    let dir = TestDir::with_flowers(4);
    let none = dir.run(&["runs"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""));
    assert!(none.err.contains("there are no runs in runs; `train` starts one"), "{none:?}");
    assert_eq!(json(&dir, &[]), [] as [Value; 0]);
    let ran = dir.run(&["train", "--resume"]);
    assert!(ran.code == Some(1) && ran.err.contains("no runs in runs/: `train` starts"), "{ran:?}");

    train(&dir, &["--epochs", "2", "--seed", "7"]);
    // File times can have a resolution of some milliseconds.
    sleep(Duration::from_millis(50));
    train(&dir, &["--epochs", "1", "--recipe", "fast", "--run-dir", "runs/recipes/fast-0"]);
    listed(&dir);
    resumed(&dir);
    cleaned(&dir);
}

fn listed(dir: &TestDir) {
    let runs = json(dir, &[]);
    assert_eq!(names(&runs), ["runs/recipes/fast-0", "runs/train"]);
    let results = fs::read_to_string(dir.file("runs/train/results.csv")).unwrap();
    let last: Vec<&str> = results.lines().last().unwrap().split(',').collect();
    let run = &runs[1];
    assert_eq!(run["last"]["accuracy"].as_f64().unwrap(), last[4].parse::<f64>().unwrap());
    assert!(run["best"]["accuracy"].as_f64() >= run["last"]["accuracy"].as_f64());
    assert_eq!((&run["recipe"], &run["options"]["seed"]), (&"tutorial".into(), &7.into()));
    assert_eq!((&run["epochs_done"], &run["finished"]), (&2.into(), &true.into()));
    assert_eq!(runs[0]["recipe"], "fast");
    // The checkpoint has the parameters and a moment for each.
    let bytes = |run: &Value, key: &str| run[key].as_u64().unwrap();
    assert!(bytes(run, "checkpoint_bytes") > 100_000_000);
    assert!(bytes(run, "bytes") > bytes(run, "checkpoint_bytes") + 100_000_000);

    for (key, first) in [("name", "runs/recipes/fast-0"), ("epochs", "runs/train")] {
        assert_eq!(names(&json(dir, &["--sort", key]))[0], first, "{key}");
    }
    fs::create_dir_all(dir.file("runs/broken")).unwrap();
    fs::write(dir.file("runs/broken/args.toml"), "lr = x").unwrap();
    let table = dir.run(&["runs", "--sort", "name"]);
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("run ") && lines[0].ends_with("date"));
    assert!(lines.iter().all(|line| line.chars().count() < 80), "{}", table.out);
    assert!(lines[1].starts_with("recipes/fast-0  fast, "), "{}", table.out);
    assert!(table.err.contains("runs/broken is left out: runs/broken/args.toml is damaged"));
    fs::remove_dir_all(dir.file("runs/broken")).unwrap();
}

fn resumed(dir: &TestDir) {
    // The newest run is that of a folder directly in `runs`.
    let ran = dir.run(&["train", "--resume", "--epochs", "3"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("resuming the newest run, runs/train\n"), "{ran:?}");
    assert!(ran.out.contains("[epoch 3] "), "{ran:?}");
    let ran = dir.run(&["train", "--resume", "runs/train", "--epochs", "3"]);
    assert!(ran.code == Some(0) && !ran.err.contains("newest"), "{ran:?}");
}

fn cleaned(dir: &TestDir) {
    let checkpoint = dir.file("runs/train/checkpoint/checkpoint.safetensors");
    let weights = || fs::read(dir.file("runs/train/weights/best.safetensors")).unwrap();
    let before = weights();
    // A run that stopped after one of three epochs.
    let args = fs::read_to_string(dir.file("runs/train/args.toml")).unwrap();
    let (_, settings) = args.split_once('\n').unwrap();
    let of_more = settings.replace("epochs = 3", "epochs = 5");
    let unsealed = |text: &str| fs::write(dir.file("runs/train/args.toml"), text).unwrap();
    unsealed(&of_more);
    let ran = dir.run(&["runs", "clean", "runs/train"]);
    let left = "runs/train is left as it is: it can be resumed after 3 of 5 epochs; `--unfinished`";
    assert!(ran.code == Some(0) && ran.err.contains(left), "{ran:?}");
    unsealed(settings);
    assert!(dir.succeeds(&["runs", "clean", "--dry-run"]).contains("runs/train: "));
    let lock = Lock::acquire(dir.file("runs/train/.lock")).unwrap();
    let ran = dir.run(&["runs", "clean", "runs/train"]);
    assert!(ran.code == Some(0) && ran.err.contains("it is in use by process "), "{ran:?}");
    assert!(dir.succeeds(&["runs"]).contains("in use"));
    drop(lock);
    assert!(checkpoint.exists());

    let ran = dir.run(&["runs", "clean"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
    assert!(ran.err.contains(" freed in 2 runs"), "{ran:?}");
    assert!(!checkpoint.exists() && weights() == before);
    assert_eq!(json(dir, &["--sort", "epochs"])[0]["checkpoint_bytes"], 0);
    let again = dir.run(&["runs", "clean"]);
    assert!(again.out.is_empty() && again.err.contains("0 MB freed in 0 runs"), "{again:?}");
    let ran = dir.run(&["train", "--resume", "runs/train", "--epochs", "9"]);
    assert!(
        ran.code == Some(1) && ran.err.contains("checkpoint.safetensors is missing"),
        "{ran:?}"
    );
    // `recipes` needs no checkpoint of a finished run.
    fs::rename(dir.file("runs/recipes/fast-0"), dir.file("runs/recipes/fast-4")).unwrap();
    let table = dir.succeeds(&["recipes", "fast", "--seeds", "4", "--data", "flowers"]);
    assert!(table.contains("| `fast` | 1 | "), "{table}");
}
