//! Data sets in other forms than the flower photos: moved, extended, packed, split by folders of
//! various names, or with other files among the images.

use std::fs;

use serde_json::Value;

use crate::{CLASSES, Ran, TestDir, copy};

/// Creates a folder with `flowers/` and a run on them, with seven training and three validation
/// images of each of the five classes.
fn dir_with_run() -> TestDir {
    let dir = TestDir::with_flowers(10);
    let options =
        ["--data", "flowers", "--seed", "5", "--val-fraction", "0.3", "--epochs", "1", "-b", "35"];
    dir.succeeds(&[&["train", "--run-dir", "run"], &options[..]].concat());
    dir
}

struct Evaluated {
    images: u64,
    report: Value,
    messages: String,
}

/// Evaluates the weights of the run.
fn evaluate(dir: &TestDir, more: &[&str]) -> Evaluated {
    let args = ["evaluate", "--weights", "run/weights/best.safetensors", "--format", "json"];
    let ran = dir.run(&[&args[..], more].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    Evaluated { images: report["images"].as_u64().unwrap(), report, messages: ran.err }
}

fn fails(dir: &TestDir, more: &[&str]) -> String {
    let ran = dir.run(&[&["evaluate", "--weights", "run/weights/best.safetensors"], more].concat());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    ran.err
}

/// No training image may be used as a validation image.
#[test]
fn a_run_recognizes_its_images_after_they_have_moved() {
    let dir = dir_with_run();
    let own = evaluate(&dir, &[]);
    assert_eq!(own.images, 15);
    let same = |found: &Evaluated| {
        assert_eq!(
            (found.images, &found.report["loss"]),
            (15, &own.report["loss"]),
            "{}",
            found.messages
        );
        assert!(found.messages.contains("split as in the run"), "{}", found.messages);
    };
    copy(&dir.file("flowers"), &dir.file("elsewhere"));
    let copied = evaluate(&dir, &["--data", "elsewhere"]);
    same(&copied);
    assert!(
        copied.messages.contains("by the paths of the images: its 15 validation images\n"),
        "{}",
        copied.messages
    );
    let train = evaluate(&dir, &["--data", "elsewhere", "--split", "train"]);
    assert!(
        train.images == 35 && train.messages.contains("its 35 training images"),
        "{}",
        train.messages
    );
    assert_eq!(evaluate(&dir, &["--data", "elsewhere", "--split", "all"]).images, 50);

    // A copy that is split into subsets with another seed.
    dir.succeeds(&["data", "split", "--data", "flowers", "--copy", "subsets", "--seed", "9"]);
    let subsets = evaluate(&dir, &["--data", "subsets"]);
    same(&subsets);
    assert!(
        subsets.messages.contains("the folders here split them differently"),
        "{}",
        subsets.messages
    );

    // Images are added, to nearly three times as many.
    for class in CLASSES {
        for k in 0..18 {
            let image = dir.file(&format!("elsewhere/{class}/{class}_0001.jpg"));
            fs::copy(image, dir.file(&format!("elsewhere/{class}/new_{k}.jpg"))).unwrap();
        }
    }
    let grown = evaluate(&dir, &["--data", "elsewhere"]);
    same(&grown);
    assert!(grown.messages.contains("; 90 images are new and in no subset"), "{}", grown.messages);

    // One validation image is deleted, then all of them.
    fs::rename(dir.file("flowers"), dir.file("renamed")).unwrap();
    assert!(fails(&dir, &[]).contains("name the folder that holds them with `--data`"));
    let run: Value =
        serde_json::from_slice(&fs::read(dir.file("run/split.json")).unwrap()).unwrap();
    let validating = run["val"].as_array().unwrap();
    let remove =
        |item: &Value| fs::remove_file(dir.file("renamed").join(item["path"].as_str().unwrap()));
    remove(&validating[0]).unwrap();
    let fewer = evaluate(&dir, &["--data", "renamed"]);
    assert!(
        fewer.images == 14
            && fewer.messages.contains("14 of its 15 validation images; 1 are missing"),
        "{}",
        fewer.messages
    );
    validating[1..].iter().for_each(|item| remove(item).unwrap());
    let message = fails(&dir, &["--data", "renamed"]);
    assert!(
        message.contains("none of the run's 15 validation images")
            && message.contains("`--split all`"),
        "{message}"
    );
}

#[test]
fn all_images_that_are_not_of_the_run_are_evaluated_with_a_note() {
    let dir = dir_with_run();
    dir.succeeds(&["data", "synth", "--out", "others", "--per-class", "3", "--seed", "7"]);
    for class in CLASSES {
        for k in 1..4 {
            let name = |stem: &str| dir.file(&format!("others/{class}/{stem}_000{k}.jpg"));
            fs::rename(name(class), name("other")).unwrap();
        }
    }
    let others = evaluate(&dir, &["--data", "others"]);
    assert_eq!(others.images, 15);
    assert!(
        others.messages.contains("they are not the run's images: all 15 images are evaluated"),
        "{}",
        others.messages
    );
    let message = fails(&dir, &["--data", "others", "--split", "val"]);
    assert!(message.contains("leaves no image to validate with"), "{message}");
    let message = fails(&dir, &["--data", "others", "--split", "test"]);
    assert!(message.contains("no test subset") && message.contains("`--split all`"), "{message}");

    // Weights outside of a run folder, on images that are split by folders.
    fs::copy(dir.file("run/weights/best.safetensors"), dir.file("alone.safetensors")).unwrap();
    dir.succeeds(&["data", "split", "--data", "flowers", "--copy", "subsets"]);
    let ran = dir.run(&["evaluate", "--weights", "alone.safetensors", "--data", "subsets"]);
    assert!(ran.out.starts_with("images 5 "), "{ran:?}");
    assert!(ran.err.contains("the 5 validation images of 50 images are evaluated"), "{ran:?}");
    let ran = dir.run(&[
        "evaluate",
        "--weights",
        "alone.safetensors",
        "--data",
        "flowers",
        "--split",
        "val",
    ]);
    assert!(ran.out.starts_with("images 5 ") && ran.err.contains("5 of 50 images"), "{ran:?}");

    // Most images are not of the run, a few are.
    for class in CLASSES {
        copy(&dir.file("flowers").join(class), &dir.file("mixed").join(class));
        for k in 0..25 {
            let image = dir.file(&format!("others/{class}/other_0001.jpg"));
            fs::copy(image, dir.file(&format!("mixed/{class}/more_{k}.jpg"))).unwrap();
        }
        for k in 5..=10 {
            fs::remove_file(dir.file(&format!("mixed/{class}/{class}_{k:04}.jpg"))).unwrap();
        }
    }
    let mixed = evaluate(&dir, &["--data", "mixed"]);
    assert_eq!(mixed.images, 145);
    assert!(
        mixed.messages.contains("have the path of a training image of the weights"),
        "{}",
        mixed.messages
    );
}

#[test]
fn an_image_that_cannot_be_read_can_be_left_out_of_an_evaluation() {
    let dir = dir_with_run();
    let run: Value =
        serde_json::from_slice(&fs::read(dir.file("run/split.json")).unwrap()).unwrap();
    fs::write(dir.file("flowers").join(run["val"][0]["path"].as_str().unwrap()), "words").unwrap();
    assert!(fails(&dir, &[]).contains("`--on-bad-image skip`"));
    let found = evaluate(&dir, &["--on-bad-image", "skip"]);
    assert!(found.images == 14 && found.messages.contains("left out: "), "{}", found.messages);
}

/// The classes of the run are the class folders, not the folders of the split.
#[test]
fn folders_of_a_split_are_detected_by_their_names_with_a_note() {
    let dir = TestDir::with_flowers(2);
    for subset in ["Training", "Testing"] {
        copy(&dir.file("flowers"), &dir.file("mine").join(subset));
    }
    let train = [
        "train",
        "--data",
        "mine",
        "--val-fraction",
        "0.5",
        "--epochs",
        "1",
        "-b",
        "5",
        "--run-dir",
        "run",
    ];
    let ran = dir.run(&train);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("using 5 images for training, 5 images for validation."), "{ran:?}");
    assert!(
        ran.err.contains(
            "the data set is already split: Training/ for training, a share of it for validation, Testing/ for tests"
        ),
        "{ran:?}"
    );
    let tested = evaluate(&dir, &["--split", "test"]);
    assert_eq!((tested.images, tested.report["per_class"].as_array().unwrap().len()), (10, 5));
    let moved = evaluate(&dir, &["--data", "mine", "--split", "test"]);
    assert_eq!(moved.report["loss"], tested.report["loss"]);
    let text = dir.succeeds(&["data", "check", "--data", "mine"]);
    assert!(text.contains(" test\n") && text.contains("(test set)"), "{text}");
    let output = dir.succeeds(&[
        "data",
        "split",
        "--data",
        "mine",
        "--val-fraction",
        "0.5",
        "--copy",
        "copy",
    ]);
    assert!(
        output.contains("10 images for testing") && dir.file("copy/test/roses").is_dir(),
        "{output}"
    );

    fs::create_dir(dir.file("flat")).unwrap();
    for subset in ["Train", "Val"] {
        copy(&dir.file("flowers/roses"), &dir.file("flat").join(subset));
    }
    let ran = dir.run(&["train", "--data", "flat"]);
    assert!(
        ran.code == Some(1) && ran.err.contains("Train/ and Val/ are named like subsets"),
        "{ran:?}"
    );
}

