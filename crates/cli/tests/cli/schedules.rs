//! A schedule that depends on the results of the epochs, with the optimizer of the paper and the
//! initial weights of Caffe: resumed runs have the rates of uninterrupted ones.
#![cfg(unix)]

use std::fs;

use crate::{TestDir, resume::Outcome};

const TRAIN: [&str; 19] = [
    "train",
    "--data",
    "flowers",
    "--val-fraction",
    "0.25",
    "-b",
    "15",
    "--lr",
    "0.01",
    "--opt",
    "sgd-paper",
    "--init",
    "caffe",
    "--lr-scheduler",
    "plateau",
    "--lr-gamma",
    "0.5",
    "--lr-patience",
    "0",
];

#[test]
fn a_run_resumed_on_a_plateau_has_the_same_rates() {
    let dir = TestDir::with_flowers(4);
    let train = |run: &str, epochs: &str| {
        dir.succeeds(&[&TRAIN[..], &["--epochs", epochs, "--run-dir", run]].concat());
    };
    train("whole", "5");
    let whole = Outcome::of(&dir.file("whole"));
    // Of 5 images in equal classes, about one is recognized, so the accuracy does not rise each
    // epoch.
    let (mut rate, mut best) = (0.01, 0.0);
    let mut rates = Vec::new();
    for row in &whole.progress.history {
        assert_eq!(row.lr, rate);
        rates.push(rate);
        let accuracy = row.accuracy().unwrap();
        if accuracy > best { best = accuracy } else { rate /= 2.0 }
    }
    assert!(rates[4] < rates[0], "{rates:?}");

    train("resumed", "1");
    for epochs in ["3", "4", "5"] {
        dir.succeeds(&["train", "--resume", "resumed", "--epochs", epochs]);
    }
    Outcome::of(&dir.file("resumed")).assert_same(&whole, "resumed");
    let args = fs::read_to_string(dir.file("whole/args.toml")).unwrap();
    for line in
        ["opt = \"sgd-paper\"", "init = \"caffe\"", "lr-scheduler = \"plateau\"", "lr-patience = 0"]
    {
        assert!(args.contains(line), "{args}");
    }

    let mut without = TRAIN;
    without[4] = "0";
    let ran = dir.run(&without);
    let cause = "`--lr-scheduler` cannot be plateau: there are no validation images";
    assert!(ran.code == Some(1) && ran.err.contains(cause), "{ran:?}");
    let mut rising = TRAIN;
    rising[16] = "1.5";
    let ran = dir.run(&rising);
    assert!(ran.code == Some(1) && ran.err.contains("it must be below 1"), "{ran:?}");
}
