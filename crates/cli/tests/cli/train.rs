//! What training refuses: the cause, the next step, and nothing left behind.

use std::fs;

use crate::{CLASSES, Place};

#[test]
fn a_value_that_makes_no_sense_is_a_usage_error() {
    let place = Place::new();
    for (option, value) in [
        ("--lr", "nan"),
        ("--lr", "0"),
        ("--epochs", "0"),
        ("--batch-size", "0"),
        ("--val-fraction", "1"),
        ("--checkpoint-every", "0"),
        ("--workers", "0"),
        ("--variant", "vgg"),
        ("--device", "gpu"),
    ] {
        let ran = place.run(&["train", option, value]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.err.contains(option) && ran.err.contains(&format!("'{value}'")), "{ran:?}");
    }
    let ran = place.run(&["train", "--resume", "runs/train", "--lr", "0.1"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn what_cannot_begin_leaves_nothing() {
    let place = Place::with_flowers(2);
    place.save_fresh_weights("five.safetensors");
    let copy = |from: &str, to: &str| {
        fs::create_dir_all(place.file(to)).unwrap();
        for entry in fs::read_dir(place.file(from)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), place.file(to).join(entry.file_name())).unwrap();
        }
    };
    for class in CLASSES {
        copy(&format!("flowers/{class}"), &format!("broken/{class}"));
    }
    fs::write(place.file("broken/roses/roses_0002.jpg"), "words").unwrap();
    fs::write(place.file("broken/roses/roses_0001.jpg"), "words").unwrap();
    copy("flowers/daisy", "one/daisy");
    copy("flowers/daisy", "bare/daisy");
    fs::create_dir_all(place.file("bare/roses")).unwrap();
    fs::create_dir_all(place.file("void")).unwrap();
    fs::write(place.file("plain"), "").unwrap();
    fs::write(place.file("words.tgz"), "words").unwrap();
    let before = place.names();

    for (args, cause, step) in [
        ("--data none", "nothing at none", "name a folder, a .tgz"),
        ("--data void", "void is not a data set: it has no class folder", "needs a folder"),
        ("--data bare", "no image in the class folder roses", "the extensions of images are .jpg"),
        ("--data one", "one class, `daisy`", "at least two are needed"),
        ("--data flowers --val-fraction 0.1", "no image to validate with", "raise `--val-fraction`"),
        ("--data broken", "broken/roses/roses_000", "`--on-bad-image skip`"),
        ("--data words.tgz", "words.tgz was not unpacked", ".tgz"),
        ("--data flowers --run-dir plain/run", "cannot create plain/run", "with `--run-dir`"),
        (
            "--data flowers --weights five.safetensors --variant original",
            "five.safetensors holds `tutorial`",
            "add `--variant tutorial`",
        ),
        ("--data flowers --weights none", "none is not a weights file", "name another file"),
        ("--data flowers --device cuda", "no device `cuda:0`", "it has: cpu"),
        ("--resume flowers", "flowers is not a run folder", "such as runs/train"),
        ("--resume none", "none is not a run folder", "such as runs/train"),
    ] {
        let mut line = vec!["train"];
        if args.starts_with("--data") && !args.contains("--val-fraction") {
            line.extend(["--val-fraction", "0.5"]);
        }
        line.extend(args.split(' '));
        let ran = place.run(&line);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{args:?}: {ran:?}");
        assert!(ran.err.contains(cause) && ran.err.contains(step), "{args:?}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{args:?}: {}", ran.err);
        assert!(ran.err.matches("(os error").count() < 2, "said twice: {}", ran.err);
        let mut left = place.names();
        // Where archives are unpacked, with a lock file.
        left.retain(|name| name != "data");
        assert_eq!(left, before, "{args:?}");
    }
    assert!(place.run(&["train", "--data", "words.tgz"]).err.contains("words.tgz was not unpacked"));
    assert!(!place.file("data/words").exists());
}

#[test]
fn a_bad_image_can_be_left_out_and_a_run_is_not_overwritten() {
    let place = Place::with_flowers(2);
    for name in ["roses_0001.jpg", "roses_0002.jpg"] {
        let image = place.file("flowers/roses").join(name);
        fs::copy(&image, place.file("flowers/roses").join(format!("copy_of_{name}"))).unwrap();
    }
    let split: [&str; 4] = ["--data", "flowers", "--copy", "split"];
    place.succeeds(&[&["data", "split", "--val-fraction", "0.5"], &split[..]].concat());
    fs::write(place.file("split/train/tulips/bad.jpg"), "words").unwrap();
    let args = ["train", "--data", "split", "--epochs", "1", "--run-dir", "run"];

    let ran = place.run(&[&args[..], &["--on-bad-image", "skip"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.out.starts_with("using 7 images for training, 6 images for validation.\n[epoch 1] "),
        "{ran:?}"
    );
    assert!(ran.out.contains("\nFinished Training\nbest: epoch 1, "), "{ran:?}");
    let told: Vec<&str> = ran.err.lines().filter(|line| line.starts_with("left out: ")).collect();
    assert!(told.len() == 1 && told[0].contains("tulips/bad.jpg: it is not a JPEG"), "{told:?}");
    for name in [
        "args.toml",
        "environment.json",
        "split.json",
        "class_indices.json",
        "results.csv",
        "results.png",
        "confusion_matrix.png",
        "confusion_matrix_normalized.png",
        "calibration.png",
        "report.json",
        "misclassified.csv",
        "train_batch0.jpg",
        "val_batch0_pred.jpg",
        "weights/best.safetensors",
        "weights/last.safetensors",
        "checkpoint/checkpoint.safetensors",
    ] {
        assert!(place.file("run").join(name).is_file(), "{name}");
    }

    let again = place.run(&[&args[..], &["--on-bad-image", "skip"]].concat());
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("`--resume run`"), "{again:?}");

    // Looking at a run leaves alone what its writer may be writing.
    let writing = place.file("run/weights/.last.safetensors.tmp-1-x");
    fs::write(&writing, "half").unwrap();
    let json = place.succeeds(&["evaluate", "--weights", "run/weights/best.safetensors", "--format", "json"]);
    assert!(writing.exists());
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rows = report["confusion"].as_array().unwrap();
    assert_eq!((&report["images"], rows.len()), (&6.into(), CLASSES.len()));
    assert_eq!(report["per_class"][2]["class"], "roses");
    assert_eq!(report["per_class"][2]["support"], 2);
}