#[cfg(unix)]
#[test]
fn other_files_among_the_images_are_ignored_with_a_note() {
    use std::os::unix::{fs::symlink, net::UnixListener};
    let dir = TestDir::with_flowers(2);
    let at = |name: &str| dir.file("flowers").join(name);
    symlink("user@host.1:2", at("daisy/.#notes.txt")).unwrap();
    symlink("nowhere", at("daisy/lost.jpg")).unwrap();
    let _socket = UnixListener::bind(at("daisy/socket.jpg")).unwrap();
    for name in [
        "daisy/Thumbs.db",
        "roses/a.HEIC",
        "roses/notes.txt",
        "desktop.ini",
        "__MACOSX/._x",
        "daisy/.x/1.jpg",
    ] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), "words").unwrap();
    }
    let output = "5 files were skipped: 1 HEIC, 1 dangling link, 1 db, 1 not a regular file, 1 txt; HEIC and AVIF are not supported";
    for args in [
        &["train", "--epochs", "1", "-b", "5", "--val-fraction", "0.5"][..],
        &["data", "preview", "--out", "seen.png"],
        &["data", "split", "--copy", "split", "--val-fraction", "0.5"],
        &["data", "check"],
    ] {
        let args = [args, &["--data", "flowers"]].concat();
        let ran = dir.run(&args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        assert!(ran.err.contains(output), "{args:?}: {ran:?}");
    }
    fs::create_dir(at("zinnia")).unwrap();
    let text = dir.succeeds(&["data", "check", "--data", "flowers"]);
    for line in [
        "  daisy/lost.jpg: the target of the link does not exist",
        "  daisy/socket.jpg: it is not a regular file",
        "  roses/a.HEIC: its format is not supported; convert it to JPEG or PNG",
        "  daisy/Thumbs.db",
        "empty: it cannot be learned",
        "issues: 2",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let strict = dir.run(&["data", "check", "--data", "flowers", "--strict"]);
    assert_eq!(strict.code, Some(1));
    let ran = dir.run(&["train", "--data", "flowers"]);
    assert!(ran.err.contains("no image in the class folder zinnia"), "{ran:?}");

    dir.save_fresh_weights("w.safetensors");
    let ran = dir.run(&["predict", "flowers", "--weights", "w.safetensors", "--format", "jsonl"]);
    let paths: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(paths.len(), 11, "{ran:?}");
    assert!(
        ran.out.contains("the target of the link does not exist") && !ran.out.contains(".x"),
        "{ran:?}"
    );
}

/// Archives of all formats are unpacked into a folder with the name of the archive.
#[test]
fn archives_of_any_kind_are_data_sets() {
    let dir = TestDir::with_flowers(2);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all("flowers", dir.file("flowers")).unwrap();
    let tar = tar.into_inner().unwrap();
    fs::write(dir.file("packed.TAR"), &tar).unwrap();
    let mut zip = zip::ZipWriter::new(fs::File::create(dir.file("zipped.zip")).unwrap());
    for class in CLASSES {
        for k in 1..=2 {
            let name = format!("flowers/{class}/{class}_000{k}.jpg");
            zip.start_file(&name, zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut zip, &fs::read(dir.file(&name)).unwrap()).unwrap();
        }
    }
    zip.finish().unwrap();
    for (archive, folder) in [("packed.TAR", "packed"), ("zipped.zip", "zipped")] {
        let text = dir.succeeds(&["data", "check", "--data", archive]);
        let here = dir.file("data").join(folder);
        assert!(
            text.starts_with(&format!("10 images of 5 classes in {}", here.display())),
            "{text}"
        );
        assert_eq!(fs::read_dir(here.join("roses")).unwrap().count(), 2);
    }
    // The name of the archive is also that of the folder, so it cannot be empty.
    fs::copy(dir.file("packed.TAR"), dir.file(".tar")).unwrap();
    let ran = dir.run(&["data", "fetch", "--archive", ".tar"]);
    assert!(ran.code == Some(1) && ran.err.contains("no name before its extension"), "{ran:?}");
    assert!(!dir.file("data/roses").exists() && !dir.file("data/flowers").exists());
}

/// Reading a device or a pipe could wait forever.
#[cfg(target_os = "linux")]
#[test]
fn devices_and_names_that_are_not_utf8_are_refused() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let dir = TestDir::with_flowers(2);
    for args in
        [["data", "check", "--data", "/dev/zero"], ["data", "fetch", "--archive", "/dev/zero"]]
    {
        let ran = dir.run(&args);
        assert!(
            ran.code == Some(1) && ran.err.contains("/dev/zero: it is not a regular file"),
            "{ran:?}"
        );
    }
    let name = OsStr::from_bytes(b"not\xff");
    fs::rename(dir.file("flowers"), dir.path().join(name)).unwrap();
    let mut command = dir.command(&["train", "--data"]);
    let ran = Ran::from(command.arg(name).output().unwrap(), &[]);
    assert!(
        ran.code == Some(1) && ran.err.contains("is not UTF-8") && ran.err.contains("rename it"),
        "{ran:?}"
    );
    assert!(!dir.file("runs").exists());
}

