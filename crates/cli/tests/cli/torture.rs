//! Tests of the binary with disk errors, kills and mutated files. `ALEXNET_TORTURE=10` makes ten
//! times as many trials; `cargo xtask torture` runs for a given time.
#![cfg(unix)]

use std::path::Path;

use alexnet_torture::{
    campaign::Campaign,
    disk::{Disk, Fault, few},
    factor,
    predict::{FORMATS, Predict},
    targets,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const PROGRAM: &str = env!("CARGO_BIN_EXE_alexnet");

#[test]
fn a_run_on_a_failing_disk_resumes_to_the_same_bytes() {
    if !Disk::has_strace() {
        println!("skipped: no strace");
        return;
    }
    let disk = Disk::new(Path::new(PROGRAM)).unwrap();
    let points = few(&disk.points().unwrap());
    for file in [
        "args.toml",
        "split.json",
        "results.csv",
        "weights/best.safetensors",
        "weights/last.safetensors",
    ] {
        assert!(points.iter().any(|point| point.file == file), "{file} is not written: {points:?}");
    }
    let trials = 12 * factor();
    for trial in 0..trials {
        // Distributed evenly over the run.
        let point = &points[(2 * trial + 1) * points.len() / (2 * trials)];
        let fault =
            [Fault::Error("ENOSPC"), Fault::Kill, Fault::Error("EIO"), Fault::Kill][trial % 4];
        let recovery = disk.trial(point, fault, "run").unwrap();
        println!("{point:?}, {fault:?}: {recovery:?}");
    }
}

#[test]
fn a_run_that_is_killed_at_any_instant_goes_on_to_the_same_bytes() {
    let disk = Disk::new(Path::new(PROGRAM)).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..factor() {
        let killed = disk.kills(4, &mut rng, "run").unwrap();
        println!("killed {killed} times");
    }
}

#[test]
fn mutated_options_give_an_error() {
    let target = targets::named("config").unwrap();
    let mut campaign = Campaign::new(&target, 0, Some(PROGRAM.into()), None);
    campaign.seeds();
    assert_eq!(campaign.report.read as usize, target.seeds.len(), "{:?}", campaign.report);
    for _ in 0..target.few * factor() {
        campaign.step();
    }
    let report = campaign.report;
    assert!(report.faults.is_empty() && report.kinds > 3, "{report:#?}");
}

#[test]
fn each_image_among_damaged_ones_gets_a_result() {
    let mut formats = targets::all();
    formats.retain(|target| FORMATS.contains(&target.name));
    let predict = Predict::new(Path::new(PROGRAM)).unwrap();
    let answers = predict.round(&formats, 300 * factor(), 0, 2048).unwrap();
    assert!(answers.read > 50 && answers.refused > 50, "{answers:?}");
}
