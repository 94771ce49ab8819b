//! Messages about invalid options, the width of lines, and non-Latin names.

use std::fs;

use crate::{CLASSES, TestDir};

#[test]
fn a_number_outside_its_limits_is_refused_with_the_limits() {
    let dir = TestDir::new();
    for (args, option, message) in [
        (
            &["train", "--epochs", "0"][..],
            "--epochs <N>",
            "it must be a whole number of at least 1",
        ),
        (&["train", "--epochs", "-3"], "--epochs <N>", "it must be a whole number of at least 1"),
        (&["train", "--epochs", "99999999999999999999"], "--epochs <N>", "it is too large"),
        (&["train", "--lr", "-0.1"], "--lr <RATE>", "it must be a number above 0"),
        (&["train", "--seed", "-1"], "--seed <N>", "it must be a whole number of at least 0"),
        (
            &["train", "--batch-size", "x"],
            "--batch-size <N>",
            "it must be a whole number of at least 1",
        ),
        (&["train", "-j", "0"], "--workers <N>", "it must be a whole number from 1 to 1024"),
        (
            &["train", "--val-fraction", "-0.5"],
            "--val-fraction <SHARE>",
            "it must be at least 0 and below 1",
        ),
        (&["lr-find", "--steps", "9"], "--steps <N>", "it must be a whole number of at least 10"),
        (
            &["predict", "a.jpg", "--topk", "0"],
            "--topk <N>",
            "it must be a whole number of at least 1",
        ),
        (
            &["summary", "--classes", "-5"],
            "--classes <N>",
            "it must be a whole number of at least 2",
        ),
        (&["data", "synth", "--out", "x", "--per-class", "-5"], "--per-class <N>", "of at least 1"),
    ] {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
        assert!(ran.err.contains(option) && ran.err.contains(message), "{args:?}: {ran:?}");
    }
    assert_eq!(dir.names(), [""; 0]);
}

#[test]
fn an_option_that_the_command_would_ignore_is_refused() {
    let dir = TestDir::new();
    for args in [
        &["lr-find", "--epochs", "3"][..],
        &["lr-find", "--lr", "0.1"],
        &["lr-find", "--accumulate", "2"],
        &["lr-find", "--clip-grad-norm", "1"],
        &["lr-find", "--patience", "3"],
        &["lr-find", "--model-ema"],
        &["parity", "--patience", "3"],
        &["parity", "--model-ema"],
        &["bench", "--data", "flowers"],
        &["bench", "--what", "pipeline", "--data", "flowers", "--steps", "3"],
    ] {
        let ran = dir.run(args);
        assert!(ran.code != Some(0) && ran.err.contains("--"), "{args:?}: {ran:?}");
    }
}

#[test]
fn options_that_a_resumed_run_does_not_use_are_refused() {
    let dir = TestDir::new();
    for (typed, named) in [
        (&["--lr", "0.1"][..], "cannot be used with '--lr <RATE>'\n"),
        (
            &["--lr-gamma=2", "--lr", "0.1"],
            "cannot be used with:\n  --lr <RATE>\n  --lr-gamma <γ>\n\n",
        ),
        (&["--seed", "3"], "cannot be used with '--seed <N>'\n"),
        (&["-b", "4"], "cannot be used with '--batch-size <N>'\n"),
        (&["--model-ema"], "cannot be used with '--model-ema"),
    ] {
        let ran = dir.run(&[&["train", "--resume", "run"][..], typed].concat());
        assert!(ran.code == Some(2) && ran.err.contains(named), "{typed:?}: {ran:?}");
    }
}

#[test]
fn the_pipeline_benchmark_refuses_options_of_engines() {
    let dir = TestDir::new();
    for (option, value) in [
        ("--backend", "candle"),
        ("--device", "cpu"),
        ("--isa", "portable"),
        ("--convolution", "im2col"),
        ("--precision", "bf16"),
    ] {
        let ran = dir.run(&["bench", "--what", "pipeline", "--data", "flowers", option, value]);
        assert!(
            ran.code == Some(1) && ran.err.contains(&format!("leave `{option}` out")),
            "{ran:?}"
        );
    }
}

