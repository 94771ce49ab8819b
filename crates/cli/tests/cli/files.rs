//! Untrusted files, and files for other programs: which weights and options are read, how their
//! content is printed, and which files `convert` writes.

use std::{
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use alexnet_core::{Array, Normalization, State, alexnet::Variant, checkpoint, weights};

use crate::{CLASSES, Ran, TestDir};

/// Runs a command and asserts that it ends within a minute.
fn run_briefly(dir: &TestDir, args: &[&str]) -> Ran {
    let mut command = dir.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{args:?} does not end");
        }
        sleep(Duration::from_millis(20));
    }
    Ran::from(child.wait_with_output().unwrap(), args)
}

#[test]
fn the_folder_of_a_run_names_its_best_weights() {
    let dir = TestDir::with_flowers(1);
    fs::create_dir_all(dir.file("run/weights")).unwrap();
    dir.save_fresh_weights("run/weights/best.safetensors");
    let image = "flowers/roses/roses_0001.jpg";
    let by_file = dir.succeeds(&["predict", image, "--weights", "run/weights/best.safetensors"]);
    let ran = dir.run(&["predict", image, "--weights", "run"]);
    assert_eq!((ran.code, ran.out), (Some(0), by_file));
    assert!(ran.err.contains("using the weights run/weights/best.safetensors"), "{}", ran.err);

    checkpoint::save(dir.file("run/checkpoint.safetensors"), &State::default(), &0).unwrap();
    for (weights, message) in [
        ("flowers", "flowers is a folder without weights/best.safetensors"),
        ("run/checkpoint.safetensors", "it is the checkpoint of a run"),
    ] {
        for args in [&["predict", image, "--weights", weights][..], &["convert", weights, "a.pth"]]
        {
            let ran = dir.run(args);
            assert!(ran.code == Some(1) && ran.err.contains(message), "{ran:?}");
        }
    }
}

#[test]
fn the_content_of_a_weights_file_is_printed() {
    let dir = TestDir::new();
    dir.save_fresh_weights("w.safetensors");
    let output = dir.succeeds(&["summary", "--weights", "w.safetensors"]);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "w.safetensors");
    assert_eq!(lines[1], format!("classes: {}", CLASSES.join(", ")));
    assert!(lines[2].starts_with("images: 224×224, mean [0.5, 0.5, 0.5]"), "{output}");
    assert!(output.contains("checksum: correct\n"), "{output}");
    assert!(
        output.contains("numbers: all finite") && output.contains("tutorial with 5 classes"),
        "{output}"
    );
    assert_eq!(dir.run(&["summary", "--weights", "w.safetensors", "--classes", "3"]).code, Some(2));
    assert!(output.lines().all(|line| line.chars().count() <= 80), "{output}");
    let row = output.lines().find(|line| line.starts_with("features.0.weight ")).unwrap();
    assert!(row.contains(" 48×3×11×11 ") && row.ends_with(" 0"), "{row}");

    let json = dir.succeeds(&["summary", "--weights", "w.safetensors", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["variant"], &json["parameters"]), (&"tutorial".into(), &14_591_685.into()));
    let weights = &json["weights"];
    assert_eq!((&weights["checksum"], &weights["training"]), (&"correct".into(), &().into()));
    let tensors = weights["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 16);
    assert_eq!(tensors[10]["shape"], serde_json::json!([2048, 4608]));
}

