//! Weights files from and for other programs.

use std::fs;

use alexnet_core::{
    ExifOrientation, Normalization,
    alexnet::Variant,
    init::{Init, initialize},
    weights::{Metadata, Weights},
};

use crate::{CLASSES, TestDir};

/// Writes a state dictionary without metadata, as PyTorch does.
fn save_foreign(dir: &TestDir, name: &str, variant: Variant, classes: usize) -> Weights {
    let topology = variant.topology(classes);
    let weights = Weights {
        metadata: Metadata {
            variant,
            classes: (0..classes).map(|class| class.to_string()).collect(),
            input_size: topology.input[1],
            resize_crop: None,
            normalization: Normalization::HALF,
            exif_orientation: ExifOrientation::Apply,
            precision: Default::default(),
        },
        parameters: initialize(&topology, Init::Pytorch, 3).unwrap().parameters,
    };
    let path = dir.file(name);
    alexnet_interchange::save(&weights, &path).unwrap();
    // Hides the metadata: replaces the name of its entry by another of the same length.
    let mut bytes = fs::read(&path).unwrap();
    let (metadata, other) = (b"extra/alexnet.json", b"extra/nothing.json");
    for at in 0..bytes.len() - metadata.len() {
        if bytes[at..].starts_with(metadata) {
            bytes[at..at + other.len()].copy_from_slice(other);
        }
    }
    fs::write(&path, bytes).unwrap();
    weights
}

#[test]
fn weights_go_to_pytorch_and_back_without_loss() {
    let dir = TestDir::new();
    dir.save_fresh_weights("best.safetensors");
    dir.succeeds(&["convert", "best.safetensors", "AlexNet.pth"]);
    dir.succeeds(&["convert", "AlexNet.pth", "back.safetensors"]);
    let read = |name: &str| fs::read(dir.file(name)).unwrap();
    assert_eq!(read("best.safetensors"), read("back.safetensors"));

    for (arguments, code, message) in [
        (
            ["convert", "best.safetensors", "AlexNet.h5"],
            1,
            "its extension must be .safetensors, .pth or .pt",
        ),
        (
            ["convert", "none.pth", "a.safetensors"],
            1,
            "none.pth is not a weights file: there is no such file",
        ),
        (["convert", "best.safetensors", "no/such/folder/a.pth"], 1, "no/such/folder/a.pth"),
        (["convert", "best.safetensors", "--mean=1,2"], 2, "three numbers"),
    ] {
        let ran = dir.run(&arguments);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains(message), "{ran:?}");
    }
}

#[test]
fn a_pytorch_state_dictionary_can_be_used_as_weights() {
    let dir = TestDir::with_flowers(10);
    save_foreign(&dir, "AlexNet.pth", Variant::Tutorial, 5);
    let ran =
        dir.run(&["evaluate", "--weights", "AlexNet.pth", "--data", "flowers", "--format", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("detected as `tutorial` with 5 classes"), "{ran:?}");
    assert!(ran.err.contains("the classes are assumed to be those of"), "{ran:?}");
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["per_class"][2]["class"], "roses");

    let image = "flowers/roses/roses_0001.jpg";
    let output = dir.succeeds(&["predict", "--weights", "AlexNet.pth", "--topk", "5", image]);
    assert!(output.contains("class: 3 "), "{output}");
    fs::write(
        dir.file("class_indices.json"),
        r#"{"0":"daisy","1":"dandelion","2":"roses","3":"sunflowers","4":"tulips"}"#,
    )
    .unwrap();
    let output = dir.succeeds(&["predict", "--weights", "AlexNet.pth", "--topk", "5", image]);
    assert!(output.contains("class: sunflowers "), "{output}");

    let names =
        ["--class-indices", "class_indices.json", "--mean", "-0.4,0.5,0.6", "--std", "0.1,0.2,0.3"];
    dir.succeeds(&[&["convert", "AlexNet.pth", "named.safetensors"], &names[..]].concat());
    let metadata = Weights::load(dir.file("named.safetensors")).unwrap().metadata;
    assert_eq!(metadata.classes, CLASSES);
    assert_eq!(
        metadata.normalization,
        Normalization { mean: [-0.4, 0.5, 0.6], std: [0.1, 0.2, 0.3] }
    );
    let wrong = dir.run(&["convert", "AlexNet.pth", "a.pth", "--variant", "torchvision"]);
    assert!(
        wrong.code == Some(1) && wrong.err.contains("are not those of `torchvision`"),
        "{wrong:?}"
    );
}

