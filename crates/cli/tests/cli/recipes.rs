//! Options from files: what counts more, what is refused, and what a run saves.

use std::fs;

use crate::Place;

fn args(place: &Place, more: &[&str]) -> toml::Table {
    let all = [
        &[
            "train",
            "--data",
            "flowers",
            "--val-fraction",
            "0.25",
            "-b",
            "8",
            "--epochs",
            "1",
            "--run-dir",
            "run",
        ][..],
        more,
    ];
    place.succeeds(&all.concat());
    let text = fs::read_to_string(place.file("run/args.toml")).unwrap();
    fs::remove_dir_all(place.file("run")).unwrap();
    text.parse().unwrap()
}

#[test]
fn the_command_line_counts_more_than_a_file_and_a_file_more_than_defaults() {
    let place = Place::with_flowers(4);
    let default = args(&place, &[]);
    assert_eq!(
        args(&place, &["--recipe", "tutorial"]),
        default,
        "the tutorial is the default of every option"
    );

    fs::write(place.file("my.toml"), "lr = 0.001\nepochs = 7\nmodel-ema = true\nfreeze = [\"features\"]\n")
        .unwrap();
    let mixed = args(&place, &["--config", "my.toml", "--lr", "0.002", "--freeze", "classifier.1"]);
    assert_eq!(mixed["lr"].as_float(), Some(0.002));
    assert_eq!(mixed["epochs"].as_integer(), Some(1));
    assert_eq!(mixed["model-ema"].as_bool(), Some(true));
    assert_eq!(mixed["freeze"].as_array().unwrap().len(), 1);
    assert_eq!(mixed["momentum"], default["momentum"]);
    assert_eq!(
        args(&place, &["--config", "my.toml", "--model-ema=false"])["model-ema"].as_bool(),
        Some(false)
    );

    // Fifteen images are two steps, where the average moves at each; what is typed counts.
    assert_eq!(default["model-ema-steps"].as_integer(), Some(1));
    assert_eq!(args(&place, &["--model-ema-steps", "16"])["model-ema-steps"].as_integer(), Some(16));

    // What is saved is such a file.
    fs::write(place.file("saved.toml"), toml::to_string(&mixed).unwrap()).unwrap();
    assert_eq!(args(&place, &["--config", "saved.toml"]), mixed);
}

#[test]
fn recipes_are_files_of_options() {
    let place = Place::with_flowers(4);
    for name in ["fast", "best"] {
        let recipe: toml::Table =
            fs::read_to_string(format!("../alexnet/recipes/{name}.toml")).unwrap().parse().unwrap();
        let saved = args(&place, &["--recipe", name]);
        for (key, value) in recipe.iter().filter(|(key, _)| !["epochs", "batch-size"].contains(&key.as_str()))
        {
            assert_eq!(saved.get(key), Some(value), "{name}: {key}");
        }
    }
}

#[test]
fn a_file_that_makes_no_sense_is_named_with_the_cause() {
    let place = Place::with_flowers(4);
    for (text, cause) in [
        ("lr = ", "is not TOML"),
        ("learning-rate = 0.1", "unexpected argument '--learning-rate'"),
        ("lr = \"high\"", "invalid value 'high' for '--lr"),
        ("label-smoothing = 1.0", "it must be at least 0 and below 1"),
        ("crop-scale = [0.5, 0.1]", "the lesser first"),
        ("crop-scale = 0.5", "the lesser first"),
        ("opt = \"lion\"", "invalid value 'lion'"),
        ("resume = \"runs/train\"", "`resume` is only allowed on the command line"),
        ("[lr]\nhigh = 1", "`lr` must be a number"),
    ] {
        fs::write(place.file("my.toml"), text).unwrap();
        let ran = place.run(&["train", "--data", "flowers", "--config", "my.toml"]);
        assert_eq!(ran.code, Some(1), "{text}: {ran:?}");
        assert!(ran.err.contains("my.toml") && ran.err.contains(cause), "{text}: {ran:?}");
    }
    let ran = place.run(&["train", "--config", "none.toml"]);
    assert!(ran.err.contains("none.toml"), "{ran:?}");
    assert_eq!(place.run(&["train", "--config", "my.toml", "--recipe", "fast"]).code, Some(2));
    assert_eq!(place.run(&["train", "--resume", "run", "--recipe", "fast"]).code, Some(2));
    assert_eq!(place.run(&["train", "--resume", "run", "--mixup", "1"]).code, Some(2));
}

#[test]
fn rates_are_found() {
    let place = Place::with_flowers(4);
    let said =
        place.run(&["lr-find", "--data", "flowers", "-b", "4", "--val-fraction", "0.25", "--steps", "12"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let image = image::open(place.file("lr_find.png")).unwrap();
    assert_eq!((image.width(), image.height()), (900, 500));
    let ran = place.run(&["lr-find", "--data", "flowers", "--min-lr", "1", "--max-lr", "0.1"]);
    assert!(ran.code == Some(1) && ran.err.contains("--max-lr"), "{ran:?}");
}

/// The images that weights were trained on are those that rates are tried on.
#[test]
fn rates_are_found_with_the_normalization_of_the_weights() {
    let place = Place::with_flowers(4);
    place.save_fresh_weights("w.safetensors");
    let (mean, std) = ("0.4,0.5,0.6", "0.2,0.3,0.4");
    place.succeeds(&["convert", "w.safetensors", "v.safetensors", "--mean", mean, "--std", std]);
    let curve = |more: &[&str]| {
        let find = ["lr-find", "--data", "flowers", "-b", "4", "--val-fraction", "0.25", "--steps", "10"];
        place.succeeds(&[&find[..], &["--weights", "v.safetensors"], more].concat());
        std::fs::read(place.file("lr_find.png")).unwrap()
    };
    let own = curve(&[]);
    assert!(own == curve(&["--mean", mean, "--std", std]));
    assert!(own != curve(&["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]));
}

#[test]
fn a_table_tells_what_recipes_reach_and_repeats_nothing() {
    // Ten a class leave one to validate with.
    let place = Place::with_flowers(10);
    let table = place.succeeds(&["recipes", "tutorial", "--seeds", "3,4", "--data", "flowers"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[2].starts_with("| `tutorial` | 10 | "), "{table}");
    for seed in [3, 4] {
        assert!(place.file(&format!("runs/recipes/tutorial-{seed}/results.csv")).exists());
    }
    let again = place.run(&["recipes", "tutorial", "--seeds", "3,4", "--data", "flowers"]);
    assert!(again.err.contains("all 10 epochs are done"), "{again:?}");
    assert_eq!(again.out, table);
    // Where the images are now is told to runs that are there, too.
    fs::rename(place.file("flowers"), place.file("moved")).unwrap();
    assert_eq!(place.succeeds(&["recipes", "tutorial", "--seeds", "3,4", "--data", "moved"]), table);
}
