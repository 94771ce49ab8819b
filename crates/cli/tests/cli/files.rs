//! Files of strangers and for others: what is taken for weights or options, what is printed of it, what is written beside.

use std::{
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use alexnet_core::{Array, Normalization, State, alexnet::Variant, checkpoint, weights};

use crate::{CLASSES, Place, Ran};

/// Runs a command that must end by itself, soon.
fn run_briefly(place: &Place, args: &[&str]) -> Ran {
    let mut command = place.command(args);
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
fn the_folder_of_a_run_stands_for_its_weights() {
    let place = Place::with_flowers(1);
    fs::create_dir_all(place.file("run/weights")).unwrap();
    place.save_fresh_weights("run/weights/best.safetensors");
    let image = "flowers/roses/roses_0001.jpg";
    let by_file = place.succeeds(&["predict", image, "--weights", "run/weights/best.safetensors"]);
    let ran = place.run(&["predict", image, "--weights", "run"]);
    assert_eq!((ran.code, ran.out), (Some(0), by_file));
    assert!(ran.err.contains("using the weights run/weights/best.safetensors"), "{}", ran.err);

    checkpoint::save(place.file("run/checkpoint.safetensors"), &State::default(), &0).unwrap();
    for (weights, words) in [
        ("flowers", "flowers is a folder, and holds no weights/best.safetensors"),
        ("run/checkpoint.safetensors", "it is the checkpoint of a run"),
    ] {
        for args in [&["predict", image, "--weights", weights][..], &["convert", weights, "a.pth"]] {
            let ran = place.run(args);
            assert!(ran.code == Some(1) && ran.err.contains(words), "{ran:?}");
        }
    }
}

#[test]
fn what_is_in_a_weights_file_is_told() {
    let place = Place::new();
    place.save_fresh_weights("w.safetensors");
    let said = place.succeeds(&["summary", "--weights", "w.safetensors"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "w.safetensors");
    assert_eq!(lines[1], format!("classes: {}", CLASSES.join(", ")));
    assert!(lines[2].starts_with("images: 224×224, mean [0.5, 0.5, 0.5]"), "{said}");
    assert!(said.contains("checksum: correct\n"), "{said}");
    assert!(said.contains("numbers: all finite") && said.contains("tutorial with 5 classes"), "{said}");
    assert_eq!(place.run(&["summary", "--weights", "w.safetensors", "--classes", "3"]).code, Some(2));
}

/// A file that another program changed, or the disk: nobody takes it unasked, and there is a way to go on.
#[test]
fn a_changed_weights_file_is_told_and_can_be_taken() {
    let place = Place::with_flowers(2);
    place.save_fresh_weights("w.safetensors");
    let mut bytes = fs::read(place.file("w.safetensors")).unwrap();
    // The sign of the last weight.
    *bytes.last_mut().unwrap() ^= 0x80;
    fs::write(place.file("w.safetensors"), bytes).unwrap();
    let way = "`convert w.safetensors OUT --ignore-checksum`";
    for args in [
        &["predict", "flowers", "--weights", "w.safetensors"][..],
        &["export", "a.onnx", "--weights", "w.safetensors"],
        &["convert", "w.safetensors", "a.pth"],
        &["train", "--data", "flowers", "--val-fraction", "0.5", "--weights", "w.safetensors"],
    ] {
        let ran = place.run(args);
        assert!(ran.code == Some(1) && ran.err.contains(way), "{ran:?}");
    }
    let ran = place.run(&["summary", "--weights", "w.safetensors"]);
    assert!(ran.code == Some(1) && ran.out.contains("tutorial with 5 classes"), "{ran:?}");
    let changed = "w.safetensors has changed since it was written";
    assert!(ran.out.contains(&format!("checksum: {changed}")) && ran.out.contains(way), "{ran:?}");
    assert!(ran.err.contains(&format!("error: {changed}")) && ran.err.contains(way), "{ran:?}");
    place.succeeds(&["convert", "w.safetensors", "new.safetensors", "--ignore-checksum"]);
    let said = place.succeeds(&["summary", "--weights", "new.safetensors"]);
    assert!(said.contains("checksum: correct"), "{said}");
    place.succeeds(&["convert", "new.safetensors", "new.pth"]);
    let said = place.succeeds(&["summary", "--weights", "new.pth"]);
    assert!(said.contains("checksum: none"), "{said}");
}

#[test]
fn the_names_of_classes_are_written_for_the_tutorial_and_others_are_kept() {
    let place = Place::new();
    place.save_fresh_weights("w.safetensors");
    fs::create_dir(place.file("out")).unwrap();
    let ran = place.run(&["convert", "w.safetensors", "out/AlexNet.pth"]);
    assert!(ran.code == Some(0) && ran.err.contains("out/class_indices.json: the names"), "{ran:?}");
    let names = alexnet_interchange::class_indices::read(place.file("out/class_indices.json")).unwrap();
    assert_eq!(names, CLASSES);
    // The same again needs no word, other names are not lost.
    let again = place.run(&["convert", "w.safetensors", "out/AlexNet.pth"]);
    assert!(again.code == Some(0) && !again.err.contains("class_indices.json"), "{again:?}");
    let mine = r#"{"0": "a", "1": "b", "2": "c", "3": "d", "4": "e"}"#;
    fs::write(place.file("out/class_indices.json"), mine).unwrap();
    let ran = place.run(&["convert", "w.safetensors", "out/AlexNet.pth"]);
    assert!(ran.code == Some(0) && ran.err.contains("has other classes and was not changed"), "{ran:?}");
    assert_eq!(fs::read_to_string(place.file("out/class_indices.json")).unwrap(), mine);
    place.succeeds(&["convert", "w.safetensors", "copy.safetensors"]);
    assert!(!place.file("class_indices.json").exists());

    for (args, words) in [
        (["convert", "net.onnx", "a.pth"], "net.onnx cannot be converted: ONNX is written, but not read"),
        (["convert", "w.safetensors", "a.onnx"], "use `export --weights w.safetensors a.onnx`"),
    ] {
        let ran = place.run(&args);
        assert!(ran.code == Some(1) && ran.err.contains(words), "{ran:?}");
    }
}

/// A name that clears the screen, turns the direction of writing and begins a line that looks like ours.
const EVIL: &str = "\u{1b}[2J\u{202e}\nerror: mine\u{9b}";

/// Whether the name is shown, and does nothing.
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
fn no_name_leads_the_terminal_or_fills_it() {
    let place = Place::with_flowers(1);
    place.save_fresh_weights("w.safetensors");
    let evil = EVIL;
    fs::copy(place.file("flowers/roses/roses_0001.jpg"), place.file(&format!("{evil}.jpg"))).unwrap();
    fs::write(place.file(&format!("{evil}.png")), b"words").unwrap();
    let [jpg, png] = ["jpg", "png"].map(|end| format!("{evil}.{end}"));
    check(&place.run(&["predict", &jpg, &png, "--weights", "w.safetensors"]));
    check(&place.run(&["predict", &jpg, "--topk", evil]));
    check(&place.run(&["convert", "w.safetensors", &format!("{evil}.pth")]));
    fs::write(place.file("c.toml"), format!("{:?} = 1\n", evil.replace('\u{9b}', ""))).unwrap();
    check(&place.run(&["train", "--config", "c.toml"]));

    let metadata = weights::Metadata {
        variant: Variant::Tutorial,
        classes: vec![evil.into(), "b".into()],
        input_size: 224,
        normalization: Normalization::HALF,
        exif_orientation: Default::default(),
    };
    let long = evil.to_owned() + &"x".repeat(9 << 20);
    let tensors = [(long, Array { shape: vec![1], values: vec![0.0] })].into();
    weights::save(place.file("t.safetensors"), &metadata, &tensors).unwrap();
    check(&place.run(&["predict", &jpg, "--weights", "t.safetensors"]));
}

/// Folders, classes and images of a data set, and what is made of them.
#[cfg(unix)]
#[test]
fn no_name_in_a_data_set_leads_the_terminal() {
    let place = Place::with_flowers(2);
    place.save_fresh_weights("w.safetensors");
    let image = |half: &str, class: &str, name: &str, from: &str| {
        let folder = place.file(EVIL).join(half).join(class);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(place.file("flowers").join(from), folder.join(name)).unwrap();
    };
    let (name, other) = (format!("{EVIL}.jpg"), format!("2{EVIL}.jpg"));
    image("train", EVIL, &name, "roses/roses_0001.jpg");
    image("train", "b", &name, "daisy/daisy_0001.jpg");
    image("val", EVIL, &name, "daisy/daisy_0001.jpg");
    image("val", "b", &name, "daisy/daisy_0001.jpg");
    image("val", "b", &other, "tulips/tulips_0001.jpg");
    let train = place.file(EVIL).join("train");
    fs::write(train.join("b").join(format!("a.{EVIL}")), "words").unwrap();
    check(&place.run(&["data", "check", "--data", EVIL, "--gallery", &name]));
    check(&place.run(&["data", "preview", "--data", EVIL, "--out", &name]));

    let run = format!("{EVIL}run");
    let bad = place.file(EVIL).join("val/b").join(&other);
    fs::write(&bad, "words").unwrap();
    let begin = ["train", "--data", EVIL, "--epochs", "1", "--batch-size", "2", "--run-dir", &run];
    check(&place.run(&begin));
    let trained = place.run(&[&begin[..], &["--on-bad-image", "skip"]].concat());
    assert_eq!(trained.code, Some(0), "{trained:?}");
    check(&trained);
    check(&place.run(&begin));
    check(&place.run(&["data", "check", "--data", EVIL]));
    check(&place.run(&["summary", "--weights", &run]));
    check(&place.run(&["evaluate", "--weights", &run]));
    let evaluate = ["evaluate", "--weights", &run, "--split", "all", "--on-bad-image", "skip"];
    let evaluated = place.run(&evaluate);
    assert_eq!(evaluated.code, Some(0), "{evaluated:?}");
    check(&evaluated);
    check(&place.run(&["evaluate", "--weights", "w.safetensors", "--data", EVIL]));
    check(&place.run(&["train", "--resume", &run, "--data", "flowers"]));

    for half in ["train/a", "train/b", "val/a", &format!("val/{EVIL}")] {
        fs::create_dir_all(place.file("halves").join(half)).unwrap();
    }
    check(&place.run(&["data", "check", "--data", "halves"]));
    fs::create_dir_all(place.file("one").join(EVIL)).unwrap();
    check(&place.run(&["data", "check", "--data", "one"]));
    check(&place.run(&["data", "synth", "--out", &format!("{EVIL}drawn"), "--per-class", "1"]));
    check(&place.run(&["train", EVIL]));
    check(&place.run(&["train", "--device", EVIL]));
    check(&place.run(&["train", "--data", "flowers", "--val-fraction", "0.5", "--freeze", EVIL]));
    let output = place.command(&["doctor"]).env("LIBTORCH", place.file(EVIL)).output().unwrap();
    check(&Ran::from(output, &["doctor"]));
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_device_is_refused_and_not_waited_for() {
    let place = Place::new();
    place.save_fresh_weights("w.safetensors");
    let made = Command::new("mkfifo").arg(place.file("pipe.jpg")).status().unwrap();
    assert!(made.success());
    for path in ["pipe.jpg", "/dev/zero"] {
        for args in [
            &["predict", path, "--weights", "w.safetensors"][..],
            &["predict", "a.jpg", "--weights", path],
            &["convert", path, "a.pth"],
            &["convert", "w.safetensors", "a.pth", "--class-indices", path],
            &["train", "--config", path],
        ] {
            let ran = run_briefly(&place, args);
            assert!(ran.code == Some(1) && ran.err.contains("a pipe or a device, not a file"), "{ran:?}");
        }
    }
}

#[test]
fn a_file_of_options_is_small_and_a_run_stands_for_its_own() {
    let place = Place::new();
    fs::write(place.file("large.toml"), "# \n".repeat(1 << 20)).unwrap();
    let ran = place.run(&["train", "--config", "large.toml"]);
    assert!(ran.code == Some(1) && ran.err.contains("it has more than 1048576 bytes"), "{ran:?}");
    fs::create_dir(place.file("run")).unwrap();
    let ran = place.run(&["train", "--config", "run"]);
    assert!(ran.code == Some(1) && ran.err.contains("run is a folder without an args.toml"), "{ran:?}");
    fs::write(place.file("run/args.toml"), "lr = -1\n").unwrap();
    let ran = place.run(&["train", "--config", "run"]);
    assert!(ran.code == Some(1) && ran.err.contains("run/args.toml: "), "{ran:?}");
}
