//! The engine is chosen at run time and can be changed when a run is resumed.

use std::fs;

use crate::{TestDir, resume::EVERYTHING};

const TRAIN: [&str; 9] =
    ["train", "--data", "flowers", "-b", "4", "--val-fraction", "0.25", "--seed", "7"];

/// The engines in this binary.
const ENGINES: &[&str] =
    if cfg!(feature = "tch") { &["cpu", "candle", "tch"] } else { &["cpu", "candle"] };

/// Returns the training and validation loss of each epoch.
fn losses(dir: &TestDir, run: &str) -> Vec<[f64; 2]> {
    let results = fs::read_to_string(dir.file(run).join("results.csv")).unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        [fields[2], fields[3]].map(|field| field.parse().unwrap())
    };
    results.lines().skip(1).map(row).collect()
}

#[test]
fn a_run_can_be_resumed_on_another_engine() {
    let dir = TestDir::with_flowers(4);
    let epochs = ENGINES.len().to_string();
    dir.succeeds(&[&TRAIN[..], &["--epochs", &epochs, "--run-dir", "one"]].concat());

    dir.succeeds(&[&TRAIN[..], &["--epochs", "1", "--run-dir", "all"]].concat());
    for (done, engine) in ENGINES.iter().enumerate().skip(1) {
        let epochs = (done + 1).to_string();
        dir.succeeds(&["train", "--resume", "all", "--backend", engine, "--epochs", &epochs]);
    }
    let (one, all) = (losses(&dir, "one"), losses(&dir, "all"));
    assert_eq!((one.len(), all.len()), (ENGINES.len(), ENGINES.len()));
    assert_eq!(one[0], all[0], "both runs start on the same engine");
    for (one, all) in one.iter().flatten().zip(all.iter().flatten()) {
        assert!((one - all).abs() <= 2e-3 * one, "{one} and {all}");
    }
    let last = |run: &str| fs::read(dir.file(run).join("weights/last.safetensors")).unwrap();
    assert!(last("one") != last("all"), "the other engines were not used: they round differently");
}

#[test]
fn a_run_is_resumed_on_its_engine_by_default() {
    let dir = TestDir::with_flowers(4);
    let args = || fs::read_to_string(dir.file("run/args.toml")).unwrap();
    dir.succeeds(
        &[&TRAIN[..], &["--epochs", "1", "--run-dir", "run", "--backend", "candle"]].concat(),
    );
    assert!(args().contains("backend = \"candle\"\ndevice = \"cpu\"\n"), "{}", args());
    dir.succeeds(&["train", "--resume", "run", "--epochs", "2"]);
    assert!(args().contains("backend = \"candle\""), "{}", args());
    let to_bf16 = ["--epochs", "3", "--backend", "cpu", "--precision", "bf16"];
    dir.succeeds(&[&["train", "--resume", "run"][..], &to_bf16].concat());
    assert!(args().contains("backend = \"cpu\""), "{}", args());
    // The precision is kept, or the run is refused.
    let ran = dir.run(&["train", "--resume", "run", "--epochs", "4", "--backend", "candle"]);
    assert!(ran.code == Some(1) && ran.err.contains("computes in f32 only"), "{ran:?}");
    let resume = ["train", "--resume", "run", "--epochs", "4", "--backend"];
    if ENGINES.contains(&"tch") {
        dir.succeeds(&[&resume[..], &["tch"]].concat());
        assert!(args().contains("precision = \"bf16\""), "{}", args());
    }
    dir.succeeds(&[&resume[..], &["candle", "--precision", "f32"]].concat());
    assert!(!args().contains("bf16"), "{}", args());
}

#[test]
fn engines_give_the_same_answers() {
    // Of ten images per class, one is for validation.
    let dir = TestDir::with_flowers(10);
    dir.save_fresh_weights("fresh.safetensors");
    let parity = [
        "parity",
        "--weights",
        "fresh.safetensors",
        "--data",
        "flowers",
        "-b",
        "4",
        "--format",
        "json",
    ];
    let report: serde_json::Value = serde_json::from_str(&dir.succeeds(&parity)).unwrap();
    let engines: Vec<&str> = report["training"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["engine"].as_str().unwrap())
        .collect();
    assert_eq!(engines, ENGINES);
    assert_eq!(report["pairs"].as_array().unwrap().len(), ENGINES.len() * (ENGINES.len() - 1) / 2);
    let plain = &report["training"][0]["losses"];

    // Also with every option.
    fs::write(dir.file("everything.toml"), EVERYTHING).unwrap();
    let all = dir.succeeds(&[&parity[..], &["--config", "everything.toml"]].concat());
    let report: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert!(report["training"][0]["losses"] != *plain);
}

#[test]
fn a_missing_engine_or_device_is_named() {
    let dir = TestDir::new();
    dir.save_fresh_weights("fresh.safetensors");
    let ask = |more: &[&str]| {
        let ran = dir.run(&[&["evaluate", "--weights", "fresh.safetensors"], more].concat());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        ran.err
    };
    for engine in ENGINES {
        let output = ask(&["--backend", engine, "--device", "cuda:7"]);
        assert!(
            output.contains(&format!("the engine `{engine}` has no device `cuda:7` here")),
            "{output}"
        );
    }
    let output = ask(&["--backend", "candle", "--precision", "bf16"]);
    assert!(
        output.contains("`candle` computes in f32 only; `cpu` and `tch` have bf16; use `--prec"),
        "{output}"
    );
    let output = ask(&["--backend", "candle", "--isa", "portable"]);
    assert!(output.contains("not for `candle`; leave `--isa` and"), "{output}");
    if cfg!(not(feature = "tch")) {
        let output = ask(&["--backend", "tch"]);
        assert!(output.contains("this build lacks the engine `tch`"), "{output}");
        assert!(output.contains("`cargo xtask train --backend tch`"), "{output}");
    }
}

#[cfg(all(unix, not(feature = "tch")))]
#[test]
fn a_command_that_needs_libtorch_starts_the_binary_that_has_it() {
    use std::{os::unix::fs::PermissionsExt, process::Command};

    let dir = TestDir::new();
    let [alexnet, tch] = ["alexnet", "alexnet-tch"].map(|name| dir.file(name));
    fs::copy(env!("CARGO_BIN_EXE_alexnet"), &alexnet).unwrap();
    let ask = |backend: &str| {
        let mut command = Command::new(&alexnet);
        let output =
            command.args(["bench", "--steps", "1", "--backend", backend]).output().unwrap();
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
    };
    fs::write(&tch, "#!/bin/sh\necho started: \"$@\"\n").unwrap();
    fs::set_permissions(&tch, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ask("tch"), "started: bench --steps 1 --backend tch\n");
    assert!(!ask("candle").contains("started"));
    // A copy of the same binary must not start itself forever.
    fs::copy(&alexnet, &tch).unwrap();
    assert!(ask("tch").contains("this build lacks the engine `tch`"));
}
