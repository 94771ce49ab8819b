//! A data set unlike the flowers: twelve classes, PNG, WebP and JPEG, mixed sizes, imbalanced
//! classes.

use std::fs;

use image::{Rgb, RgbImage};

use crate::TestDir;

const CLASSES: usize = 12;

/// Draws stripes whose color and width depend on the class. No two images are equal.
fn image(class: usize, index: usize) -> RgbImage {
    let (width, height) = (60 + 17 * (index as u32 % 5), 50 + 23 * (index as u32 % 4));
    RgbImage::from_fn(width, height, |x, y| {
        let noise = (x * 31 + y * 17 + index as u32 * 97).wrapping_mul(2_654_435_761) >> 26;
        let stripe = (x + y * (class as u32 % 3) + index as u32) / (3 + class as u32) % 2;
        let channel =
            |c: usize| (stripe * 60 + noise + 40 * ((class >> c) & 3) as u32).min(255) as u8;
        Rgb([channel(0), channel(1), channel(2)])
    })
}

#[test]
fn twelve_classes_in_three_formats_are_checked_trained_and_predicted() {
    let dir = TestDir::new();
    for class in 0..CLASSES {
        let folder = dir.file(&format!("my images/class nº {class:02}"));
        fs::create_dir_all(&folder).unwrap();
        for index in 0..4 + class {
            let extension = ["png", "png", "webp", "jpg"][index % 4];
            image(class, index).save(folder.join(format!("{index}.{extension}"))).unwrap();
        }
    }
    let data = ["--data", "my images"];
    dir.succeeds(&[&["data", "check"][..], &data].concat());
    dir.succeeds(
        &[&["train", "--epochs", "1", "-b", "16", "--val-fraction", "0.25"][..], &data].concat(),
    );
    let indices: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.file("runs/train/class_indices.json")).unwrap())
            .unwrap();
    assert_eq!(indices["11"], "class nº 11");
    let output = dir.succeeds(&["predict", "my images/class nº 05/0.png", "--topk", "12"]);
    assert_eq!(
        output.matches("class nº").count(),
        12 + usize::from(output.contains("my images")),
        "{output}"
    );
}
