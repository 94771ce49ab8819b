//! Folders of images as people have them: moved, grown, packed, in halves of any name, with other things among them.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{CLASSES, Place, Ran};

fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let to = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(&to).unwrap();
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A place with `flowers/` and a run on them: of each of the five classes seven train and three validate.
fn place_with_run() -> Place {
    let place = Place::with_flowers(10);
    let options = ["--data", "flowers", "--seed", "5", "--val-fraction", "0.3", "--epochs", "1", "-b", "35"];
    place.succeeds(&[&["train", "--run-dir", "run"], &options[..]].concat());
    place
}

struct Evaluated {
    images: u64,
    report: Value,
    said: String,
}

/// What `evaluate` says of the run's weights.
fn evaluate(place: &Place, more: &[&str]) -> Evaluated {
    let args = ["evaluate", "--weights", "run/weights/best.safetensors", "--format", "json"];
    let ran = place.run(&[&args[..], more].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    Evaluated { images: report["images"].as_u64().unwrap(), report, said: ran.err }
}

fn fails(place: &Place, more: &[&str]) -> String {
    let ran = place.run(&[&["evaluate", "--weights", "run/weights/best.safetensors"], more].concat());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    ran.err
}

/// None that the network trained on may be taken for a validation image.
#[test]
fn a_run_knows_its_images_wherever_they_are() {
    let place = place_with_run();
    let own = evaluate(&place, &[]);
    assert_eq!(own.images, 15);
    let same = |found: &Evaluated| {
        assert_eq!((found.images, &found.report["loss"]), (15, &own.report["loss"]), "{}", found.said);
        assert!(found.said.contains("split as the run was"), "{}", found.said);
    };
    copy(&place.file("flowers"), &place.file("elsewhere"));
    let copied = evaluate(&place, &["--data", "elsewhere"]);
    same(&copied);
    assert!(
        copied.said.contains("by the paths of the images: its 15 validation images\n"),
        "{}",
        copied.said
    );
    let train = evaluate(&place, &["--data", "elsewhere", "--split", "train"]);
    assert!(train.images == 35 && train.said.contains("its 35 training images"), "{}", train.said);
    assert_eq!(evaluate(&place, &["--data", "elsewhere", "--split", "all"]).images, 50);

    // A copy in halves, by another seed.
    place.succeeds(&["data", "split", "--data", "flowers", "--copy", "halves", "--seed", "9"]);
    let halves = evaluate(&place, &["--data", "halves"]);
    same(&halves);
    assert!(halves.said.contains("the folders here divide them otherwise"), "{}", halves.said);

    // It grows to nearly three times as many.
    for class in CLASSES {
        for k in 0..18 {
            let image = place.file(&format!("elsewhere/{class}/{class}_0001.jpg"));
            fs::copy(image, place.file(&format!("elsewhere/{class}/new_{k}.jpg"))).unwrap();
        }
    }
    let grown = evaluate(&place, &["--data", "elsewhere"]);
    same(&grown);
    assert!(grown.said.contains("; 90 images are new since, and in neither half"), "{}", grown.said);

    // Some are lost, then all that validated, then nearly all.
    fs::rename(place.file("flowers"), place.file("renamed")).unwrap();
    assert!(fails(&place, &[]).contains("name the folder that holds them with `--data`"));
    let run: Value = serde_json::from_slice(&fs::read(place.file("run/split.json")).unwrap()).unwrap();
    let validating = run["val"].as_array().unwrap();
    let remove = |item: &Value| fs::remove_file(place.file("renamed").join(item["path"].as_str().unwrap()));
    remove(&validating[0]).unwrap();
    let fewer = evaluate(&place, &["--data", "renamed"]);
    assert!(
        fewer.images == 14 && fewer.said.contains("14 of its 15 validation images; 1 are missing"),
        "{}",
        fewer.said
    );
    validating[1..].iter().for_each(|item| remove(item).unwrap());
    let message = fails(&place, &["--data", "renamed"]);
    assert!(
        message.contains("none of the run's 15 validation images") && message.contains("`--split all`"),
        "{message}"
    );
}

#[test]
fn other_images_are_all_asked_about_and_said() {
    let place = place_with_run();
    place.succeeds(&["data", "synth", "--out", "others", "--per-class", "3", "--seed", "7"]);
    for class in CLASSES {
        for k in 1..4 {
            let name = |stem: &str| place.file(&format!("others/{class}/{stem}_000{k}.jpg"));
            fs::rename(name(class), name("other")).unwrap();
        }
    }
    let others = evaluate(&place, &["--data", "others"]);
    assert_eq!(others.images, 15);
    assert!(
        others.said.contains("they are not the run's images: all 15 images are asked about"),
        "{}",
        others.said
    );
    let message = fails(&place, &["--data", "others", "--split", "val"]);
    assert!(message.contains("leaves no image to validate with"), "{message}");
    let message = fails(&place, &["--data", "others", "--split", "test"]);
    assert!(message.contains("no test half") && message.contains("`--split all`"), "{message}");

    // Weights that stand alone, on images that come split.
    fs::copy(place.file("run/weights/best.safetensors"), place.file("alone.safetensors")).unwrap();
    place.succeeds(&["data", "split", "--data", "flowers", "--copy", "halves"]);
    let ran = place.run(&["evaluate", "--weights", "alone.safetensors", "--data", "halves"]);
    assert!(ran.out.starts_with("images 5 "), "{ran:?}");
    assert!(ran.err.contains("the 5 validation images of 50 images are asked about"), "{ran:?}");
    let ran =
        place.run(&["evaluate", "--weights", "alone.safetensors", "--data", "flowers", "--split", "val"]);
    assert!(ran.out.starts_with("images 5 ") && ran.err.contains("5 of 50 images"), "{ran:?}");

    // Most are others, a few not.
    for class in CLASSES {
        copy(&place.file("flowers").join(class), &place.file("mixed").join(class));
        for k in 0..25 {
            let image = place.file(&format!("others/{class}/other_0001.jpg"));
            fs::copy(image, place.file(&format!("mixed/{class}/more_{k}.jpg"))).unwrap();
        }
        for k in 5..=10 {
            fs::remove_file(place.file(&format!("mixed/{class}/{class}_{k:04}.jpg"))).unwrap();
        }
    }
    let mixed = evaluate(&place, &["--data", "mixed"]);
    assert_eq!(mixed.images, 145);
    assert!(
        mixed.said.contains("have the path of an image that the weights were trained on"),
        "{}",
        mixed.said
    );
}

#[test]
fn an_image_that_cannot_be_read_can_be_left_out_of_an_evaluation() {
    let place = place_with_run();
    let run: Value = serde_json::from_slice(&fs::read(place.file("run/split.json")).unwrap()).unwrap();
    fs::write(place.file("flowers").join(run["val"][0]["path"].as_str().unwrap()), "words").unwrap();
    assert!(fails(&place, &[]).contains("`--on-bad-image skip`"));
    let found = evaluate(&place, &["--on-bad-image", "skip"]);
    assert!(found.images == 14 && found.said.contains("left out: "), "{}", found.said);
}

/// Each folder of the set is one of the network's classes, never a half.
#[test]
fn halves_of_any_usual_name_are_told_apart_and_said() {
    let place = Place::with_flowers(2);
    for half in ["Training", "Testing"] {
        copy(&place.file("flowers"), &place.file("mine").join(half));
    }
    let train =
        ["train", "--data", "mine", "--val-fraction", "0.5", "--epochs", "1", "-b", "5", "--run-dir", "run"];
    let ran = place.run(&train);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("using 5 images for training, 5 images for validation."), "{ran:?}");
    assert!(
        ran.err.contains(
            "it comes split: Training/ trains, a share of it validates, Testing/ is kept for tests"
        ),
        "{ran:?}"
    );
    let tested = evaluate(&place, &["--split", "test"]);
    assert_eq!((tested.images, tested.report["per_class"].as_array().unwrap().len()), (10, 5));
    let moved = evaluate(&place, &["--data", "mine", "--split", "test"]);
    assert_eq!(moved.report["loss"], tested.report["loss"]);
    let text = place.succeeds(&["data", "check", "--data", "mine"]);
    assert!(text.contains("test") && text.contains("is kept for tests"), "{text}");
    let said =
        place.succeeds(&["data", "split", "--data", "mine", "--val-fraction", "0.5", "--copy", "copy"]);
    assert!(said.contains("10 images for testing") && place.file("copy/test/roses").is_dir(), "{said}");

    fs::create_dir(place.file("flat")).unwrap();
    for half in ["Train", "Val"] {
        copy(&place.file("flowers/roses"), &place.file("flat").join(half));
    }
    let ran = place.run(&["train", "--data", "flat"]);
    assert!(ran.code == Some(1) && ran.err.contains("Train/ and Val/ are named like halves"), "{ran:?}");
}

