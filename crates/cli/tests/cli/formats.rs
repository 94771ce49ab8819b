//! Weights of other programs, and for them.

use std::fs;

use alexnet_core::{
    ExifOrientation, Normalization,
    alexnet::Variant,
    init::{Init, initialize},
    weights::{Metadata, Weights},
};

use crate::{CLASSES, Place};

/// A state dictionary without a word about classes, as PyTorch writes it: ours without its metadata.
fn save_foreign(place: &Place, name: &str, variant: Variant, classes: usize) -> Weights {
    let topology = variant.topology(classes);
    let weights = Weights {
        metadata: Metadata {
            variant,
            classes: (0..classes).map(|class| class.to_string()).collect(),
            input_size: topology.input[1],
            normalization: Normalization::HALF,
            exif_orientation: ExifOrientation::Apply,
        },
        parameters: initialize(&topology, Init::Pytorch, 3).unwrap().parameters,
    };
    let path = place.file(name);
    alexnet_interchange::save(&weights, &path).unwrap();
    // Another name, of the same length, for the entry with the metadata.
    let mut bytes = fs::read(&path).unwrap();
    let (ours, other) = (b"extra/alexnet.json", b"extra/nothing.json");
    for at in 0..bytes.len() - ours.len() {
        if bytes[at..].starts_with(ours) {
            bytes[at..at + other.len()].copy_from_slice(other);
        }
    }
    fs::write(&path, bytes).unwrap();
    weights
}

#[test]
fn weights_go_to_pytorch_and_back_without_loss() {
    let place = Place::new();
    place.save_fresh_weights("best.safetensors");
    place.succeeds(&["convert", "best.safetensors", "AlexNet.pth"]);
    place.succeeds(&["convert", "AlexNet.pth", "back.safetensors"]);
    let read = |name: &str| fs::read(place.file(name)).unwrap();
    assert_eq!(read("best.safetensors"), read("back.safetensors"));

    for (arguments, code, words) in [
        (["convert", "best.safetensors", "AlexNet.h5"], 1, "its extension must be .safetensors, .pth or .pt"),
        (
            ["convert", "none.pth", "a.safetensors"],
            1,
            "none.pth is not a weights file: there is no such file",
        ),
        (["convert", "best.safetensors", "no/such/folder/a.pth"], 1, "no/such/folder/a.pth"),
        (["convert", "best.safetensors", "--mean=1,2"], 2, "three numbers"),
    ] {
        let ran = place.run(&arguments);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
    }
}

#[test]
fn a_state_dictionary_is_used_like_weights_of_ours() {
    let place = Place::with_flowers(10);
    save_foreign(&place, "AlexNet.pth", Variant::Tutorial, 5);
    let ran = place.run(&["evaluate", "--weights", "AlexNet.pth", "--data", "flowers", "--format", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("detected as `tutorial` with 5 classes"), "{ran:?}");
    assert!(ran.err.contains("the classes are assumed to be those of"), "{ran:?}");
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["per_class"][2]["class"], "roses");

    let image = "flowers/roses/roses_0001.jpg";
    let said = place.succeeds(&["predict", "--weights", "AlexNet.pth", "--topk", "5", image]);
    assert!(said.contains("class: 3 "), "{said}");
    fs::write(
        place.file("class_indices.json"),
        r#"{"0":"daisy","1":"dandelion","2":"roses","3":"sunflowers","4":"tulips"}"#,
    )
    .unwrap();
    let said = place.succeeds(&["predict", "--weights", "AlexNet.pth", "--topk", "5", image]);
    assert!(said.contains("class: sunflowers "), "{said}");

    let names = ["--class-indices", "class_indices.json", "--mean", "-0.4,0.5,0.6", "--std", "0.1,0.2,0.3"];
    place.succeeds(&[&["convert", "AlexNet.pth", "told.safetensors"], &names[..]].concat());
    let metadata = Weights::load(place.file("told.safetensors")).unwrap().metadata;
    assert_eq!(metadata.classes, CLASSES);
    assert_eq!(metadata.normalization, Normalization { mean: [-0.4, 0.5, 0.6], std: [0.1, 0.2, 0.3] });
    let wrong = place.run(&["convert", "AlexNet.pth", "a.pth", "--variant", "torchvision"]);
    assert!(wrong.code == Some(1) && wrong.err.contains("are not those of `torchvision`"), "{wrong:?}");
}