/// Other commands must not create a data set that was not asked for.
#[test]
fn only_train_draws_flowers_if_there_are_no_images() {
    let dir = TestDir::new();
    dir.save_fresh_weights("w.safetensors");
    for args in [
        &["evaluate", "--weights", "w.safetensors"][..],
        &["parity", "--weights", "w.safetensors"],
        &["data", "check"],
        &["data", "preview", "--out", "seen.png"],
        &["lr-find"],
    ] {
        let ran = dir.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
        for step in
            ["name a folder with `--data`", "`data fetch`", "`data synth --out data/drawn_flowers`"]
        {
            assert!(ran.err.contains(step), "{args:?}: {ran:?}");
        }
        assert!(!dir.file("data").exists(), "{args:?}");
    }
    // Existing drawn flowers are used by all commands.
    dir.succeeds(&["data", "synth", "--out", "data/drawn_flowers", "--per-class", "1"]);
    let ran = dir.run(&["evaluate", "--weights", "w.safetensors"]);
    assert!(
        ran.out.starts_with("images 5 ") && ran.err.contains("all 5 images are evaluated"),
        "{ran:?}"
    );
}

#[test]
fn a_folder_without_its_option_gets_a_tip() {
    let dir = TestDir::new();
    for args in [
        &["train", "images"][..],
        &["data", "check", "images"],
        &["evaluate", "--split", "all", "images"],
    ] {
        let ran = dir.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        assert!(
            ran.err.contains("tip: images are named with `--data`: `--data images`"),
            "{ran:?}"
        );
    }
    let ran = dir.run(&["runs", "other"]);
    let tip = "tip: the folder of the runs is named with `--folder`: `--folder other`";
    assert!(ran.code == Some(2) && ran.err.contains(tip), "{ran:?}");
    let ran = dir.run(&["summary", "images"]);
    assert!(ran.code == Some(2) && !ran.err.contains("--data"), "{ran:?}");
}