#[cfg(unix)]
#[test]
fn what_lies_among_the_images_stops_nothing_and_is_said() {
    use std::os::unix::{fs::symlink, net::UnixListener};
    let place = Place::with_flowers(2);
    let at = |name: &str| place.file("flowers").join(name);
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
    let said = "5 files were not taken: 1 HEIC, 1 dangling link, 1 db, 1 no regular file, 1 txt; HEIC and AVIF are not read";
    for args in [
        &["train", "--epochs", "1", "-b", "5", "--val-fraction", "0.5"][..],
        &["data", "preview", "--out", "seen.png"],
        &["data", "split", "--copy", "split", "--val-fraction", "0.5"],
        &["data", "check"],
    ] {
        let args = [args, &["--data", "flowers"]].concat();
        let ran = place.run(&args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        assert!(ran.err.contains(said), "{args:?}: {ran:?}");
    }
    fs::create_dir(at("zinnia")).unwrap();
    let text = place.succeeds(&["data", "check", "--data", "flowers"]);
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
    let strict = place.run(&["data", "check", "--data", "flowers", "--strict"]);
    assert_eq!(strict.code, Some(1));
    let ran = place.run(&["train", "--data", "flowers"]);
    assert!(ran.err.contains("no image in the class folder zinnia"), "{ran:?}");

    place.save_fresh_weights("w.safetensors");
    let ran = place.run(&["predict", "flowers", "--weights", "w.safetensors", "--format", "jsonl"]);
    let paths: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(paths.len(), 11, "{ran:?}");
    assert!(ran.out.contains("the target of the link does not exist") && !ran.out.contains(".x"), "{ran:?}");
}

/// Whatever it is packed as, the same images are there, in a folder named like the archive.
#[test]
fn archives_of_any_kind_are_data_sets() {
    let place = Place::with_flowers(2);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all("flowers", place.file("flowers")).unwrap();
    let tar = tar.into_inner().unwrap();
    fs::write(place.file("packed.TAR"), &tar).unwrap();
    let mut zip = zip::ZipWriter::new(fs::File::create(place.file("zipped.zip")).unwrap());
    for class in CLASSES {
        for k in 1..=2 {
            let name = format!("flowers/{class}/{class}_000{k}.jpg");
            zip.start_file(&name, zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut zip, &fs::read(place.file(&name)).unwrap()).unwrap();
        }
    }
    zip.finish().unwrap();
    for (archive, folder) in [("packed.TAR", "packed"), ("zipped.zip", "zipped")] {
        let text = place.succeeds(&["data", "check", "--data", archive]);
        let here = place.file("data").join(folder);
        assert!(text.starts_with(&format!("10 images of 5 classes in {}", here.display())), "{text}");
        assert_eq!(fs::read_dir(here.join("roses")).unwrap().count(), 2);
    }
    // No name, no folder of its own.
    fs::copy(place.file("packed.TAR"), place.file(".tar")).unwrap();
    let ran = place.run(&["data", "fetch", "--archive", ".tar"]);
    assert!(ran.code == Some(1) && ran.err.contains("no name before its ending"), "{ran:?}");
    assert!(!place.file("data/roses").exists() && !place.file("data/flowers").exists());
}

/// A pipe would be waited for without end.
#[cfg(target_os = "linux")]
#[test]
fn devices_and_names_that_cannot_be_kept_are_refused() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let place = Place::with_flowers(2);
    for args in [["data", "check", "--data", "/dev/zero"], ["data", "fetch", "--archive", "/dev/zero"]] {
        let ran = place.run(&args);
        assert!(ran.code == Some(1) && ran.err.contains("/dev/zero: it is not a regular file"), "{ran:?}");
    }
    let name = OsStr::from_bytes(b"not\xff");
    fs::rename(place.file("flowers"), place.path().join(name)).unwrap();
    let mut command = place.command(&["train", "--data"]);
    let ran = Ran::from(command.arg(name).output().unwrap(), &[]);
    assert!(
        ran.code == Some(1) && ran.err.contains("is not UTF-8") && ran.err.contains("rename it"),
        "{ran:?}"
    );
    assert!(!place.file("runs").exists());
}