/// Fine-tuning of a network of other classes: its last layer is replaced, its normalization is
/// used, and frozen layers do not change.
#[test]
fn a_network_of_other_classes_is_fine_tuned() {
    let dir = TestDir::with_flowers(4);
    let before = save_foreign(&dir, "alexnet.pth", Variant::Torchvision, 11);
    let train =
        ["train", "--variant", "torchvision", "--weights", "alexnet.pth", "--data", "flowers"];
    let options =
        ["--freeze", "features", "--val-fraction", "0.25", "-b", "16", "--run-dir", "run"];
    let ran = dir.run(&[&train[..], &options[..], &["--epochs", "1"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("the last layer, `classifier.6`, is replaced"), "{ran:?}");

    let args = fs::read_to_string(dir.file("run/args.toml")).unwrap();
    assert!(args.contains("freeze = [\"features\"]") && args.contains("mean = [0.485"), "{args}");
    // To resume, the initial weights are not needed: their normalization is stored in the run.
    fs::remove_file(dir.file("alexnet.pth")).unwrap();
    dir.succeeds(&["train", "--resume", "run", "--epochs", "2"]);
    let after = Weights::load(dir.file("run/weights/last.safetensors")).unwrap();
    assert_eq!(after.metadata.normalization, Normalization::IMAGENET);
    assert_eq!(after.metadata.classes, CLASSES);
    for (name, array) in &after.parameters {
        assert_eq!(before.parameters[name] == *array, name.starts_with("features"), "{name}");
    }
}

/// Writes weights for the drawn flowers, and the same weights with the classes in reverse order, as
/// another program may order them.
fn save_both_orders(dir: &TestDir) {
    dir.save_fresh_weights("one.safetensors");
    let mut weights = Weights::load(dir.file("one.safetensors")).unwrap();
    weights.metadata.classes.reverse();
    for name in ["classifier.6.weight", "classifier.6.bias"] {
        let values = &mut weights.parameters.get_mut(name).unwrap().values;
        let row = values.len() / CLASSES.len();
        *values = values.chunks(row).rev().flatten().copied().collect();
    }
    weights.save(dir.file("other.safetensors")).unwrap();
}

#[test]
fn the_order_of_classes_does_not_matter() {
    let dir = TestDir::with_flowers(10);
    save_both_orders(&dir);
    let note = "has the classes of";
    let report = |weights| {
        let ran =
            dir.run(&["evaluate", "--weights", weights, "--data", "flowers", "--format", "json"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.err.contains(note), weights == "other.safetensors", "{ran:?}");
        ran.out
    };
    assert_eq!(report("one.safetensors"), report("other.safetensors"));

    let trained = |weights, run: &str| {
        let train = ["train", "--data", "flowers", "--epochs", "1", "-b", "15"];
        let ran = dir.run(&[&train[..], &["--weights", weights, "--run-dir", run]].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.err.contains("is replaced"), "{ran:?}");
        fs::read(dir.file(run).join("weights/last.safetensors")).unwrap()
    };
    assert!(trained("one.safetensors", "a") == trained("other.safetensors", "b"));
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let dir = TestDir::with_flowers(4);
    dir.save_fresh_weights("fresh.safetensors");
    let train = ["train", "--data", "flowers", "--val-fraction", "0.25", "--run-dir", "run"];
    for (arguments, message) in [
        (
            ["--weights", "fresh.safetensors", "--variant", "original"],
            "fresh.safetensors holds `tutorial`, but this run is `original`; add `--variant tutorial`",
        ),
        (
            ["--weights", "fresh.safetensors", "--freeze", "layers"],
            "the modules with parameters are features, features.0",
        ),
    ] {
        let ran = dir.run(&[&train[..], &arguments[..]].concat());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains(message), "{ran:?}");
    }
    save_foreign(&dir, "four.pth", Variant::Tutorial, 4);
    let ran = dir.run(
        &[&train[..], &["--weights", "four.pth", "--freeze", "features,classifier.6"]].concat(),
    );
    assert!(ran.code == Some(1) && ran.err.contains("`classifier.6` is replaced"), "{ran:?}");
    assert!(!dir.file("run").exists());
}

#[test]
fn a_network_is_exported() {
    let dir = TestDir::new();
    dir.save_fresh_weights("best.safetensors");
    for (more, message) in
        [(None, "output `logits`"), (Some("--softmax"), "output `probabilities`")]
    {
        let export =
            ["export", "--weights", "best.safetensors", "--format", "onnx", "AlexNet.onnx"];
        let ran = dir.run(&export.into_iter().chain(more).collect::<Vec<_>>());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.err.contains(message), "{ran:?}");
        assert!(fs::metadata(dir.file("AlexNet.onnx")).unwrap().len() > 4 * 14_591_685);
    }
    let before = fs::read(dir.file("best.safetensors")).unwrap();
    let ran = dir.run(&["export", "--weights", "AlexNet.onnx", "best.safetensors"]);
    assert!(ran.code == Some(1) && ran.err.contains("must be .onnx"), "{ran:?}");
    assert!(fs::read(dir.file("best.safetensors")).unwrap() == before);
}
