//! `doctor`: its report about the machine.

use std::fs;

use serde_json::Value;

use crate::{Ran, TestDir};

/// Runs `doctor` with an empty cache folder.
fn doctor(dir: &TestDir, args: &[&str], variables: &[(&str, &str)]) -> String {
    let args = [&["doctor"], args].concat();
    let mut command = dir.command(&args);
    for name in ["LIBTORCH", "LIBTORCH_USE_PYTORCH"] {
        command.env_remove(name);
    }
    for name in ["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"] {
        command.env(name, dir.path());
    }
    let ran = Ran::from(command.envs(variables.iter().copied()).output().unwrap(), &args);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    ran.out
}

/// Returns the line of a finding.
fn line<'a>(out: &'a str, name: &str) -> &'a str {
    out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {out}"))
}

#[test]
fn missing_parts_are_printed_with_the_command_that_fixes_them_and_are_not_errors() {
    let dir = TestDir::new();
    let out = doctor(&dir, &[], &[]);
    assert!(
        line(&out, "engine cpu").contains(" ok ") && line(&out, "engine cpu").contains("cpu"),
        "{out}"
    );
    for (name, command) in [
        ("libtorch", "`cargo xtask libtorch`"),
        ("flower photos", "`cargo xtask data fetch`"),
        ("drawn flowers", "`cargo xtask train`"),
        ("weights", "run `train` first"),
    ] {
        assert!(line(&out, name).contains(" missing "), "{out}");
        assert!(line(&out, name).contains(command), "{out}");
    }
    assert!(dir.names().is_empty(), "doctor must not write files");
}

#[test]
fn existing_parts_are_printed_with_their_paths() {
    let dir = TestDir::new();
    dir.succeeds(&["data", "synth", "--out", "data/flower_photos", "--per-class", "2"]);
    fs::create_dir_all(dir.file("runs/train/weights")).unwrap();
    dir.save_fresh_weights("runs/train/weights/best.safetensors");
    let out = doctor(&dir, &[], &[]);
    assert!(line(&out, "flower photos").contains(" ok       10 images of 5 classes in "), "{out}");
    assert!(line(&out, "weights").contains("best.safetensors"), "{out}");
}

#[test]
fn a_variable_with_a_missing_folder_is_named() {
    let out = doctor(&TestDir::new(), &[], &[("LIBTORCH", "/nowhere")]);
    assert!(line(&out, "libtorch").contains("LIBTORCH is /nowhere, which cannot be used"), "{out}");
}

#[test]
fn the_report_is_printed_as_json() {
    let out = doctor(&TestDir::new(), &["--format", "json"], &[]);
    let findings: Vec<Value> = serde_json::from_str(&out).unwrap();
    let of = |name: &str| findings.iter().find(|finding| finding["name"] == name).unwrap();
    assert_eq!(of("engine cpu")["state"], "ok");
    assert_eq!(of("libtorch")["state"], "missing");
    assert!(of("processor")["detail"].as_str().unwrap().contains("core"));
}
