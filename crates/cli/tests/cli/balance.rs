//! Unbalanced classes: weights of the classes in the loss, and balanced sampling. Runs do not depend
//! on interruptions and threads.
#![cfg(unix)]

use std::fs;

use crate::{TestDir, resume::Outcome};

const TRAIN: [&str; 9] =
    ["train", "--data", "flowers", "--val-fraction", "0.25", "-b", "5", "--epochs", "2"];

/// Three classes of four images and two of eight.
fn unbalanced() -> TestDir {
    let dir = TestDir::with_flowers(8);
    for class in ["daisy", "roses", "tulips"] {
        for image in 5..=8 {
            fs::remove_file(dir.file(&format!("flowers/{class}/{class}_000{image}.jpg"))).unwrap();
        }
    }
    dir
}

fn train(dir: &TestDir, run: &str, more: &[&str]) -> Outcome {
    dir.succeeds(&[&TRAIN[..], more, &["--run-dir", run]].concat());
    Outcome::of(&dir.file(run))
}

#[test]
fn class_weights_change_training_and_are_kept_with_the_run() {
    let dir = unbalanced();
    let plain = train(&dir, "plain", &[]);
    let balanced = train(&dir, "balanced", &["--class-weights", "balanced"]);
    assert!(plain.results != balanced.results);
    let args = |run: &str| fs::read_to_string(dir.file(run).join("args.toml")).unwrap();
    assert!(
        args("balanced").contains("class-weights = \"balanced\"\n")
            && !args("plain").contains("class-weights")
    );

    // Of 21 training images, three classes have 3 and two have 6: N / (C·n) is 1.4 and 0.7.
    let (daisy, rest) = ("\"daisy\": 1.4", "\"roses\": 1.4, \"tulips\": 1.4, \"sunflowers\": 0.7");
    let file = format!("{{{daisy}, {rest}, \"dandelion\": 0.7}}");
    fs::write(dir.file("weights.json"), file).unwrap();
    let from_file = train(&dir, "file", &["--class-weights", "weights.json"]);
    from_file.assert_same(&balanced, "the same weights in a file");
    fs::remove_file(dir.file("weights.json")).unwrap();
    assert!(args("file").contains("class-weights = ["), "{}", args("file"));

    // Stopped and resumed, with another number of threads, without the file.
    let mut short = TRAIN;
    short[8] = "1";
    let numbers = "1.4,0.7,1.4,0.7,1.4";
    let more = ["--class-weights", numbers, "--run-dir", "resumed", "-j", "1"];
    dir.succeeds(&[&short[..], &more].concat());
    dir.succeeds(&["train", "--resume", "resumed", "--epochs", "2", "-j", "2"]);
    Outcome::of(&dir.file("resumed")).assert_same(&balanced, "resumed");
    let again = ["train", "--config", "file/args.toml", "--run-dir", "again"];
    dir.succeeds(&again);
    Outcome::of(&dir.file("again")).assert_same(&balanced, "from its options");

    for (weights, cause) in [
        ("1,2", "a list of 2 for 5 classes"),
        ("1,1,1,1,0", "each weight must be a number above 0"),
        ("none.json", "none.json is not a file of class weights: it does not exist"),
        ("balance", "name a file, or write `balanced`"),
        ("flowers/daisy/daisy_0001.jpg", "flowers/daisy/daisy_0001.jpg"),
    ] {
        let ran = dir.run(&[&TRAIN[..], &["--class-weights", weights, "--run-dir", "x"]].concat());
        assert!(ran.code == Some(1) && ran.err.contains(cause), "{weights}: {ran:?}");
        assert!(!dir.file("x").exists());
    }
    fs::write(dir.file("few.json"), format!("{{{daisy}, {rest}}}")).unwrap();
    let ran = dir.run(&[&TRAIN[..], &["--class-weights", "few.json"]].concat());
    assert!(
        ran.err
            .contains("few.json is not a file of class weights: it has no weight for `dandelion`"),
        "{ran:?}"
    );
    fs::write(dir.file("few.json"), "{\"daisy\": -1}").unwrap();
    let ran = dir.run(&[&TRAIN[..], &["--class-weights", "few.json"]].concat());
    assert!(
        ran.err.contains("few.json is not a file of class weights: the weight of `daisy` is -1"),
        "{ran:?}"
    );
}

#[test]
fn balanced_samples_are_the_same_after_a_resume() {
    let dir = unbalanced();
    let whole = train(&dir, "whole", &["--sampler", "balanced", "--mixup", "0.2"]);
    assert_eq!(whole.progress.step, 10, "as many images as without the sampler");
    let mut short = TRAIN;
    short[8] = "1";
    let more = ["--sampler", "balanced", "--mixup", "0.2", "--run-dir", "resumed", "-j", "1"];
    dir.succeeds(&[&short[..], &more].concat());
    dir.succeeds(&["train", "--resume", "resumed", "--epochs", "2", "-j", "2"]);
    Outcome::of(&dir.file("resumed")).assert_same(&whole, "resumed");
    let args = fs::read_to_string(dir.file("whole/args.toml")).unwrap();
    assert!(args.contains("sampler = \"balanced\"\n"), "{args}");

    let ran = dir.run(&["train", "--resume", "resumed", "--sampler", "uniform"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let blocks = ["--sampler", "balanced", "--shuffle", "blocks", "--run-dir", "x"];
    let ran = dir.run(&[&TRAIN[..], &blocks].concat());
    assert!(ran.code == Some(1) && ran.err.contains("`--sampler` cannot be balanced"), "{ran:?}");
    assert!(ran.err.contains("leave `--sampler` or `--shuffle` out"), "{ran:?}");
}
