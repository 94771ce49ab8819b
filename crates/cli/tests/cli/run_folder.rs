//! What a run's folder survives, and what is refused before anything in it changes.
#![cfg(unix)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use alexnet_core::{Progress, State, checkpoint};
use serde_json::Value;

use crate::{Place, Ran};

/// Two epochs of one step.
const TRAIN: [&str; 13] = [
    "train",
    "--data",
    "flowers",
    "--val-fraction",
    "0.25",
    "-b",
    "16",
    "--epochs",
    "2",
    "--opt",
    "sgd",
    "--run-dir",
    "run",
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The content of all files of a run but its lock.
fn content(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files(run).into_iter().filter(|path| !path.ends_with(".lock"));
    files.map(|path| (path.strip_prefix(run).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let copy = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&path, copy).unwrap();
    }
}

fn edit(file: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(file).unwrap();
    let changed = change(text.clone());
    assert!(changed != text, "{}", file.display());
    fs::write(file, changed).unwrap();
}

fn progress(run: &Path) -> (State, Progress) {
    checkpoint::load(run.join("checkpoint/checkpoint.safetensors")).unwrap()
}

/// With the checksum that belongs to it.
fn sealed(options: &str) -> String {
    format!("# crc32 {:08x}\n{options}", crc32fast::hash(options.as_bytes()))
}

fn below_first_line(text: &str) -> &str {
    text.split_once('\n').unwrap().1
}

#[test]
fn what_is_not_the_run_that_was_begun_is_refused_and_stays_as_it_is() {
    let place = Place::with_flowers(4);
    place.succeeds(&TRAIN);
    place.succeeds(&[&TRAIN[..12], &["other", "--seed", "1"]].concat());
    let (run, damaged) = (place.file("run"), place.file("damaged"));
    type Damage<'a> = &'a dyn Fn(&Path);
    let remove = |name: &'static str| move |run: &Path| fs::remove_file(run.join(name)).unwrap();
    let args = |change: fn(String) -> String| move |run: &Path| edit(&run.join("args.toml"), change);
    let split = |change: fn(String) -> String| move |run: &Path| edit(&run.join("split.json"), change);
    let cases: &[(&str, Damage, &[&str], &str, &str)] = &[
        ("empty options", &args(|_| String::new()), &[], "args.toml holds no option", "put back the file"),
        (
            "options cut at a line's end",
            &args(|text| text[..=text.trim_end().rfind('\n').unwrap()].to_owned()),
            &[],
            "args.toml has changed since it was written",
            "`train --config`",
        ),
        (
            "the first line alone",
            &args(|text| text[..=text.find('\n').unwrap()].to_owned()),
            &[],
            "args.toml has changed",
            "put back",
        ),
        (
            "other options",
            &args(|text| text.replace("opt = \"sgd\"", "opt = \"adam\"")),
            &[],
            "args.toml has changed since it was written",
            "put back",
        ),
        (
            "without its first line",
            &args(|text| below_first_line(&text).replace("opt = \"sgd\"\n", "")),
            &[],
            "args.toml lacks its first line",
            "put back",
        ),
        (
            "the options of another run",
            &args(|text| sealed(&below_first_line(&text).replace("opt = \"sgd\"\n", ""))),
            &[],
            "begun with `opt` \"sgd\", and its args.toml has it \"adam\"",
            "put back",
        ),
        ("an empty split", &split(|_| String::new()), &[], "it is no split", ""),
        (
            "a digit of a class",
            &split(|text| text.replacen("\"class\": 1", "\"class\": 2", 1)),
            &[],
            "split.json is not a data set: it has changed since it was written",
            "put back",
        ),
        (
            "a digit of a class, without its checksum",
            &split(|text| text.replacen("\"class\": 1", "\"class\": 2", 1).replace("\"crc32\"", "\"crc\"")),
            &[],
            "split.json is not the split that the run was begun with",
            "put back",
        ),
        (
            "another split",
            &|run| {
                fs::copy(place.file("other/split.json"), run.join("split.json")).unwrap();
            },
            &[],
            "not the split",
            "put back",
        ),
        ("no split", &remove("split.json"), &[], "split.json is missing", "copy it from where"),
        (
            "no checkpoint",
            &remove("checkpoint/checkpoint.safetensors"),
            &[],
            "checkpoint.safetensors is missing, but damaged has weights or results",
            "copy the checkpoint",
        ),
        (
            "neither checkpoint nor weights",
            &|run| {
                fs::remove_dir_all(run.join("checkpoint")).unwrap();
                fs::remove_dir_all(run.join("weights")).unwrap();
            },
            &[],
            "has weights or results",
            "train --config damaged/args.toml",
        ),
        (
            "no best weights",
            &remove("weights/best.safetensors"),
            &[],
            "best.safetensors is missing",
            "copy of damaged/weights/last",
        ),
        ("fewer epochs than are done", &|_| {}, &["--epochs", "1"], "2 epochs are done", "at least 2"),
        (
            "images that are not its own",
            &|_| {},
            &["--data", "other_flowers"],
            "missing, such as ",
            "name the folder",
        ),
    ];
    copy(&place.file("flowers/daisy"), &place.file("other_flowers/daisy"));
    copy(&place.file("flowers/roses"), &place.file("other_flowers/roses"));
    for (name, damage, more, cause, step) in cases {
        copy(&run, &damaged);
        damage(&damaged);
        let before = content(&damaged);
        let ran = place.run(&[&["train", "--resume", "damaged"], *more].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{name}: {ran:?}");
        assert!(ran.err.contains(cause) && ran.err.contains(step), "{name}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{name}: {}", ran.err);
        assert!(content(&damaged) == before, "{name}: something was written");
        fs::remove_dir_all(&damaged).unwrap();
    }

    // Copies of options are edited.
    edit(&run.join("args.toml"), |text| text.replace("opt = \"sgd\"", "opt = \"adam\""));
    let copied = ["train", "--config", "run/args.toml", "--epochs", "1", "--run-dir", "edited"];
    place.succeeds(&copied);
    assert!(fs::read_to_string(place.file("edited/args.toml")).unwrap().contains("opt = \"adam\""));
}

/// As an earlier version wrote it: no checksums, no marks, the first of equal epochs is the best.
fn make_old(run: &Path) {
    edit(&run.join("args.toml"), |text| below_first_line(&text).to_owned());
    edit(&run.join("split.json"), |text| {
        let mut split: Value = serde_json::from_str(&text).unwrap();
        split.as_object_mut().unwrap().remove("crc32").unwrap();
        serde_json::to_string_pretty(&split).unwrap()
    });
    let path = run.join("checkpoint/checkpoint.safetensors");
    let (state, mut progress): (State, Value) = checkpoint::load(&path).unwrap();
    for key in ["options", "split", "best_epoch"] {
        progress.as_object_mut().unwrap().remove(key).unwrap();
    }
    checkpoint::save(&path, &state, &progress).unwrap();
    for name in ["weights/best.safetensors", "weights/last.safetensors"] {
        let bytes = fs::read(run.join(name)).unwrap();
        let body = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..body]).unwrap();
        header["__metadata__"].as_object_mut().unwrap().remove("checksum").unwrap();
        let header = header.to_string();
        let length = (header.len() as u64).to_le_bytes();
        fs::write(run.join(name), [&length, header.as_bytes(), &bytes[body..]].concat()).unwrap();
    }
    fs::remove_file(run.join(".lock")).unwrap();
}

