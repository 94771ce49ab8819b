//! Tests with the flower photos. They are skipped unless the environment variable
//! `ALEXNET_FLOWER_PHOTOS` names their archive.

use std::{env, fs};

use serde_json::Value;

use crate::{CLASSES, TestDir};

/// Validation images per class: a tenth of each class, rounded down, as in the tutorial's script.
const VALIDATION: [usize; 5] = [63, 89, 64, 69, 79];

#[test]
fn the_flower_photos_are_split_and_evaluated() {
    let Ok(archive) = env::var("ALEXNET_FLOWER_PHOTOS") else {
        eprintln!("skipped: no photos");
        return;
    };
    let dir = TestDir::new();
    let output = dir.succeeds(&["data", "split", "--data", &archive, "--copy", "split"]);
    assert!(
        output.starts_with("3306 images for training, 364 images for validation in split\n"),
        "{output}"
    );
    let count = |part: &str, class: &str| {
        fs::read_dir(dir.file("split").join(part).join(class)).unwrap().count()
    };
    assert_eq!(CLASSES.map(|class| count("val", class)), VALIDATION);
    assert_eq!(CLASSES.map(|class| count("train", class)).iter().sum::<usize>(), 3306);

    dir.save_fresh_weights("weights.safetensors");
    let evaluate =
        ["evaluate", "--weights", "weights.safetensors", "--data", "split", "--format", "json"];
    let report: Value = serde_json::from_str(&dir.succeeds(&evaluate)).unwrap();
    assert_eq!(report["images"], 364);
    let support: Vec<&Value> =
        report["per_class"].as_array().unwrap().iter().map(|class| &class["support"]).collect();
    assert_eq!(support, VALIDATION.map(Value::from).iter().collect::<Vec<_>>());
    // An untrained network predicts all five classes with about the same probability, so the loss
    // is about ln 5.
    let loss = report["loss"].as_f64().unwrap();
    assert!((loss - 5f64.ln()).abs() < 0.05, "{loss}");
}
