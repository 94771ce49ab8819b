//! What a user is told about the machine.

use std::fs;

use serde_json::Value;

use crate::{Place, Ran};

/// Runs `doctor` in a place whose user has an empty cache folder.
fn doctor(place: &Place, args: &[&str], variables: &[(&str, &str)]) -> String {
    let args = [&["doctor"], args].concat();
    let mut command = place.command(&args);
    for name in ["LIBTORCH", "LIBTORCH_USE_PYTORCH"] {
        command.env_remove(name);
    }
    for name in ["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"] {
        command.env(name, place.path());
    }
    let ran = Ran::from(command.envs(variables.iter().copied()).output().unwrap(), &args);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    ran.out
}

/// The line of one thing.
fn line<'a>(out: &'a str, name: &str) -> &'a str {
    out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {out}"))
}

#[test]
fn what_is_missing_comes_with_the_command_that_mends_it_and_is_no_failure() {
    let place = Place::new();
    let out = doctor(&place, &[], &[]);
    assert!(line(&out, "engine cpu").contains(" ok ") && line(&out, "engine cpu").contains("cpu"), "{out}");
    for (name, command) in [
        ("libtorch", "`cargo xtask libtorch`"),
        ("flower photos", "`cargo xtask data fetch`"),
        ("drawn flowers", "`cargo xtask train`"),
        ("weights", "run `train` first"),
    ] {
        assert!(line(&out, name).contains(" missing "), "{out}");
        assert!(line(&out, name).contains(command), "{out}");
    }
    assert!(place.names().is_empty(), "it only looks");
}

#[test]
fn what_is_there_is_told_with_its_place() {
    let place = Place::new();
    place.succeeds(&["data", "synth", "--out", "data/flower_photos", "--per-class", "2"]);
    fs::create_dir_all(place.file("runs/train/weights")).unwrap();
    place.save_fresh_weights("runs/train/weights/best.safetensors");
    let out = doctor(&place, &[], &[]);
    assert!(line(&out, "flower photos").contains(" ok       10 images of 5 classes in "), "{out}");
    assert!(line(&out, "weights").contains("best.safetensors"), "{out}");
}

#[test]
fn a_variable_that_leads_nowhere_is_named() {
    let out = doctor(&Place::new(), &[], &[("LIBTORCH", "/nowhere")]);
    assert!(line(&out, "libtorch").contains("LIBTORCH is /nowhere, which cannot be used"), "{out}");
}

#[test]
fn a_program_can_read_it() {
    let out = doctor(&Place::new(), &["--format", "json"], &[]);
    let findings: Vec<Value> = serde_json::from_str(&out).unwrap();
    let of = |name: &str| findings.iter().find(|finding| finding["name"] == name).unwrap();
    assert_eq!(of("engine cpu")["state"], "ok");
    assert_eq!(of("libtorch")["state"], "missing");
    assert!(of("processor")["detail"].as_str().unwrap().contains("core"));
}
