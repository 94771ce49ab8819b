//! `--val-resize-crop`: validation with the center of images, and the later use of the weights.

use std::fs;

use alexnet_core::weights::Weights;
use alexnet_data::{decode::decode, framing::Framing, preprocess::evaluation_image};
use image::RgbImage;
use serde_json::Value;

use crate::TestDir;

const TRAIN: [&str; 9] =
    ["train", "--data", "flowers", "--val-fraction", "0.25", "-b", "8", "--epochs", "1"];

fn json(dir: &TestDir, args: &[&str]) -> Value {
    serde_json::from_str(&dir.succeeds(args)).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn weights_keep_the_center_of_validation_images() {
    let dir = TestDir::with_flowers(4);
    dir.succeeds(&[&TRAIN[..], &["--val-resize-crop", "256", "--crop", "random"]].concat());
    let best = dir.file("runs/train/weights/best.safetensors");
    assert_eq!(Weights::load(&best).unwrap().metadata.resize_crop, Some(256));

    // The loss of the run is that of `evaluate`, which is another one with whole images.
    let results = fs::read_to_string(dir.file("runs/train/results.csv")).unwrap();
    let loss: f64 = results.lines().nth(1).unwrap().split(',').nth(3).unwrap().parse().unwrap();
    let evaluate = |weights: &str, more: &[&str]| {
        let args = ["evaluate", "--weights", weights, "--data", "flowers", "--format", "json"];
        let report = json(&dir, &[&args[..], &["--split", "all"], more].concat());
        number(&report["loss"])
    };
    let report = json(&dir, &["evaluate", "--weights", "runs/train", "--format", "json"]);
    assert!((number(&report["loss"]) - loss).abs() < 1e-4, "{report}, {loss}");
    dir.succeeds(&["convert", "runs/train", "whole.safetensors", "--val-resize-crop", "0"]);
    dir.succeeds(&["convert", "runs/train", "again.pth"]);
    dir.succeeds(&["convert", "again.pth", "again.safetensors"]);
    assert!(fs::read(dir.file("again.safetensors")).unwrap() == fs::read(&best).unwrap());
    let center = evaluate("runs/train", &[]);
    assert!((center - evaluate("whole.safetensors", &[])).abs() > 1e-6);
    assert!((center - evaluate("runs/train", &["--tta", "ten-crop"])).abs() > 1e-6);

    // The prediction for an image is that for its center, seen whole.
    let image = fs::read_dir(dir.file("flowers/roses")).unwrap().next().unwrap().unwrap().path();
    let pixels = decode(&image, Default::default()).unwrap().image;
    let framing = Framing { size: 224, resize_crop: Some(256) };
    let pixels = RgbImage::from_raw(224, 224, evaluation_image(&pixels, framing)).unwrap();
    pixels.save(dir.file("center.png")).unwrap();
    let predict = |image: &str, weights: &str| {
        let args = ["predict", image, "--weights", weights, "--format", "json"];
        json(&dir, &args)[0]["top"].to_string()
    };
    let image = image.to_str().unwrap();
    assert_eq!(predict(image, "runs/train"), predict("center.png", "whole.safetensors"));
    assert_ne!(predict(image, "runs/train"), predict(image, "whole.safetensors"));

    // A run that starts with the weights validates in the same way.
    let ran = dir.run(&[&TRAIN[..], &["--weights", "runs/train"]].concat());
    assert!(ran.code == Some(0) && ran.err.contains(" --val-resize-crop 256 "), "{ran:?}");
    let args = fs::read_to_string(dir.file("runs/train2/args.toml")).unwrap();
    assert!(args.contains("\nval-resize-crop = 256\n"), "{args}");
    let more = ["--weights", "runs/train", "--val-resize-crop", "0"];
    let ran = dir.run(&[&TRAIN[..], &more].concat());
    assert!(ran.code == Some(0) && !ran.err.contains("--val-resize-crop"), "{ran:?}");
    let last = Weights::load(dir.file("runs/train3/weights/last.safetensors")).unwrap();
    assert_eq!(last.metadata.resize_crop, None);
}

#[test]
fn images_are_not_resized_to_less_than_the_input() {
    let dir = TestDir::with_flowers(4);
    for args in [&["--val-resize-crop", "223"][..], &["--crop", "random", "--resize-short", "223"]]
    {
        let ran = dir.run(&[&TRAIN[..], args].concat());
        let option = args[args.len() - 2];
        let message = format!("`{option}` cannot be 223: it must be at least");
        assert!(ran.code == Some(1) && ran.err.contains(&message), "{ran:?}");
        assert!(!dir.file("runs").exists(), "{ran:?}");
    }
}
