//! Options from files: precedence, errors, and what a run saves.

use std::fs;

use crate::TestDir;

fn args(dir: &TestDir, more: &[&str]) -> toml::Table {
    let all = [
        &[
            "train",
            "--data",
            "flowers",
            "--val-fraction",
            "0.5",
            "-b",
            "4",
            "--epochs",
            "1",
            "--run-dir",
            "run",
        ][..],
        more,
    ];
    dir.succeeds(&all.concat());
    let text = fs::read_to_string(dir.file("run/args.toml")).unwrap();
    fs::remove_dir_all(dir.file("run")).unwrap();
    text.parse().unwrap()
}

#[test]
fn the_command_line_has_precedence_over_a_file_and_a_file_over_defaults() {
    let dir = TestDir::with_flowers(2);
    let default = args(&dir, &[]);
    assert_eq!(
        args(&dir, &["--recipe", "tutorial"]),
        default,
        "the recipe tutorial equals the defaults"
    );

    fs::write(
        dir.file("my.toml"),
        "lr = 0.001\nepochs = 7\nmodel-ema = true\nfreeze = [\"features\"]\n",
    )
    .unwrap();
    let mixed = args(&dir, &["--config", "my.toml", "--lr", "0.002", "--freeze", "classifier.1"]);
    assert_eq!(mixed["lr"].as_float(), Some(0.002));
    assert_eq!(mixed["epochs"].as_integer(), Some(1));
    assert_eq!(mixed["model-ema"].as_bool(), Some(true));
    assert_eq!(mixed["freeze"].as_array().unwrap().len(), 1);
    assert_eq!(mixed["momentum"], default["momentum"]);
    assert_eq!(
        args(&dir, &["--config", "my.toml", "--model-ema=false"])["model-ema"].as_bool(),
        Some(false)
    );

    // Five images are two steps per epoch, so by default the average is updated after each step.
    assert_eq!(default["model-ema-steps"].as_integer(), Some(1));
    assert_eq!(args(&dir, &["--model-ema-steps", "16"])["model-ema-steps"].as_integer(), Some(16));

    // A saved file of options can be used as a file of options.
    fs::write(dir.file("saved.toml"), toml::to_string(&mixed).unwrap()).unwrap();
    assert_eq!(args(&dir, &["--config", "saved.toml"]), mixed);
}

#[test]
fn recipes_set_the_options_of_their_files() {
    let dir = TestDir::with_flowers(2);
    for name in ["fast", "best"] {
        let recipe: toml::Table =
            fs::read_to_string(format!("../alexnet/recipes/{name}.toml")).unwrap().parse().unwrap();
        let saved = args(&dir, &["--recipe", name]);
        for (key, value) in
            recipe.iter().filter(|(key, _)| !["epochs", "batch-size"].contains(&key.as_str()))
        {
            assert_eq!(saved.get(key), Some(value), "{name}: {key}");
        }
    }
}

#[test]
fn errors_in_a_file_name_the_file_and_the_cause() {
    let dir = TestDir::with_flowers(4);
    let long_line = format!("batch-size = 12{}", "\0".repeat(5000));
    for (text, cause) in [
        ("lr = ", "is not TOML"),
        ("seed = 1\nlr = \n", "line 2, `lr =`: "),
        ("opt = \"\"\"sgd\nlr = 1\n", "line 2, `lr = 1`: "),
        (&long_line, "bytes more)`: "),
        ("learning-rate = 0.1", "unexpected argument '--learning-rate'"),
        ("lr = \"high\"", "invalid value 'high' for '--lr"),
        ("label-smoothing = 1.0", "it must be at least 0 and below 1"),
        ("crop-scale = [0.5, 0.1]", "the smaller first"),
        ("crop-scale = 0.5", "the smaller first"),
        ("opt = \"lion\"", "invalid value 'lion'"),
        ("resume = \"runs/train\"", "`resume` is only allowed on the command line"),
        ("run-dir = \"run\"", "`run-dir` is only allowed on the command line"),
        ("recipe = \"fast\"", "`recipe` is only allowed on the command line"),
        ("tensorboard = true", "`tensorboard` is only allowed on the command line"),
        ("log-file = \"log\"", "`log-file` is only allowed on the command line"),
        ("progress = \"json\"", "`progress` is only allowed on the command line"),
        ("quiet = true", "`quiet` is only allowed on the command line"),
        ("verbose = true", "`verbose` is only allowed on the command line"),
        ("ranks = 2", "`ranks` is only allowed on the command line"),
        ("sum-order = \"any\"", "`sum-order` is only allowed on the command line"),
        ("parallel = \"towers\"", "`parallel` is only allowed on the command line"),
        ("[lr]\nhigh = 1", "`lr` must be a number"),
    ] {
        fs::write(dir.file("my.toml"), text).unwrap();
        let ran = dir.run(&["train", "--data", "flowers", "--config", "my.toml"]);
        assert_eq!(ran.code, Some(1), "{text}: {ran:?}");
        assert!(ran.err.contains("my.toml") && ran.err.contains(cause), "{text}: {ran:?}");
        assert!(ran.err.len() < 3000, "{ran:?}");
    }
    let ran = dir.run(&["train", "--config", "none.toml"]);
    assert!(ran.err.contains("none.toml"), "{ran:?}");
    assert_eq!(dir.run(&["train", "--config", "my.toml", "--recipe", "fast"]).code, Some(2));
    assert_eq!(dir.run(&["train", "--resume", "run", "--recipe", "fast"]).code, Some(2));
    assert_eq!(dir.run(&["train", "--resume", "run", "--mixup", "1"]).code, Some(2));
}