#[test]
fn the_next_step_is_an_option_of_the_command() {
    let dir = TestDir::new();
    dir.save_fresh_weights("w.safetensors");
    let fill = |folder: &str, images: usize| {
        for (class, image) in
            CLASSES.iter().flat_map(|class| (0..images).map(move |image| (class, image)))
        {
            fs::create_dir_all(dir.file(&format!("{folder}/{class}"))).unwrap();
            fs::write(dir.file(&format!("{folder}/{class}/{image}.jpg")), "words").unwrap();
        }
    };
    let check = |args: &[&str], message: &str, option: &str, is_named: bool| {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}: {ran:?}");
        assert!(
            ran.err.contains(message) && ran.err.contains(option) == is_named,
            "{args:?}: {ran:?}"
        );
    };
    let bench = ["bench", "--what", "pipeline", "--data", "images"];
    let evaluate = ["evaluate", "--weights", "w.safetensors", "--data", "images"];
    let parity = ["parity", "--weights", "w.safetensors", "--data", "images"];

    let drawn = "drawn flowers";
    check(&["train", "--data", "images"], "nothing at images", drawn, true);
    check(&["data", "check", "--data", "images"], "nothing at images", drawn, false);
    check(&evaluate, "nothing at images", drawn, false);

    fill("images", 1);
    let fraction = "`--val-fraction`";
    check(&["train", "--data", "images"], "; add images", fraction, true);
    check(&["lr-find", "--data", "images"], "; add images", fraction, true);
    check(&bench, "; add images", fraction, false);
    check(&[&evaluate[..], &["--split", "val"]].concat(), "; add images", fraction, false);

    fill("images", 10);
    let (cause, skip) = ("is not a readable image", "`--on-bad-image skip`");
    check(&["train", "--data", "images"], cause, skip, true);
    check(&["lr-find", "--data", "images"], cause, skip, true);
    check(&evaluate, cause, skip, true);
    check(&bench, cause, skip, false);
    check(&parity, cause, skip, false);
    check(&["data", "preview", "--data", "images", "--out", "a.png"], cause, skip, false);

    fs::rename(dir.file("images"), dir.file("flat")).unwrap();
    fill("images/train", 1);
    fill("images/val", 1);
    let (cause, split) = ("the 5 validation images of 10 images are evaluated", "`--split all`");
    check(&evaluate, cause, split, true);
    check(&parity, cause, split, false);
    let (cause, leave_out) = ("has its own validation images", "leave `--val-fraction` out");
    for command in ["train", "lr-find"] {
        let line = [command, "--data", "images"];
        check(&[&line[..], &["--val-fraction", "0.3"]].concat(), cause, leave_out, true);
        check(&line, "error: ", cause, false);
    }
}

/// The note is printed before the data set is read.
#[test]
fn an_option_without_effect_is_noted() {
    let dir = TestDir::new();
    for (args, message) in [
        (
            &["--momentum", "0.5"][..],
            "`--momentum` has no effect without `--opt sgd` or `--opt sgd-paper`",
        ),
        (
            &["--lr-gamma", "0.5"],
            "`--lr-gamma` has no effect without `--lr-scheduler step` or `--lr-scheduler plateau`",
        ),
        (
            &["--lr-patience", "3", "--lr-scheduler", "step"],
            "`--lr-patience` has no effect without `--lr-scheduler plateau`",
        ),
        (
            &["--val-fraction", "0.2", "--fold", "1/5"],
            "`--val-fraction` has no effect with `--fold`",
        ),
        (&["--sum-order", "any"], "`--sum-order` has no effect without `--ranks`"),
        (&["--parallel", "towers"], "`--parallel` has no effect without `--ranks`"),
        (&["--model-ema-decay", "0.5"], "`--model-ema-decay` has no effect without `--model-ema`"),
        (
            &["--resize-short", "240"],
            "`--resize-short` has no effect without `--crop random` or `--crop center`",
        ),
        (
            &["--crop-scale", "0.5,1", "--crop", "random"],
            "`--crop-scale` has no effect without `--crop random-resized`",
        ),
        (
            &["--ra-magnitude", "5", "--auto-augment", "trivialaugment"],
            "`--ra-magnitude` has no effect without `--auto-augment randaugment`",
        ),
    ] {
        let ran = dir.run(&[&["train", "--data", "none"][..], args].concat());
        assert!(ran.code == Some(1) && ran.err.contains(message), "{args:?}: {ran:?}");
    }
    for args in [
        &["--momentum", "0.5", "--opt", "sgd"][..],
        &["--momentum", "0.5", "--opt", "sgd-paper"],
        &["--lr-scheduler", "plateau", "--lr-gamma", "0.5", "--lr-patience", "3"],
        &["--val-fraction", "0.2"],
        &["--fold", "1/5"],
        &["--model-ema-decay", "0.5", "--recipe", "fast"],
        &["--resize-short", "240", "--crop", "center"],
        &["--crop-scale", "0.5,1"],
    ] {
        let ran = dir.run(&[&["train", "--data", "none"][..], args].concat());
        assert!(!ran.err.contains("has no effect"), "{args:?}: {ran:?}");
    }
    for (opt, has_effect) in [("sgd", true), ("sgd-paper", true), ("adam", false)] {
        let ran = dir.run(&["lr-find", "--data", "none", "--opt", opt, "--momentum", "0.5"]);
        assert_eq!(ran.err.contains("has no effect"), !has_effect, "{opt}: {ran:?}");
    }
}

