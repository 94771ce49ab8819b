//! Training without validation images, and on the folds of a cross-validation.
#![cfg(unix)]

use std::fs;

use crate::{TestDir, resume::Outcome};

const TRAIN: [&str; 7] = ["train", "--data", "flowers", "-b", "10", "--epochs", "2"];

#[test]
fn without_validation_the_last_weights_are_the_best() {
    let dir = TestDir::with_flowers(4);
    let train = |run, more: &[&str]| {
        dir.run(&[&TRAIN[..], &["--val-fraction", "0", "--run-dir", run], more].concat())
    };
    let refused = train("run", &["--patience", "3"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("`--patience` cannot be 3: there are no validation images"),
        "{refused:?}"
    );

    let whole = train("run", &[]);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    let lines: Vec<&str> = whole.out.lines().collect();
    let first = "using 20 images for training, none for validation; the last weights are the best.";
    assert_eq!(lines[0], first);
    assert!(lines[1].starts_with("[epoch 1] train_loss: ") && !lines[1].contains("val_"));
    let last = "best: epoch 2, the last, without validation, run/weights/best.safetensors";
    assert_eq!(lines[4], last);
    let file = |run: &str, name: &str| dir.file(run).join(name);
    let weights = |run, name: &str| fs::read(file(run, &format!("weights/{name}.safetensors")));
    assert!(weights("run", "best").unwrap() == weights("run", "last").unwrap());
    for name in ["report.json", "confusion_matrix.png", "calibration.png", "val_batch0_pred.jpg"] {
        assert!(!file("run", name).exists(), "{name}");
    }
    assert!(file("run", "results.png").is_file() && file("run", "train_batch0.jpg").is_file());
    let results = fs::read_to_string(file("run", "results.csv")).unwrap();
    for row in results.lines().skip(1) {
        assert!(row.contains(",,,"), "{row}");
    }

    // A run of one epoch that is continued.
    let mut stopped = TRAIN;
    stopped[6] = "1";
    dir.succeeds(&[&stopped[..], &["--val-fraction", "0", "--run-dir", "short"]].concat());
    dir.succeeds(&["train", "--resume", "short", "--epochs", "2"]);
    Outcome::of(&dir.file("short")).assert_same(&Outcome::of(&dir.file("run")), "resumed");

    // Its own images, also from elsewhere.
    let note = "the run has no validation images; its training images are evaluated";
    for data in [&[][..], &["--data", "flowers"]] {
        let evaluated = dir.run(&[&["evaluate", "--weights", "run"][..], data].concat());
        assert_eq!(evaluated.code, Some(0), "{evaluated:?}");
        assert!(evaluated.out.starts_with("images 20 "), "{evaluated:?}");
        assert!(evaluated.err.contains(note), "{evaluated:?}");
    }
    let ran = dir.run(&["evaluate", "--weights", "run", "--split", "val"]);
    assert!(ran.code == Some(1) && ran.err.contains("the run has no validation images"), "{ran:?}");

    let ran =
        dir.run(&["data", "split", "--data", "flowers", "--copy", "x", "--val-fraction", "0"]);
    assert!(ran.code == Some(1) && ran.err.contains("no image to validate with"), "{ran:?}");
}

#[test]
fn every_image_validates_in_one_fold_and_the_fold_is_kept() {
    let dir = TestDir::with_flowers(4);
    let train = |fold: &str, run: &str| {
        dir.run(&[&TRAIN[..5], &["--epochs", "1", "--fold", fold, "--run-dir", run]].concat())
    };
    let mut validated = Vec::new();
    for fold in 1..=3 {
        let (fold, run) = (format!("{fold}/3"), format!("fold{fold}"));
        let ran = train(&fold, &run);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.lines().next().unwrap().ends_with(&format!(", fold {fold}.")), "{ran:?}");
        let split = fs::read_to_string(dir.file(&run).join("split.json")).unwrap();
        let split: serde_json::Value = serde_json::from_str(&split).unwrap();
        let images = split["val"].as_array().unwrap();
        assert!([6, 7].contains(&images.len()), "{}", images.len());
        validated.extend(images.iter().map(|image| image["path"].as_str().unwrap().to_owned()));
        let args = fs::read_to_string(dir.file(&run).join("args.toml")).unwrap();
        assert!(args.contains(&format!("fold = \"{fold}\"")), "{args}");
    }
    validated.sort_unstable();
    validated.dedup();
    assert_eq!(validated.len(), 20);

    // Resumed, with the same split; and again from its own options.
    let before = fs::read(dir.file("fold2/split.json")).unwrap();
    let resumed = dir.run(&["train", "--resume", "fold2", "--epochs", "2"]);
    assert!(resumed.code == Some(0) && resumed.out.contains(", fold 2/3."), "{resumed:?}");
    dir.succeeds(&["train", "--config", "fold2/args.toml", "--epochs", "1", "--run-dir", "again"]);
    for run in ["fold2", "again"] {
        assert!(fs::read(dir.file(run).join("split.json")).unwrap() == before, "{run}");
    }

    let ran = train("4/3", "bad");
    assert!(ran.code == Some(2) && ran.err.contains("such as 2/5"), "{ran:?}");
    let ran = train("1/30", "bad");
    assert!(ran.code == Some(1) && ran.err.contains("fewer images than folds"), "{ran:?}");
    assert!(!dir.file("bad").exists());
}
