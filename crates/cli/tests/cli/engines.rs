//! The engine is a choice at run time, and a choice that can change in the middle of a run.

use std::fs;

use crate::{Place, resume::EVERYTHING};

const TRAIN: [&str; 9] = ["train", "--data", "flowers", "-b", "4", "--val-fraction", "0.25", "--seed", "7"];

/// The engines in this binary.
const ENGINES: &[&str] = if cfg!(feature = "tch") { &["cpu", "candle", "tch"] } else { &["cpu", "candle"] };

/// Training and validation losses by epoch.
fn losses(place: &Place, run: &str) -> Vec<[f64; 2]> {
    let results = fs::read_to_string(place.file(run).join("results.csv")).unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        [fields[2], fields[3]].map(|field| field.parse().unwrap())
    };
    results.lines().skip(1).map(row).collect()
}

#[test]
fn a_run_goes_on_with_another_engine() {
    let place = Place::with_flowers(4);
    let epochs = ENGINES.len().to_string();
    place.succeeds(&[&TRAIN[..], &["--epochs", &epochs, "--run-dir", "one"]].concat());

    place.succeeds(&[&TRAIN[..], &["--epochs", "1", "--run-dir", "all"]].concat());
    for (done, engine) in ENGINES.iter().enumerate().skip(1) {
        let epochs = (done + 1).to_string();
        place.succeeds(&["train", "--resume", "all", "--backend", engine, "--epochs", &epochs]);
    }
    let (one, all) = (losses(&place, "one"), losses(&place, "all"));
    assert_eq!((one.len(), all.len()), (ENGINES.len(), ENGINES.len()));
    assert_eq!(one[0], all[0], "the first epoch is of the same engine");
    for (one, all) in one.iter().flatten().zip(all.iter().flatten()) {
        assert!((one - all).abs() <= 2e-3 * one, "{one} and {all}");
    }
    let last = |run: &str| fs::read(place.file(run).join("weights/last.safetensors")).unwrap();
    assert!(last("one") != last("all"), "another engine rounds differently");
}

#[test]
fn a_run_resumes_on_the_engine_it_was_on() {
    let place = Place::with_flowers(4);
    let args = || fs::read_to_string(place.file("run/args.toml")).unwrap();
    place.succeeds(&[&TRAIN[..], &["--epochs", "1", "--run-dir", "run", "--backend", "candle"]].concat());
    assert!(args().contains("backend = \"candle\"\ndevice = \"cpu\"\n"), "{}", args());
    place.succeeds(&["train", "--resume", "run", "--epochs", "2"]);
    assert!(args().contains("backend = \"candle\""), "{}", args());
    place.succeeds(&["train", "--resume", "run", "--epochs", "3", "--backend", "cpu"]);
    assert!(args().contains("backend = \"cpu\""), "{}", args());
}

#[test]
fn engines_give_the_same_answers() {
    // Ten a class leave one to validate with.
    let place = Place::with_flowers(10);
    place.save_fresh_weights("fresh.safetensors");
    let parity =
        ["parity", "--weights", "fresh.safetensors", "--data", "flowers", "-b", "4", "--format", "json"];
    let report: serde_json::Value = serde_json::from_str(&place.succeeds(&parity)).unwrap();
    let engines: Vec<&str> =
        report["training"].as_array().unwrap().iter().map(|row| row["engine"].as_str().unwrap()).collect();
    assert_eq!(engines, ENGINES);
    assert_eq!(report["pairs"].as_array().unwrap().len(), ENGINES.len() * (ENGINES.len() - 1) / 2);
    let plain = &report["training"][0]["losses"];

    // And the same losses with every option on.
    fs::write(place.file("everything.toml"), EVERYTHING).unwrap();
    let all = place.succeeds(&[&parity[..], &["--config", "everything.toml"]].concat());
    let report: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert!(report["training"][0]["losses"] != *plain);
}

#[test]
fn an_engine_or_a_device_that_is_not_here_is_named() {
    let place = Place::new();
    place.save_fresh_weights("fresh.safetensors");
    let ask = |more: &[&str]| {
        let ran = place.run(&[&["evaluate", "--weights", "fresh.safetensors"], more].concat());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        ran.err
    };
    for engine in ENGINES {
        let said = ask(&["--backend", engine, "--device", "cuda:7"]);
        assert!(said.contains(&format!("the engine `{engine}` has no device `cuda:7` here")), "{said}");
    }
    if cfg!(not(feature = "tch")) {
        let said = ask(&["--backend", "tch"]);
        assert!(said.contains("this binary was built without the engine `tch`"), "{said}");
        assert!(said.contains("`cargo xtask train --backend tch`"), "{said}");
    }
}

#[cfg(all(unix, not(feature = "tch")))]
#[test]
fn a_command_that_needs_libtorch_is_handed_to_the_binary_that_has_it() {
    use std::{os::unix::fs::PermissionsExt, process::Command};

    let place = Place::new();
    let [alexnet, tch] = ["alexnet", "alexnet-tch"].map(|name| place.file(name));
    fs::copy(env!("CARGO_BIN_EXE_alexnet"), &alexnet).unwrap();
    let ask = |backend: &str| {
        let mut command = Command::new(&alexnet);
        let output = command.args(["bench", "--steps", "1", "--backend", backend]).output().unwrap();
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
    };
    fs::write(&tch, "#!/bin/sh\necho handed on: \"$@\"\n").unwrap();
    fs::set_permissions(&tch, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ask("tch"), "handed on: bench --steps 1 --backend tch\n");
    assert!(!ask("candle").contains("handed on"));
    // A copy of the same binary must not start itself for ever.
    fs::copy(&alexnet, &tch).unwrap();
    assert!(ask("tch").contains("this binary was built without the engine `tch`"));
}
