//! `explain` writes a figure and a map per image.

use std::fs;

use serde_json::Value;

use crate::{CLASSES, TestDir};

const IMAGE: &str = "flowers/roses/roses_0001.jpg";

fn explain(dir: &TestDir, more: &[&str]) -> Vec<Value> {
    let arguments = ["explain", "--weights", "w.safetensors", "--format", "json", "--out", "out"];
    serde_json::from_str(&dir.succeeds(&[&arguments[..], more].concat())).unwrap()
}

#[test]
fn each_method_writes_a_figure_and_a_map() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("w.safetensors");
    for (method, layer, shape) in [
        ("gradcam", Some("conv5"), [1, 13, 13]),
        ("guided", None, [3, 224, 224]),
        ("guided-gradcam", Some("conv5"), [3, 224, 224]),
        ("occlusion", None, [1, 224, 224]),
    ] {
        let [row] = &explain(&dir, &[IMAGE, "--method", method])[..] else { panic!("one image") };
        assert_eq!(row["method"], method);
        assert_eq!(row["layer"].as_str(), layer);
        assert_eq!(row["class"], row["predicted"]);
        assert_eq!(row["shape"], serde_json::json!(shape));
        let map = fs::read(dir.file(row["map"].as_str().unwrap())).unwrap();
        assert!(map.starts_with(b"\x93NUMPY"));
        assert!(map.len() > 4 * shape.iter().product::<usize>());
        let figure = image::open(dir.file(row["figure"].as_str().unwrap())).unwrap();
        let original = image::open(dir.file(IMAGE)).unwrap();
        assert!(figure.width() >= original.width() && figure.height() > original.height());
    }
    let [row] = &explain(&dir, &[IMAGE, "--layer", "conv2", "--class", "tulips"])[..] else {
        panic!("one image")
    };
    assert_eq!(row["class"], "tulips");
    assert_eq!(row["shape"], serde_json::json!([1, 27, 27]));
}

#[test]
fn an_image_that_cannot_be_read_does_not_stop_the_others() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("w.safetensors");
    fs::write(dir.file("broken.jpg"), b"words").unwrap();
    let weights = ["--weights", "w.safetensors", "--out", "out"];
    let ran = dir.run(&[&["explain", "broken.jpg", IMAGE, "none.jpg"], &weights[..]].concat());
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("broken.jpg is not a readable image"), "{ran:?}");
    assert!(ran.err.contains("none.jpg"), "{ran:?}");
    assert!(ran.out.starts_with(&format!("{IMAGE}: ")), "{ran:?}");
    assert!(dir.file("out/roses_0001.jpg.png").exists());
}

#[test]
fn the_explained_class_must_exist() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("w.safetensors");
    let ran =
        dir.run(&["explain", IMAGE, "--weights", "w.safetensors", "--out", "out", "--class", "x"]);
    assert_eq!(ran.code, Some(1));
    let message = "`--class x` is not a class of these weights; they have daisy, dandelion, roses";
    assert!(ran.err.contains(message), "{ran:?}");
}

#[test]
fn filters_and_activations_are_drawn() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("w.safetensors");
    let weights = ["--weights", "w.safetensors"];
    let said = dir.succeeds(&[&["kernels"][..], &weights].concat());
    assert_eq!(said, "48 filters in kernels.png\n");
    let figure = image::open(dir.file("kernels.png")).unwrap();
    assert_eq!((figure.width(), figure.height()), (16 * 57 + 2, 3 * 57 + 2));
    let said = dir.succeeds(&[&["features", IMAGE, "--layer", "conv5"][..], &weights].concat());
    assert!(said.starts_with("128 channels of 13×13 in features.png, largest value "), "{said}");
    assert!(image::open(dir.file("features.png")).is_ok());
}

/// Results that are written over an image, or into a folder of images, would be lost or be taken
/// for images later.
#[test]
fn results_are_not_written_over_or_among_the_images() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("w.safetensors");
    let before = fs::read(dir.file(IMAGE)).unwrap();
    let weights = ["--weights", "w.safetensors"];
    let itself = "is the image itself; choose another file";
    let among = "because the images are in ";
    for (args, message) in [
        (&["features", IMAGE, "--out", IMAGE][..], itself),
        (&["neighbours", IMAGE, "--data", "flowers", "--out", IMAGE], itself),
        (&["neighbours", IMAGE, "--data", "flowers", "--out", "flowers/n.png"], among),
        (&["explain", "flowers", "--out", "flowers"], among),
        (&["predict", "flowers", "--annotate", "flowers/annotated"], among),
        (&["predict", "flowers", "--sort-into", "flowers/sorted"], among),
        (&["evaluate", "--data", "flowers", "--out", "flowers/daisy"], among),
    ] {
        let ran = dir.run(&[args, &weights].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{args:?}: {ran:?}");
        assert!(ran.err.contains(message), "{args:?}: {ran:?}");
    }
    for args in [
        &["data", "preview", "--data", "flowers", "--out", IMAGE][..],
        &["data", "check", "--data", "flowers", "--gallery", IMAGE],
        &["lr-find", "--data", "flowers", "--val-fraction", "0", "--out", IMAGE],
    ] {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}: {ran:?}");
        assert!(ran.err.contains(among), "{args:?}: {ran:?}");
    }
    assert!(fs::read(dir.file(IMAGE)).unwrap() == before);
    for class in CLASSES {
        let folder = dir.file("flowers").join(class);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "{class}");
    }
}