#[test]
fn lr_find_writes_a_figure() {
    let dir = TestDir::with_flowers(4);
    let output = dir.run(&[
        "lr-find",
        "--data",
        "flowers",
        "-b",
        "4",
        "--val-fraction",
        "0.25",
        "--steps",
        "12",
    ]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let image = image::open(dir.file("lr_find.png")).unwrap();
    assert_eq!((image.width(), image.height()), (900, 500));
    let ran = dir.run(&["lr-find", "--data", "flowers", "--min-lr", "1", "--max-lr", "0.1"]);
    assert!(ran.code == Some(1) && ran.err.contains("--max-lr"), "{ran:?}");
}

/// The range test normalizes images as in the training of the weights: its first step is that of
/// `train`.
#[test]
fn lr_find_uses_the_normalization_of_the_weights() {
    let dir = TestDir::with_flowers(2);
    dir.save_fresh_weights("w.safetensors");
    let (mean, std) = ("0.485,0.456,0.406", "0.229,0.224,0.225");
    dir.succeeds(&["convert", "w.safetensors", "v.safetensors", "--mean", mean, "--std", std]);
    // One batch has all training images.
    let setup = ["--data", "flowers", "-b", "5", "--val-fraction", "0.5", "--weights"];
    let first_loss = |weights: &str, more: &[&str]| {
        let ran = dir.run(&[&["lr-find", "--steps", "10"], &setup[..], &[weights], more].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let (_, after) = ran.err.split_once("the loss, ").unwrap();
        after.split_once(" in the first step").unwrap().0.to_owned()
    };
    let found = first_loss("v.safetensors", &[]);
    dir.succeeds(&[&["train", "--epochs", "1"], &setup[..], &["v.safetensors"]].concat());
    let results = fs::read_to_string(dir.file("runs/train/results.csv")).unwrap();
    assert_eq!(results.lines().nth(1).unwrap().split(',').nth(2), Some(found.as_str()));
    assert_eq!(first_loss("v.safetensors", &["--mean", mean, "--std", std]), found);
    assert_ne!(first_loss("w.safetensors", &[]), found);
}

#[test]
fn recipes_prints_a_table_and_does_not_repeat_finished_runs() {
    // Of ten images per class, one is for validation.
    let dir = TestDir::with_flowers(10);
    // A finished run: it keeps its single epoch when it is resumed.
    let first = ["--recipe", "tutorial", "--seed", "3", "--run-dir", "runs/recipes/tutorial-3"];
    dir.succeeds(&[&["train", "--data", "flowers", "--epochs", "1"], &first[..]].concat());
    let table = dir.succeeds(&["recipes", "tutorial", "--seeds", "3,4", "--data", "flowers"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[2].starts_with("| `tutorial` | 10 | "), "{table}");
    for seed in [3, 4] {
        assert!(dir.file(&format!("runs/recipes/tutorial-{seed}/results.csv")).exists());
    }
    let again = dir.run(&["recipes", "tutorial", "--seeds", "3,4", "--data", "flowers"]);
    assert!(again.err.contains("all 10 epochs are done"), "{again:?}");
    assert_eq!(again.out, table);
    // `--data` applies to existing runs too, whose images have moved.
    fs::rename(dir.file("flowers"), dir.file("moved")).unwrap();
    assert_eq!(dir.succeeds(&["recipes", "tutorial", "--seeds", "3,4", "--data", "moved"]), table);
}
