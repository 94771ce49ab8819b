//! A failing disk, kills and mutated options, through the binary. `ALEXNET_TORTURE=10` tries ten times as much, `cargo xtask
//! torture` as much as time allows.
#![cfg(unix)]

use std::path::Path;

use alexnet_torture::{
    campaign::Campaign,
    disk::{Disk, Fault, few},
    factor, targets,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_alexnet");

#[test]
fn a_run_on_a_disk_that_fails_goes_on_to_the_same_bytes() {
    if !Disk::has_strace() {
        println!("skipped: no strace");
        return;
    }
    let disk = Disk::new(Path::new(PROGRAM)).unwrap();
    let points = few(&disk.points().unwrap());
    for file in
        ["args.toml", "split.json", "results.csv", "weights/best.safetensors", "weights/last.safetensors"]
    {
        assert!(points.iter().any(|point| point.file == file), "{file} is not written: {points:?}");
    }
    let t = std::time::Instant::now();
    let trials = 12 * factor();
    for trial in 0..trials {
        // Evenly spread over the run.
        let point = &points[(2 * trial + 1) * points.len() / (2 * trials) % points.len()];
        let fault = [Fault::Error("ENOSPC"), Fault::Kill, Fault::Error("EIO"), Fault::Kill][trial % 4];
        let r = disk.trial(point, fault, "run");
        println!("{:?} {point:?} {fault:?} {r:?}", t.elapsed());
    }
}
