//! Errors of `train`: the message names the cause and the next step, and no files are left behind.

use std::fs;

use crate::{CLASSES, TestDir};

#[test]
fn an_invalid_value_is_a_usage_error() {
    let dir = TestDir::new();
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
        let ran = dir.run(&["train", option, value]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.err.contains(option) && ran.err.contains(&format!("'{value}'")), "{ran:?}");
    }
    let ran = dir.run(&["train", "--resume", "runs/train", "--lr", "0.1"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(dir.names(), [""; 0]);
}

#[test]
fn a_run_that_cannot_start_leaves_no_files() {
    let dir = TestDir::with_flowers(2);
    dir.save_fresh_weights("five.safetensors");
    let copy = |from: &str, to: &str| {
        fs::create_dir_all(dir.file(to)).unwrap();
        for entry in fs::read_dir(dir.file(from)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.file(to).join(entry.file_name())).unwrap();
        }
    };
    for class in CLASSES {
        copy(&format!("flowers/{class}"), &format!("broken/{class}"));
    }
    fs::write(dir.file("broken/roses/roses_0002.jpg"), "words").unwrap();
    fs::write(dir.file("broken/roses/roses_0001.jpg"), "words").unwrap();
    copy("flowers/daisy", "one/daisy");
    copy("flowers/daisy", "bare/daisy");
    fs::create_dir_all(dir.file("bare/roses")).unwrap();
    fs::create_dir_all(dir.file("void")).unwrap();
    fs::write(dir.file("plain"), "").unwrap();
    fs::write(dir.file("words.tgz"), "words").unwrap();
    let before = dir.names();

    for (args, cause, step) in [
        ("--data none", "nothing at none", "name a folder, a .tgz"),
        ("--data void", "void is not a data set: it has no class folder", "needs a folder"),
        ("--data bare", "no image in the class folder roses", "the extensions of images are .jpg"),
        ("--data one", "one class, `daisy`", "at least two are needed"),
        (
            "--data flowers --val-fraction 0.1",
            "no image to validate with",
            "raise `--val-fraction`",
        ),
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
        let ran = dir.run(&line);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{args:?}: {ran:?}");
        assert!(ran.err.contains(cause) && ran.err.contains(step), "{args:?}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{args:?}: {}", ran.err);
        assert!(ran.err.matches("(os error").count() < 2, "repeated: {}", ran.err);
        let mut left = dir.names();
        // The folder into which archives are unpacked, which has a lock file.
        left.retain(|name| name != "data");
        assert_eq!(left, before, "{args:?}");
    }
    assert!(dir.run(&["train", "--data", "words.tgz"]).err.contains("words.tgz was not unpacked"));
    assert!(!dir.file("data/words").exists());
}

#[test]
fn a_bad_image_can_be_left_out_and_a_run_is_not_overwritten() {
    let dir = TestDir::with_flowers(2);
    for name in ["roses_0001.jpg", "roses_0002.jpg"] {
        let image = dir.file("flowers/roses").join(name);
        fs::copy(&image, dir.file("flowers/roses").join(format!("copy_of_{name}"))).unwrap();
    }
    let split: [&str; 4] = ["--data", "flowers", "--copy", "split"];
    dir.succeeds(&[&["data", "split", "--val-fraction", "0.5"], &split[..]].concat());
    fs::write(dir.file("split/train/tulips/bad.jpg"), "words").unwrap();
    let args = ["train", "--data", "split", "--epochs", "1", "--run-dir", "run"];

    let ran = dir.run(&[&args[..], &["--on-bad-image", "skip"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.out.starts_with("using 7 images for training, 6 images for validation.\n[epoch 1] "),
        "{ran:?}"
    );
    assert!(ran.out.contains("\nFinished Training\nbest: epoch 1, "), "{ran:?}");
    let notes: Vec<&str> = ran.err.lines().filter(|line| line.starts_with("left out: ")).collect();
    assert!(notes.len() == 1 && notes[0].contains("tulips/bad.jpg: it is not a JPEG"), "{notes:?}");
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
        assert!(dir.file("run").join(name).is_file(), "{name}");
    }

    let again = dir.run(&[&args[..], &["--on-bad-image", "skip"]].concat());
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("`--resume run`"), "{again:?}");

    // Reading a run does not remove temporary files that another process may be writing.
    let writing = dir.file("run/weights/.last.safetensors.tmp-1-x");
    fs::write(&writing, "half").unwrap();
    let json = dir.succeeds(&[
        "evaluate",
        "--weights",
        "run/weights/best.safetensors",
        "--format",
        "json",
    ]);
    assert!(writing.exists());
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rows = report["confusion"].as_array().unwrap();
    assert_eq!((&report["images"], rows.len()), (&6.into(), CLASSES.len()));
    assert_eq!(report["per_class"][2]["class"], "roses");
    assert_eq!(report["per_class"][2]["support"], 2);
}