#[test]
fn a_run_of_an_earlier_version_goes_on_to_the_same_end() {
    let place = Place::with_flowers(4);
    place.succeeds(&[&TRAIN[..12], &["whole"]].concat());
    place.succeeds(&[&TRAIN[..8], &["1", "--opt", "sgd", "--run-dir", "old"]].concat());
    make_old(&place.file("old"));
    let old = fs::read(place.file("old/args.toml")).unwrap();
    assert!(!old.starts_with(b"#"));
    let said = place.run(&["evaluate", "--weights", "old/weights/best.safetensors"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let ran = place.run(&["train", "--resume", "old", "--epochs", "2"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let [whole, old] = ["whole", "old"].map(|run| place.file(run));
    let ((state, mut done), (state_of_old, mut done_of_old)) = (progress(&whole), progress(&old));
    for progress in [&mut done, &mut done_of_old] {
        progress.seconds = 0.0;
        progress.history.iter_mut().for_each(|row| row.time = 0.0);
    }
    assert_eq!(done, done_of_old);
    assert!(state == state_of_old);
    let last = |run: &Path| fs::read(run.join("weights/last.safetensors")).unwrap();
    assert!(last(&whole) == last(&old));
    // It has become a run of this version.
    edit(&old.join("args.toml"), |text| below_first_line(&text).to_owned());
    assert!(place.run(&["train", "--resume", "old"]).err.contains("lacks its first line"));
}

/// A run in the background, when it has begun to train.
fn training(place: &Place, args: &[&str]) -> Child {
    let mut child = place.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("the run is stored in ") {
        assert!(err.read_line(&mut said).unwrap() > 0, "{said}");
    }
    // Nobody reads on, and that is no reason to stop.
    child
}

#[test]
fn one_process_at_a_time_writes_to_a_run_and_a_killed_one_does_not_count() {
    let place = Place::with_flowers(4);
    let long = [&TRAIN[..8], &["1000", "--run-dir", "run"]].concat();
    let mut first = training(&place, &long);
    let leftover = place.file("run/weights/.last.safetensors.tmp-1-x");
    fs::write(&leftover, "half").unwrap();
    let second = place.run(&["train", "--resume", "run", "--epochs", "2000"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    let who = format!("run is in use by process {} on ", first.id());
    assert!(second.err.contains(&who) && second.err.contains("wait"), "{second:?}");
    assert!(leftover.exists() && !fs::read_to_string(place.file("run/args.toml")).unwrap().contains("2000"));
    assert!(place.run(&long).err.contains("run already holds a run"));
    first.kill().unwrap();
    first.wait().unwrap();
    let mut third = training(&place, &["train", "--resume", "run"]);
    assert!(!leftover.exists());
    third.kill().unwrap();
    third.wait().unwrap();
}

#[test]
fn of_runs_that_begin_at_once_in_one_folder_one_does() {
    let place = Place::with_flowers(4);
    let begin = |_| {
        let mut command = place.command(&[&TRAIN[..8], &["1", "--run-dir", "run"]].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..4).map(begin).collect();
    let ran: Vec<Ran> =
        children.into_iter().map(|child| Ran::from(child.wait_with_output().unwrap(), &[])).collect();
    assert_eq!(ran.iter().filter(|ran| ran.code == Some(0)).count(), 1, "{ran:?}");
    for ran in ran.iter().filter(|ran| ran.code != Some(0)) {
        let refused = ran.err.contains("is in use by process ") || ran.err.contains("already holds a run");
        assert!(ran.code == Some(1) && refused, "{ran:?}");
    }
}

#[test]
fn images_that_have_moved_are_found_again() {
    let place = Place::with_flowers(4);
    place.succeeds(&[&TRAIN[..8], &["1", "--run-dir", "run"]].concat());
    fs::rename(place.file("flowers"), place.file("moved")).unwrap();
    let ran = place.run(&["train", "--resume", "run", "--epochs", "2"]);
    assert!(
        ran.code == Some(1) && ran.err.contains("no longer in ") && ran.err.contains("`--data`"),
        "{ran:?}"
    );
    // Too few to be split, which they need not be.
    for class in ["roses", "tulips"] {
        fs::create_dir_all(place.file("few").join(class)).unwrap();
        fs::copy(place.file("moved/roses/roses_0001.jpg"), place.file("few").join(class).join("a.jpg"))
            .unwrap();
    }
    let ran = place.run(&["train", "--resume", "run", "--epochs", "2", "--data", "few"]);
    assert!(ran.code == Some(1) && ran.err.contains("few does not have the images of this run"), "{ran:?}");
    fs::copy(place.file("moved/roses/roses_0001.jpg"), place.file("moved/roses/new.jpg")).unwrap();
    let ran = place.run(&["train", "--resume", "run", "--epochs", "2", "--data", "moved"]);
    assert!(ran.code == Some(0) && ran.err.contains("1 images in "), "{ran:?}");
    assert!(ran.out.starts_with("using 15 images for training, 5 images for validation."), "{ran:?}");
    // From now on without saying so.
    place.succeeds(&["train", "--resume", "run", "--epochs", "3"]);
    let options = fs::read_to_string(place.file("run/args.toml")).unwrap();
    assert!(options.contains("data = \"moved\"") && options.contains("epochs = 3"), "{options}");
}

/// A PNG that begins and ends well, and cannot be decoded.
fn damaged_inside(path: &Path) {
    let noise = |x: u32, y: u32| image::Luma([((x * 31 + y * 57).wrapping_mul(2_654_435_761) >> 24) as u8]);
    image::GrayImage::from_fn(90, 80, noise).save(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let data = bytes.windows(4).position(|four| four == b"IDAT").unwrap();
    let end = bytes.len() - 16;
    bytes[data + 40..end].fill(0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_image_that_cannot_be_read_costs_no_epoch() {
    let place = Place::with_flowers(4);
    place.succeeds(&["data", "split", "--data", "flowers", "--val-fraction", "0.25", "--copy", "split"]);
    let begin =
        |run: &'static str| ["train", "--data", "split", "-b", "16", "--epochs", "1", "--run-dir", run];

    // What shows at its beginning or end is found before the first step.
    for (half, name) in [("train", "words.jpg"), ("val", "cut.jpg")] {
        let path = place.file(&format!("split/{half}/roses/{name}"));
        let image = fs::read(place.file("flowers/roses/roses_0001.jpg")).unwrap();
        fs::write(path, if name == "cut.jpg" { &image[..image.len() / 2] } else { b"words" }).unwrap();
    }
    let ran = place.run(&begin("none"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for word in ["2 of 22 images cannot be read", "words.jpg", "cut.jpg", "`--on-bad-image skip`"] {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    assert!(!place.file("none").exists());
    fs::remove_file(place.file("split/train/roses/words.jpg")).unwrap();
    fs::remove_file(place.file("split/val/roses/cut.jpg")).unwrap();

    // The rest is met in the evaluation after the epoch.
    damaged_inside(&place.file("split/val/roses/inside.png"));
    let ran = place.run(&begin("run"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for word in ["inside.png", "`train --resume run`", "`--on-bad-image skip`"] {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    let (_, before) = progress(&place.file("run"));
    assert_eq!((before.step, before.batches, before.history.len()), (1, 1, 0));
    assert!(place.run(&["train", "--resume", "run"]).err.contains("inside.png"));
    let ran = place.run(&["train", "--resume", "run", "--on-bad-image", "skip"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("going on after step 1") && ran.err.contains("left out: "), "{ran:?}");
    let (_, after) = progress(&place.file("run"));
    assert_eq!((after.step, after.history.len()), (1, 1));
    assert!(fs::read_to_string(place.file("run/args.toml")).unwrap().contains("on-bad-image = \"skip\""));
}

#[test]
fn whatever_can_be_trained_with_can_be_resumed() {
    let place = Place::with_flowers(4);
    for (option, value) in [
        ("--momentum", "0.99999999999"),
        ("--model-ema-decay", "0.99999999999"),
        ("--weight-decay", "1e40"),
        ("--patience", "18446744073709551615"),
        ("--warmup-epochs", "18446744073709551615"),
        ("--seed", "18446744073709551616"),
    ] {
        let ran = place.run(&["train", option, value]);
        assert_eq!(ran.code, Some(2), "{option}: {ran:?}");
        assert!(ran.err.contains(option) && ran.err.contains(value), "{ran:?}");
    }
    let most = ["--patience", "--warmup-epochs", "--lr-step-size", "--model-ema-steps"];
    let mut args = [&TRAIN[..8], &["1", "--run-dir", "run", "--seed", "18446744073709551615"]].concat();
    args.extend(["--momentum", "0.99999994", "--lr-scheduler", "step", "--weight-decay", "1e-30"]);
    args.extend(most.iter().flat_map(|option| [*option, "4294967295"]));
    place.succeeds(&args);
    let before = fs::read_to_string(place.file("run/args.toml")).unwrap();
    place.succeeds(&["train", "--resume", "run", "--epochs", "2"]);
    let after = fs::read_to_string(place.file("run/args.toml")).unwrap();
    assert_eq!(below_first_line(&after), below_first_line(&before).replace("epochs = 1\n", "epochs = 2\n"));
}

#[test]
fn a_state_that_is_not_finite_is_not_kept() {
    let place = Place::with_flowers(4);
    let ran = place.run(&[&TRAIN[..], &["--lr", "1e38", "--checkpoint-every", "1"]].concat());
    assert!(ran.code == Some(1) && ran.err.contains("is not finite at step"), "{ran:?}");
    let (state, _) = progress(&place.file("run"));
    assert!(state.is_finite());
}
