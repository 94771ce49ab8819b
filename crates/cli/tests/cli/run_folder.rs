//! Damage of run folders: what is refused, without changing any file, and what a run continues
//! from.
#![cfg(unix)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use alexnet_core::{Progress, State, checkpoint, weights::Weights};
use serde_json::Value;

use crate::{Ran, TestDir, copy};

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

/// Returns the content of all files of a run except its lock file.
fn content(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files(run).into_iter().filter(|path| !path.ends_with(".lock"));
    files
        .map(|path| (path.strip_prefix(run).unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect()
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

/// Returns a file of options with its checksum in the first line.
fn with_checksum(options: &str) -> String {
    format!("# crc32 {:08x}\n{options}", crc32fast::hash(options.as_bytes()))
}

fn without_first_line(text: &str) -> &str {
    text.split_once('\n').unwrap().1
}

#[test]
fn a_damaged_or_changed_run_is_refused_and_not_modified() {
    let dir = TestDir::with_flowers(4);
    dir.succeeds(&TRAIN);
    dir.succeeds(&[&TRAIN[..12], &["other", "--seed", "1"]].concat());
    let (run, damaged) = (dir.file("run"), dir.file("damaged"));
    type Damage<'a> = &'a dyn Fn(&Path);
    let remove = |name: &'static str| move |run: &Path| fs::remove_file(run.join(name)).unwrap();
    let args =
        |change: fn(String) -> String| move |run: &Path| edit(&run.join("args.toml"), change);
    let split =
        |change: fn(String) -> String| move |run: &Path| edit(&run.join("split.json"), change);
    let cases: &[(&str, Damage, &[&str], &str, &str)] = &[
        (
            "empty options",
            &args(|_| String::new()),
            &[],
            "args.toml has no settings",
            "put back the file",
        ),
        (
            "options truncated at the end of a line",
            &args(|text| text[..=text.trim_end().rfind('\n').unwrap()].to_owned()),
            &[],
            "args.toml has changed since it was written",
            "`train --config`",
        ),
        (
            "only the first line",
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
            &args(|text| without_first_line(&text).replace("opt = \"sgd\"\n", "")),
            &[],
            "args.toml lacks its first line",
            "put back",
        ),
        (
            "the options of another run",
            &args(|text| with_checksum(&without_first_line(&text).replace("opt = \"sgd\"\n", ""))),
            &[],
            "started with `opt` \"sgd\", but its args.toml has \"adam\"",
            "put back",
        ),
        ("an empty split", &split(|_| String::new()), &[], "it is not a valid split", ""),
        (
            "a digit of a class",
            &split(|text| text.replacen("\"class\": 1", "\"class\": 2", 1)),
            &[],
            "split.json is not a data set: it was changed after it was written",
            "restore the original file",
        ),
        (
            "a digit of a class, without its checksum",
            &split(|text| {
                text.replacen("\"class\": 1", "\"class\": 2", 1).replace("\"crc32\"", "\"crc\"")
            }),
            &[],
            "split.json is not the split that the run was started with",
            "put back",
        ),
        (
            "another split",
            &|run| {
                fs::copy(dir.file("other/split.json"), run.join("split.json")).unwrap();
            },
            &[],
            "not the split",
            "put back",
        ),
        (
            "no split",
            &remove("split.json"),
            &[],
            "split.json is missing",
            "copy it from the original",
        ),
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
        (
            "damaged best weights",
            &|run| {
                let path = run.join("weights/best.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(path, bytes).unwrap();
            },
            &["--epochs", "3"],
            "best.safetensors has changed since it was written",
            "put a copy of damaged/weights/last",
        ),
        (
            "best weights of other classes",
            &|run| {
                let path = run.join("weights/best.safetensors");
                let mut weights = Weights::load(&path).unwrap();
                weights.metadata.classes[0] = "lilies".into();
                weights.save(path).unwrap();
            },
            &["--epochs", "3"],
            "best.safetensors has another network or other classes than this run",
            "put a copy of damaged/weights/last",
        ),
        (
            "fewer epochs than are done",
            &|_| {},
            &["--epochs", "1"],
            "2 epochs are complete",
            "at least 2",
        ),
        (
            "images that are not its own",
            &|_| {},
            &["--data", "other_flowers"],
            "missing, such as ",
            "name the folder",
        ),
    ];
    copy(&dir.file("flowers/daisy"), &dir.file("other_flowers/daisy"));
    copy(&dir.file("flowers/roses"), &dir.file("other_flowers/roses"));
    for (name, damage, more, cause, step) in cases {
        copy(&run, &damaged);
        damage(&damaged);
        let before = content(&damaged);
        let ran = dir.run(&[&["train", "--resume", "damaged"], *more].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{name}: {ran:?}");
        assert!(ran.err.contains(cause) && ran.err.contains(step), "{name}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{name}: {}", ran.err);
        assert!(content(&damaged) == before, "{name}: something was written");
        fs::remove_dir_all(&damaged).unwrap();
    }

    // As options of a new run, an edited file is accepted.
    edit(&run.join("args.toml"), |text| text.replace("opt = \"sgd\"", "opt = \"adam\""));
    let copied = ["train", "--config", "run/args.toml", "--epochs", "1", "--run-dir", "edited"];
    dir.succeeds(&copied);
    assert!(fs::read_to_string(dir.file("edited/args.toml")).unwrap().contains("opt = \"adam\""));
}

#[test]
fn a_run_that_patience_has_ended_says_so_and_can_be_continued() {
    let dir = TestDir::with_flowers(4);
    let slow = ["run", "--epochs", "9", "--patience", "1", "--lr", "1e-12"];
    let args = [&TRAIN[..7], &TRAIN[9..12], &slow].concat();
    let ended = "training ends after 2 of 9 epochs: the validation accuracy has not increased for \
                 1 epoch; to continue, resume with a larger `--patience`";
    for args in [&args[..], &["train", "--resume", "run"]] {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.err.contains(ended) && !ran.err.contains("resuming"), "{}", ran.err);
    }
    let ran = dir.run(&["train", "--resume", "run", "--patience", "2"]);
    assert!(ran.err.contains("resuming after step 2, in epoch 3"), "{}", ran.err);
    assert!(ran.err.contains("after 3 of 9 epochs"), "{}", ran.err);
    assert_eq!(progress(&dir.file("run")).1.history.len(), 3);
}

/// Changes a run to the format of an earlier version: without checksums, and without options, split
/// and best epoch in the checkpoint.
fn make_old(run: &Path) {
    edit(&run.join("args.toml"), |text| without_first_line(&text).to_owned());
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
fn a_run_of_an_earlier_version_is_resumed_with_the_same_result() {
    let dir = TestDir::with_flowers(4);
    dir.succeeds(&[&TRAIN[..12], &["whole"]].concat());
    dir.succeeds(&[&TRAIN[..8], &["1", "--opt", "sgd", "--run-dir", "old"]].concat());
    make_old(&dir.file("old"));
    let old = fs::read(dir.file("old/args.toml")).unwrap();
    assert!(!old.starts_with(b"#"));
    let output = dir.run(&["evaluate", "--weights", "old/weights/best.safetensors"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let ran = dir.run(&["train", "--resume", "old", "--epochs", "2"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let [uninterrupted, old] = ["whole", "old"].map(|run| dir.file(run));
    let ((state, mut done), (state_of_old, mut done_of_old)) =
        (progress(&uninterrupted), progress(&old));
    for progress in [&mut done, &mut done_of_old] {
        progress.seconds = 0.0;
        progress.history.iter_mut().for_each(|row| row.time = 0.0);
    }
    assert_eq!(done, done_of_old);
    assert!(state == state_of_old);
    let last = |run: &Path| fs::read(run.join("weights/last.safetensors")).unwrap();
    assert!(last(&uninterrupted) == last(&old));
    // Resuming has converted it to a run of this version.
    edit(&old.join("args.toml"), |text| without_first_line(&text).to_owned());
    assert!(dir.run(&["train", "--resume", "old"]).err.contains("lacks its first line"));
}

/// Starts a run in the background and waits until it trains.
fn training(dir: &TestDir, args: &[&str]) -> Child {
    let mut child = dir.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut output = String::new();
    while !output.contains("the run is stored in ") {
        assert!(err.read_line(&mut output).unwrap() > 0, "{output}");
    }
    // Closes the pipe of stderr, which must not stop the run.
    child
}

#[test]
fn only_one_process_writes_to_a_run_and_a_killed_process_frees_it() {
    let dir = TestDir::with_flowers(4);
    let long = [&TRAIN[..8], &["1000", "--run-dir", "run"]].concat();
    let mut first = training(&dir, &long);
    let leftover = dir.file("run/weights/.last.safetensors.tmp-1-x");
    fs::write(&leftover, "half").unwrap();
    let second = dir.run(&["train", "--resume", "run", "--epochs", "2000"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    let in_use = format!("run is in use by process {} on ", first.id());
    assert!(second.err.contains(&in_use) && second.err.contains("wait"), "{second:?}");
    assert!(
        leftover.exists()
            && !fs::read_to_string(dir.file("run/args.toml")).unwrap().contains("2000")
    );
    assert!(dir.run(&long).err.contains("run already contains a run"));
    first.kill().unwrap();
    first.wait().unwrap();
    let mut third = training(&dir, &["train", "--resume", "run"]);
    assert!(!leftover.exists());
    third.kill().unwrap();
    third.wait().unwrap();
}

#[test]
fn of_several_runs_started_at_once_in_a_folder_one_succeeds() {
    let dir = TestDir::with_flowers(4);
    let start = |_| {
        let mut command = dir.command(&[&TRAIN[..8], &["1", "--run-dir", "run"]].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..4).map(start).collect();
    let ran: Vec<Ran> = children
        .into_iter()
        .map(|child| Ran::from(child.wait_with_output().unwrap(), &[]))
        .collect();
    assert_eq!(ran.iter().filter(|ran| ran.code == Some(0)).count(), 1, "{ran:?}");
    for ran in ran.iter().filter(|ran| ran.code != Some(0)) {
        let refused =
            ran.err.contains("is in use by process ") || ran.err.contains("already contains a run");
        assert!(ran.code == Some(1) && refused, "{ran:?}");
    }
}

#[test]
fn a_run_is_resumed_with_moved_images() {
    let dir = TestDir::with_flowers(4);
    dir.succeeds(&[&TRAIN[..8], &["1", "--run-dir", "run"]].concat());
    fs::rename(dir.file("flowers"), dir.file("moved")).unwrap();
    let ran = dir.run(&["train", "--resume", "run", "--epochs", "2"]);
    assert!(
        ran.code == Some(1) && ran.err.contains("no longer in ") && ran.err.contains("`--data`"),
        "{ran:?}"
    );
    // Too few images to be split, which is not needed to resume.
    for class in ["roses", "tulips"] {
        fs::create_dir_all(dir.file("few").join(class)).unwrap();
        fs::copy(dir.file("moved/roses/roses_0001.jpg"), dir.file("few").join(class).join("a.jpg"))
            .unwrap();
    }
    let ran = dir.run(&["train", "--resume", "run", "--epochs", "2", "--data", "few"]);
    assert!(
        ran.code == Some(1) && ran.err.contains("few does not have the images of this run"),
        "{ran:?}"
    );
    fs::copy(dir.file("moved/roses/roses_0001.jpg"), dir.file("moved/roses/new.jpg")).unwrap();
    let ran = dir.run(&["train", "--resume", "run", "--epochs", "2", "--data", "moved"]);
    assert!(ran.code == Some(0) && ran.err.contains("1 images in "), "{ran:?}");
    assert!(
        ran.out.starts_with("using 15 images for training, 5 images for validation."),
        "{ran:?}"
    );
    // The new folder is stored: `--data` is no longer needed.
    dir.succeeds(&["train", "--resume", "run", "--epochs", "3"]);
    let options = fs::read_to_string(dir.file("run/args.toml")).unwrap();
    assert!(options.contains("data = \"moved\"") && options.contains("epochs = 3"), "{options}");
}

/// Writes a PNG with a valid start and end that cannot be decoded.
fn damaged_inside(path: &Path) {
    let noise =
        |x: u32, y: u32| image::Luma([((x * 31 + y * 57).wrapping_mul(2_654_435_761) >> 24) as u8]);
    image::GrayImage::from_fn(90, 80, noise).save(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let data = bytes.windows(4).position(|four| four == b"IDAT").unwrap();
    let end = bytes.len() - 16;
    bytes[data + 40..end].fill(0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_image_that_cannot_be_read_does_not_lose_an_epoch() {
    let dir = TestDir::with_flowers(4);
    dir.succeeds(&[
        "data",
        "split",
        "--data",
        "flowers",
        "--val-fraction",
        "0.25",
        "--copy",
        "split",
    ]);
    let start = |run: &'static str| {
        ["train", "--data", "split", "-b", "16", "--epochs", "1", "--run-dir", run]
    };

    // Damage at the start or end of a file is found before the first step.
    for (subset, name) in [("train", "words.jpg"), ("val", "cut.jpg")] {
        let path = dir.file(&format!("split/{subset}/roses/{name}"));
        let image = fs::read(dir.file("flowers/roses/roses_0001.jpg")).unwrap();
        fs::write(path, if name == "cut.jpg" { &image[..image.len() / 2] } else { b"words" })
            .unwrap();
    }
    let ran = dir.run(&start("none"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for word in ["2 of 22 images cannot be read", "words.jpg", "cut.jpg", "`--on-bad-image skip`"] {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    assert!(!dir.file("none").exists());
    fs::remove_file(dir.file("split/train/roses/words.jpg")).unwrap();
    fs::remove_file(dir.file("split/val/roses/cut.jpg")).unwrap();

    // Damage inside of a file is found in the evaluation after the epoch.
    damaged_inside(&dir.file("split/val/roses/inside.png"));
    let ran = dir.run(&start("run"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for word in ["inside.png", "`train --resume run`", "`--on-bad-image skip`"] {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    let (_, before) = progress(&dir.file("run"));
    assert_eq!((before.step, before.batches, before.history.len()), (1, 1, 0));
    assert!(dir.run(&["train", "--resume", "run"]).err.contains("inside.png"));
    let ran = dir.run(&["train", "--resume", "run", "--on-bad-image", "skip"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("resuming after step 1") && ran.err.contains("left out: "), "{ran:?}");
    let (_, after) = progress(&dir.file("run"));
    assert_eq!((after.step, after.history.len()), (1, 1));
    assert!(
        fs::read_to_string(dir.file("run/args.toml")).unwrap().contains("on-bad-image = \"skip\"")
    );
}

#[test]
fn all_accepted_values_can_be_saved_and_resumed() {
    let dir = TestDir::with_flowers(4);
    for (option, value) in [
        ("--momentum", "0.99999999999"),
        ("--model-ema-decay", "0.99999999999"),
        ("--weight-decay", "1e40"),
        ("--patience", "18446744073709551615"),
        ("--warmup-epochs", "18446744073709551615"),
        ("--seed", "18446744073709551616"),
    ] {
        let ran = dir.run(&["train", option, value]);
        assert_eq!(ran.code, Some(2), "{option}: {ran:?}");
        assert!(ran.err.contains(option) && ran.err.contains(value), "{ran:?}");
    }
    let most = ["--patience", "--warmup-epochs", "--lr-step-size", "--model-ema-steps"];
    let mut args =
        [&TRAIN[..8], &["1", "--run-dir", "run", "--seed", "18446744073709551615"]].concat();
    args.extend(["--momentum", "0.99999994", "--lr-scheduler", "step", "--weight-decay", "1e-30"]);
    args.extend(most.iter().flat_map(|option| [*option, "4294967295"]));
    dir.succeeds(&args);
    let before = fs::read_to_string(dir.file("run/args.toml")).unwrap();
    dir.succeeds(&["train", "--resume", "run", "--epochs", "2"]);
    let after = fs::read_to_string(dir.file("run/args.toml")).unwrap();
    assert_eq!(
        without_first_line(&after),
        without_first_line(&before).replace("epochs = 1\n", "epochs = 2\n")
    );
}

#[test]
fn a_state_that_is_not_finite_is_not_saved() {
    let dir = TestDir::with_flowers(4);
    let ran = dir.run(&[&TRAIN[..], &["--lr", "1e38", "--checkpoint-every", "1"]].concat());
    assert!(ran.code == Some(1) && ran.err.contains("is not finite at step"), "{ran:?}");
    let (state, _) = progress(&dir.file("run"));
    assert!(state.is_finite());
}

#[test]
fn a_run_replaces_no_file_of_others() {
    let dir = TestDir::with_flowers(4);
    fs::create_dir(dir.file("mine")).unwrap();
    fs::write(dir.file("mine/results.csv"), "mine").unwrap();
    let train = |run: &str| {
        let ran = dir.run(&[&TRAIN[..TRAIN.len() - 1], &[run]].concat());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        ran.err
    };
    let error = train("mine");
    assert!(error.contains("mine/results.csv exists and is not of a run"), "{error}");
    assert!(error.contains("choose another folder with `--run-dir`"), "{error}");
    assert_eq!(fs::read(dir.file("mine/results.csv")).unwrap(), b"mine");
    // The next run would take its figures for images.
    for among_images in ["flowers", "flowers/roses", "flowers/new/run"] {
        let error = train(among_images);
        assert!(error.contains("because the images are in "), "{error}");
        assert!(!dir.file(among_images).join("args.toml").exists());
    }

    dir.succeeds(&TRAIN);
    let split = fs::read(dir.file("run/split.json")).unwrap();
    for file in ["run/split.json", "run/weights/best.safetensors"] {
        let resume = ["train", "--resume", "run", "--epochs", "3", "--log-file", file];
        let ran = dir.run(&resume);
        assert!(ran.code == Some(1) && ran.err.contains("is a file of a run"), "{ran:?}");
    }
    assert_eq!(fs::read(dir.file("run/split.json")).unwrap(), split);
}