/// Fine-tuning of a network of other classes: its last layer is replaced, its normalisation comes along, and what is frozen stays.
#[test]
fn a_network_of_other_classes_is_trained_on() {
    let place = Place::with_flowers(4);
    let before = save_foreign(&place, "alexnet.pth", Variant::Torchvision, 11);
    let train = ["train", "--variant", "torchvision", "--weights", "alexnet.pth", "--data", "flowers"];
    let options = ["--freeze", "features", "--val-fraction", "0.25", "-b", "8", "--run-dir", "run"];
    let ran = place.run(&[&train[..], &options[..], &["--epochs", "1"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("the last layer, `classifier.6`, is replaced"), "{ran:?}");

    let args = fs::read_to_string(place.file("run/args.toml")).unwrap();
    assert!(args.contains("freeze = [\"features\"]") && args.contains("mean = [0.485"), "{args}");
    // The weights are no longer needed, and what they brought is kept.
    fs::remove_file(place.file("alexnet.pth")).unwrap();
    place.succeeds(&["train", "--resume", "run", "--epochs", "2"]);
    let after = Weights::load(place.file("run/weights/last.safetensors")).unwrap();
    assert_eq!(after.metadata.normalization, Normalization::IMAGENET);
    assert_eq!(after.metadata.classes, CLASSES);
    for (name, array) in &after.parameters {
        assert_eq!(before.parameters[name] == *array, name.starts_with("features"), "{name}");
    }
}

/// Weights of the drawn flowers and the same ones with their classes the other way round, as another program may order them.
fn save_both_orders(place: &Place) {
    place.save_fresh_weights("one.safetensors");
    let mut weights = Weights::load(place.file("one.safetensors")).unwrap();
    weights.metadata.classes.reverse();
    for name in ["classifier.6.weight", "classifier.6.bias"] {
        let values = &mut weights.parameters.get_mut(name).unwrap().values;
        let row = values.len() / CLASSES.len();
        *values = values.chunks(row).rev().flatten().copied().collect();
    }
    weights.save(place.file("other.safetensors")).unwrap();
}

#[test]
fn the_order_of_classes_does_not_matter() {
    let place = Place::with_flowers(10);
    save_both_orders(&place);
    let said = "has the classes of";
    let report = |weights| {
        let ran = place.run(&["evaluate", "--weights", weights, "--data", "flowers", "--format", "json"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.err.contains(said), weights == "other.safetensors", "{ran:?}");
        ran.out
    };
    assert_eq!(report("one.safetensors"), report("other.safetensors"));

    let trained = |weights, run: &str| {
        let train = ["train", "--data", "flowers", "--epochs", "1", "-b", "15"];
        let ran = place.run(&[&train[..], &["--weights", weights, "--run-dir", run]].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.err.contains("is replaced"), "{ran:?}");
        fs::read(place.file(run).join("weights/last.safetensors")).unwrap()
    };
    assert!(trained("one.safetensors", "a") == trained("other.safetensors", "b"));
}

#[test]
fn training_on_from_what_does_not_fit_is_refused() {
    let place = Place::with_flowers(4);
    place.save_fresh_weights("fresh.safetensors");
    let train = ["train", "--data", "flowers", "--val-fraction", "0.25", "--run-dir", "run"];
    for (arguments, words) in [
        (
            ["--weights", "fresh.safetensors", "--variant", "original"],
            "fresh.safetensors holds `tutorial`, but this run is `original`; add `--variant tutorial`",
        ),
        (
            ["--weights", "fresh.safetensors", "--freeze", "layers"],
            "the modules with parameters are features, features.0",
        ),
    ] {
        let ran = place.run(&[&train[..], &arguments[..]].concat());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
    }
    save_foreign(&place, "four.pth", Variant::Tutorial, 4);
    let ran =
        place.run(&[&train[..], &["--weights", "four.pth", "--freeze", "features,classifier.6"]].concat());
    assert!(ran.code == Some(1) && ran.err.contains("`classifier.6` is replaced"), "{ran:?}");
    assert!(!place.file("run").exists());
}

#[test]
fn a_network_is_exported() {
    let place = Place::new();
    place.save_fresh_weights("best.safetensors");
    for (more, words) in [(None, "to `logits`"), (Some("--softmax"), "to `probabilities`")] {
        let export = ["export", "--weights", "best.safetensors", "--format", "onnx", "AlexNet.onnx"];
        let ran = place.run(&export.into_iter().chain(more).collect::<Vec<_>>());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
        assert!(fs::metadata(place.file("AlexNet.onnx")).unwrap().len() > 4 * 14_591_685);
    }
    let before = fs::read(place.file("best.safetensors")).unwrap();
    let ran = place.run(&["export", "--weights", "AlexNet.onnx", "best.safetensors"]);
    assert!(ran.code == Some(1) && ran.err.contains("must be .onnx"), "{ran:?}");
    assert!(fs::read(place.file("best.safetensors")).unwrap() == before);
}