/// Weights in a run folder are those of an epoch of the run.
#[test]
fn the_training_of_weights_is_printed() {
    let dir = TestDir::with_flowers(2);
    let train = ["train", "--data", "flowers", "--val-fraction", "0.5", "--epochs", "2"];
    dir.succeeds(&[&train[..], &["--seed", "7", "--run-dir", "run"]].concat());
    let output = dir.succeeds(&["summary", "--weights", "run/weights/last.safetensors"]);
    assert!(output.contains("run: run, epoch 2 of 2, val_accuracy "), "{output}");
    assert!(
        output.contains("options: tutorial, seed=7, val-fraction=0.5, data=flowers\n"),
        "{output}"
    );
    let json = dir.succeeds(&["summary", "--weights", "run", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let training = &json["weights"]["training"];
    assert_eq!((&training["run"], &training["options"]["seed"]), (&"run".into(), &7.into()));
}

#[test]
fn images_of_other_sizes_fit_if_their_features_do() {
    let dir = TestDir::new();
    let output = dir.succeeds(&["summary", "--input-size", "230"]);
    assert!(output.contains(" 230×230×3\n") && output.contains("14,591,685"), "{output}");
    for (variant, sizes) in [("tutorial", "223 to 254"), ("original", "227 to 258")] {
        for size in ["222", "300"] {
            let ran = dir.run(&["summary", "--variant", variant, "--input-size", size]);
            let message = format!(
                "error: `--input-size` cannot be {size}: the first linear layer of {variant} needs \
                 the features of images of {sizes} pixels"
            );
            assert!(ran.code == Some(1) && ran.err.trim_end() == message, "{ran:?}");
        }
    }
    assert_eq!(dir.run(&["summary", "--input-size", "230", "--parallel", "data"]).code, Some(2));
}

/// A file that was changed by another program or by a disk error.
#[test]
fn a_weights_file_with_a_wrong_checksum_is_refused_unless_it_is_ignored() {
    let dir = TestDir::with_flowers(2);
    dir.save_fresh_weights("w.safetensors");
    let mut bytes = fs::read(dir.file("w.safetensors")).unwrap();
    // Flips the sign of the last weight.
    *bytes.last_mut().unwrap() ^= 0x80;
    fs::write(dir.file("w.safetensors"), bytes).unwrap();
    let next_step = "`convert w.safetensors OUT --ignore-checksum`";
    for args in [
        &["predict", "flowers", "--weights", "w.safetensors"][..],
        &["export", "a.onnx", "--weights", "w.safetensors"],
        &["convert", "w.safetensors", "a.pth"],
        &["train", "--data", "flowers", "--val-fraction", "0.5", "--weights", "w.safetensors"],
    ] {
        let ran = dir.run(args);
        assert!(ran.code == Some(1) && ran.err.contains(next_step), "{ran:?}");
    }
    let ran = dir.run(&["summary", "--weights", "w.safetensors"]);
    assert!(ran.code == Some(1) && ran.out.contains("tutorial with 5 classes"), "{ran:?}");
    let changed = "w.safetensors has changed since it was written";
    assert!(
        ran.out.contains(&format!("checksum: {changed}")) && ran.out.contains(next_step),
        "{ran:?}"
    );
    assert!(
        ran.err.contains(&format!("error: {changed}")) && ran.err.contains(next_step),
        "{ran:?}"
    );
    dir.succeeds(&["convert", "w.safetensors", "new.safetensors", "--ignore-checksum"]);
    let output = dir.succeeds(&["summary", "--weights", "new.safetensors"]);
    assert!(output.contains("checksum: correct"), "{output}");
    dir.succeeds(&["convert", "new.safetensors", "new.pth"]);
    let output = dir.succeeds(&["summary", "--weights", "new.pth"]);
    assert!(output.contains("checksum: none"), "{output}");
}

#[test]
fn class_indices_are_written_for_the_tutorial_and_existing_ones_are_not_overwritten() {
    let dir = TestDir::new();
    dir.save_fresh_weights("w.safetensors");
    fs::create_dir(dir.file("out")).unwrap();
    let ran = dir.run(&["convert", "w.safetensors", "out/AlexNet.pth"]);
    assert!(ran.code == Some(0) && ran.err.contains("out/class_indices.json: names of"), "{ran:?}");
    let names =
        alexnet_interchange::class_indices::read(dir.file("out/class_indices.json")).unwrap();
    assert_eq!(names, CLASSES);
    // The same names again give no message, and other names are not overwritten.
    let again = dir.run(&["convert", "w.safetensors", "out/AlexNet.pth"]);
    assert!(again.code == Some(0) && !again.err.contains("class_indices.json"), "{again:?}");
    let mine = r#"{"0": "a", "1": "b", "2": "c", "3": "d", "4": "e"}"#;
    fs::write(dir.file("out/class_indices.json"), mine).unwrap();
    let ran = dir.run(&["convert", "w.safetensors", "out/AlexNet.pth"]);
    assert!(
        ran.code == Some(0) && ran.err.contains("has other classes and was not changed"),
        "{ran:?}"
    );
    assert_eq!(fs::read_to_string(dir.file("out/class_indices.json")).unwrap(), mine);
    dir.succeeds(&["convert", "w.safetensors", "copy.safetensors"]);
    assert!(!dir.file("class_indices.json").exists());

    for (args, message) in [
        (
            ["convert", "net.onnx", "a.pth"],
            "net.onnx cannot be converted: ONNX is written, but not read",
        ),
        (["convert", "w.safetensors", "a.onnx"], "use `export --weights w.safetensors a.onnx`"),
    ] {
        let ran = dir.run(&args);
        assert!(ran.code == Some(1) && ran.err.contains(message), "{ran:?}");
    }
}

/// A name that clears the screen, reverses the direction of text and starts a line that looks like
/// an error message.
const EVIL: &str = "\u{1b}[2J\u{202e}\nerror: mine\u{9b}";

/// Asserts that the name is printed in escaped form.
#[track_caller]
fn check(ran: &Ran) {
    for text in [&ran.out, &ran.err] {
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{ran:?}");
        assert!(!text.lines().any(|line| line.starts_with("error: mine")), "{ran:?}");
        assert!(text.len() < 40_000, "{} bytes", text.len());
    }
    assert!(format!("{}{}", ran.out, ran.err).contains(r"\u{1b}[2J\u{202e}"), "{ran:?}");
}

/// Names of files, tensors and classes, values of options and of metadata.
#[cfg(unix)]
#[test]
fn names_are_escaped_and_truncated() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("w.safetensors");
    let evil = EVIL;
    fs::copy(dir.file("flowers/roses/roses_0001.jpg"), dir.file(&format!("{evil}.jpg"))).unwrap();
    fs::write(dir.file(&format!("{evil}.png")), b"words").unwrap();
    let [jpg, png] = ["jpg", "png"].map(|end| format!("{evil}.{end}"));
    check(&dir.run(&["predict", &jpg, &png, "--weights", "w.safetensors"]));
    check(&dir.run(&["predict", &jpg, "--topk", evil]));
    check(&dir.run(&["convert", "w.safetensors", &format!("{evil}.pth")]));
    fs::write(dir.file("c.toml"), format!("{:?} = 1\n", evil.replace('\u{9b}', ""))).unwrap();
    check(&dir.run(&["train", "--config", "c.toml"]));

    let metadata = weights::Metadata {
        variant: Variant::Tutorial,
        classes: vec![evil.into(), "b".into()],
        input_size: 224,
        resize_crop: None,
        normalization: Normalization::HALF,
        exif_orientation: Default::default(),
        precision: Default::default(),
    };
    let long = evil.to_owned() + &"x".repeat(9 << 20);
    let tensors = [(long, Array { shape: vec![1], values: vec![0.0] })].into();
    weights::save(dir.file("t.safetensors"), &metadata, &tensors).unwrap();
    check(&dir.run(&["predict", &jpg, "--weights", "t.safetensors"]));
}

/// Folders, classes and images of a data set, and the run and figures made from them.
#[cfg(unix)]
#[test]
fn names_in_a_dataset_are_escaped() {
    let dir = TestDir::with_flowers(2);
    dir.save_fresh_weights("w.safetensors");
    let image = |subset: &str, class: &str, name: &str, from: &str| {
        let folder = dir.file(EVIL).join(subset).join(class);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(dir.file("flowers").join(from), folder.join(name)).unwrap();
    };
    let (name, other) = (format!("{EVIL}.jpg"), format!("2{EVIL}.jpg"));
    image("train", EVIL, &name, "roses/roses_0001.jpg");
    image("train", "b", &name, "daisy/daisy_0001.jpg");
    image("val", EVIL, &name, "daisy/daisy_0001.jpg");
    image("val", "b", &name, "daisy/daisy_0001.jpg");
    image("val", "b", &other, "tulips/tulips_0001.jpg");
    let train_folder = dir.file(EVIL).join("train");
    fs::write(train_folder.join("b").join(format!("a.{EVIL}")), "words").unwrap();
    check(&dir.run(&["data", "check", "--data", EVIL, "--gallery", &name]));
    check(&dir.run(&["data", "preview", "--data", EVIL, "--out", &name]));

    let run = format!("{EVIL}run");
    let bad = dir.file(EVIL).join("val/b").join(&other);
    fs::write(&bad, "words").unwrap();
    let train = ["train", "--data", EVIL, "--epochs", "1", "--batch-size", "2", "--run-dir", &run];
    check(&dir.run(&train));
    let trained = dir.run(&[&train[..], &["--on-bad-image", "skip"]].concat());
    assert_eq!(trained.code, Some(0), "{trained:?}");
    check(&trained);
    check(&dir.run(&train));
    check(&dir.run(&["data", "check", "--data", EVIL]));
    check(&dir.run(&["summary", "--weights", &run]));
    check(&dir.run(&["evaluate", "--weights", &run]));
    let evaluate = ["evaluate", "--weights", &run, "--split", "all", "--on-bad-image", "skip"];
    let evaluated = dir.run(&evaluate);
    assert_eq!(evaluated.code, Some(0), "{evaluated:?}");
    check(&evaluated);
    check(&dir.run(&["evaluate", "--weights", "w.safetensors", "--data", EVIL]));
    check(&dir.run(&["train", "--resume", &run, "--data", "flowers"]));

    for subset in ["train/a", "train/b", "val/a", &format!("val/{EVIL}")] {
        fs::create_dir_all(dir.file("subsets").join(subset)).unwrap();
    }
    check(&dir.run(&["data", "check", "--data", "subsets"]));
    fs::create_dir_all(dir.file("one").join(EVIL)).unwrap();
    check(&dir.run(&["data", "check", "--data", "one"]));
    check(&dir.run(&["data", "synth", "--out", &format!("{EVIL}drawn"), "--per-class", "1"]));
    check(&dir.run(&["train", EVIL]));
    check(&dir.run(&["train", "--device", EVIL]));
    check(&dir.run(&["train", "--data", "flowers", "--val-fraction", "0.5", "--freeze", EVIL]));
    let output = dir.command(&["doctor"]).env("LIBTORCH", dir.file(EVIL)).output().unwrap();
    check(&Ran::from(output, &["doctor"]));
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_device_is_refused_and_not_waited_for() {
    let dir = TestDir::new();
    dir.save_fresh_weights("w.safetensors");
    let status = Command::new("mkfifo").arg(dir.file("pipe.jpg")).status().unwrap();
    assert!(status.success());
    for path in ["pipe.jpg", "/dev/zero"] {
        for args in [
            &["predict", path, "--weights", "w.safetensors"][..],
            &["predict", "a.jpg", "--weights", path],
            &["convert", path, "a.pth"],
            &["convert", "w.safetensors", "a.pth", "--class-indices", path],
            &["train", "--config", path],
        ] {
            let ran = run_briefly(&dir, args);
            assert!(
                ran.code == Some(1) && ran.err.contains("a pipe or a device, not a file"),
                "{ran:?}"
            );
        }
    }
}

#[test]
fn a_large_file_of_options_is_refused_and_a_run_names_its_own() {
    let dir = TestDir::new();
    fs::write(dir.file("large.toml"), "# \n".repeat(1 << 20)).unwrap();
    let ran = dir.run(&["train", "--config", "large.toml"]);
    assert!(ran.code == Some(1) && ran.err.contains("it has more than 1048576 bytes"), "{ran:?}");
    fs::create_dir(dir.file("run")).unwrap();
    let ran = dir.run(&["train", "--config", "run"]);
    assert!(
        ran.code == Some(1) && ran.err.contains("run is a folder without an args.toml"),
        "{ran:?}"
    );
    fs::write(dir.file("run/args.toml"), "lr = -1\n").unwrap();
    let ran = dir.run(&["train", "--config", "run"]);
    assert!(ran.code == Some(1) && ran.err.contains("run/args.toml: "), "{ran:?}");
}