/// Only training has something to do with flowers that nobody asked for.
#[test]
fn without_images_only_train_draws() {
    let place = Place::new();
    place.save_fresh_weights("w.safetensors");
    for args in [
        &["evaluate", "--weights", "w.safetensors"][..],
        &["parity", "--weights", "w.safetensors"],
        &["data", "check"],
        &["data", "preview", "--out", "seen.png"],
        &["lr-find"],
    ] {
        let ran = place.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
        for step in ["name a folder with `--data`", "`data fetch`", "`data synth --out data/drawn_flowers`"] {
            assert!(ran.err.contains(step), "{args:?}: {ran:?}");
        }
        assert!(!place.file("data").exists(), "{args:?}");
    }
    // Those that were drawn are there for all.
    place.succeeds(&["data", "synth", "--out", "data/drawn_flowers", "--per-class", "1"]);
    let ran = place.run(&["evaluate", "--weights", "w.safetensors"]);
    assert!(ran.out.starts_with("images 5 ") && ran.err.contains("all 5 images are asked about"), "{ran:?}");
}

#[test]
fn a_folder_without_its_option_is_understood() {
    let place = Place::new();
    for args in
        [&["train", "images"][..], &["data", "check", "images"], &["evaluate", "--split", "all", "images"]]
    {
        let ran = place.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.err.contains("tip: images are named with `--data`: `--data images`"), "{ran:?}");
    }
    let ran = place.run(&["summary", "images"]);
    assert!(ran.code == Some(2) && !ran.err.contains("--data"), "{ran:?}");
}