#[test]
fn only_export_writes_onnx() {
    let dir = TestDir::new();
    dir.save_fresh_weights("w.safetensors");
    for (args, message) in [
        (
            &["convert", "w.safetensors", "w.onnx"][..],
            "use `export --weights w.safetensors w.onnx`",
        ),
        (&["convert", "w.onnx", "w.pth"], "ONNX is written, but not read"),
        (
            &["predict", "a.jpg", "--weights", "w.ONNX"],
            "name the weights file that it was exported from",
        ),
    ] {
        let ran = dir.run(args);
        assert!(ran.code == Some(1) && ran.err.contains(message), "{args:?}: {ran:?}");
    }
}

#[test]
fn the_layers_of_every_network_fit_80_columns() {
    let dir = TestDir::new();
    for variant in ["tutorial", "original", "original-norm-first", "torchvision"] {
        for classes in ["2", "1000", "65536"] {
            let output = dir.succeeds(&["summary", "--variant", variant, "--classes", classes]);
            for line in output.lines() {
                assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line}");
            }
            assert!(output.contains("classifier") && output.contains("→"), "{output}");
        }
    }
}

#[test]
fn the_work_of_ranks_is_printed_in_80_columns() {
    let dir = TestDir::new();
    for (variant, parallel, ranks, total) in [
        // All gradients are sent, of 14,591,685 parameters.
        ("tutorial", "data", "2", "58,366,740"),
        ("tutorial", "hybrid", "8", " M "),
        ("original", "towers", "2", "30,536,360"),
        ("original-norm-first", "towers", "2", "30,438,056"),
    ] {
        let args = ["summary", "--variant", variant, "--parallel", parallel, "--ranks", ranks];
        let output = dir.succeeds(&args);
        for line in output.lines() {
            assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line}");
        }
        if (variant, parallel) == ("original", "towers") {
            let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cluster.md");
            assert!(fs::read_to_string(page).unwrap().contains(&output), "{output}");
        }
        let totals = output.split_once("\ntotal ").expect("a line with totals").1;
        assert!(totals.contains(total), "{output}");
    }
    for (args, code, message) in [
        (&["--parallel", "towers"][..], 1, "`--parallel` cannot be towers: the network has no"),
        (
            &["--parallel", "towers", "--variant", "original", "--ranks", "4"],
            1,
            "`--ranks` cannot be 4: ",
        ),
        (&["--ranks", "4"], 2, "--parallel <MODE>"),
        (&["--parallel", "data", "--weights", "w.pth"], 2, "cannot be used with"),
    ] {
        let ran = dir.run(&[&["summary"], args].concat());
        assert!(ran.code == Some(code) && ran.err.contains(message), "{args:?}: {ran:?}");
    }
}

/// A terminal shows a Chinese character in two columns.
#[test]
fn tables_and_figures_show_chinese_names() {
    const UNKNOWN: &str = "\u{10fffd}";
    let dir = TestDir::with_flowers(10);
    let rename = |class: &str, name: &str| {
        fs::rename(dir.file("flowers").join(class), dir.file("flowers").join(name)).unwrap();
    };
    rename("daisy", "雛菊");
    rename("roses", "薔薇の花");
    let output = dir.succeeds(&["data", "check", "--data", "flowers"]);
    // Ten columns for the name, a space, and a number in the last two of seven columns.
    for (name, columns) in [("雛菊", 4), ("薔薇の花", 8), ("dandelion", 9), ("sunflowers", 10)]
    {
        let row = format!("{name}{}10 ", " ".repeat(16 - columns));
        assert!(output.lines().any(|line| line.starts_with(&row)), "{row}: {output}");
    }

    for class in ["雛菊", "薔薇の花", "dandelion", "sunflowers", "tulips"] {
        rename(class, &format!("{class}{UNKNOWN}"));
    }
    let preview = |home: &str| {
        let mut command =
            dir.command(&["data", "preview", "--data", "flowers", "--out", "seen.png"]);
        command.env("HOME", dir.file(home)).env_remove("XDG_DATA_HOME");
        let err = String::from_utf8(command.output().unwrap().stderr).unwrap();
        (err, fs::read(dir.file("seen.png")).unwrap())
    };
    let (err, boxes) = preview("none");
    assert_eq!(err.matches("U+10FFFD").count(), 1, "{err}");
    assert!(err.contains("fonts-noto"), "{err}");
    if cfg!(target_os = "linux") {
        for folder in ["home/.fonts", "home/.local/share/fonts"] {
            fs::create_dir_all(dir.file(folder)).unwrap();
            fs::copy("tests/goldens/one.ttf", dir.file(folder).join("one.ttf")).unwrap();
        }
        let (err, drawn) = preview("home");
        assert!(!err.contains("U+10FFFD") && drawn != boxes, "{err}");
    }
}
