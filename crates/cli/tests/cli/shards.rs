//! `data pack`, and commands that read shards.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufReader, Read},
    path::Path,
    process::Stdio,
    thread::sleep,
    time::Duration,
};

use crate::TestDir;

/// Small shards of the drawn flowers.
const PACK: [&str; 8] =
    ["data", "pack", "--data", "folder", "--out", "shards", "--shard-size", "100kB"];

/// Creates a folder with `folder/`, which has drawn flowers. Its name is not that of a class.
fn folder(per_class: usize) -> TestDir {
    let dir = TestDir::with_flowers(per_class);
    fs::rename(dir.file("flowers"), dir.file("folder")).unwrap();
    dir
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let content = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(content).collect()
}

#[test]
fn all_commands_give_the_results_of_the_folder() {
    let dir = folder(4);
    let packed = dir.run(&PACK);
    assert_eq!(packed.code, Some(0), "{packed:?}");
    assert!(packed.out.starts_with("20 images of 5 classes in "), "{packed:?}");
    assert!(packed.out.ends_with(" MB, in shards\n") && packed.err.is_empty(), "{packed:?}");

    for data in ["folder", "shards"] {
        let run = format!("run-{data}");
        let train = ["train", "--data", data, "--run-dir", &run, "--freeze", "classifier"];
        dir.succeeds(
            &[&train[..], &["--epochs", "1", "-b", "8", "--val-fraction", "0.25"]].concat(),
        );
    }
    let weights = |run: &str| fs::read(dir.file(run).join("weights/last.safetensors")).unwrap();
    assert!(weights("run-folder") == weights("run-shards"));
    let checksum = |run: &str| {
        let split: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.file(run).join("split.json")).unwrap()).unwrap();
        split["crc32"].clone()
    };
    assert_eq!(checksum("run-folder"), checksum("run-shards"));
    let mistakes = |run: &str, data: &str| {
        fs::read_to_string(dir.file(run).join("misclassified.csv")).unwrap().replace(data, "IT")
    };
    assert_eq!(mistakes("run-folder", "folder"), mistakes("run-shards", "shards"));
    // The gallery of the misclassified images is drawn from the shards.
    assert!(dir.file("run-shards/misclassified.jpg").is_file());

    let on_both = |args: &[&str]| {
        let of = |data: &str| {
            let args: Vec<&str> =
                args.iter().map(|arg| if *arg == "IT" { data } else { arg }).collect();
            dir.succeeds(&args).replace(data, "IT")
        };
        let (folder, shards) = (of("folder"), of("shards"));
        assert!(!folder.is_empty());
        assert_eq!(folder, shards, "{args:?}");
    };
    let weights = ["--weights", "run-folder"];
    on_both(&[&["evaluate", "--data", "IT", "--split", "all"], &weights[..]].concat());
    on_both(&[&["evaluate", "--data", "IT"], &weights[..]].concat());
    on_both(&[&["predict", "IT", "--format", "csv"], &weights[..]].concat());
    on_both(&[&["predict", "IT", "--annotate", "annotated"], &weights[..]].concat());
    assert!(dir.file("annotated/roses/roses_0001.jpg").is_file());
    on_both(&["data", "check", "--data", "IT", "--gallery", "gallery.jpg"]);
    on_both(&[&["explain", "IT", "--out", "explained", "--format", "json"], &weights[..]].concat());
    assert!(dir.file("explained/roses/roses_0001.jpg.png").is_file());
    dir.succeeds(&["data", "preview", "--data", "shards", "--out", "preview.png"]);
    dir.succeeds(&[
        "data",
        "split",
        "--data",
        "shards",
        "--copy",
        "split",
        "--val-fraction",
        "0.25",
    ]);
    assert_eq!(fs::read_dir(dir.file("split/train/roses")).unwrap().count(), 3);
    let near = ["neighbours", "folder/roses/roses_0001.jpg", "--data", "shards"];
    let found = dir.succeeds(&[&near[..], &["--format", "json"], &weights[..]].concat());
    assert!(found.contains("shards/roses/roses_0001.jpg"), "{found}");
}

#[test]
fn a_killed_pack_continues() {
    let dir = folder(20);
    let args = |out: &'static str| {
        let mut args = PACK;
        args[5] = out;
        args
    };
    dir.succeeds(&args("whole"));
    let whole = files(&dir.file("whole"));
    let mut kills = 0;
    loop {
        let mut command = dir.command(&args("killed"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Killed as soon as it has finished another shard.
        let before = shards(&dir.file("killed"));
        while shards(&dir.file("killed")) == before && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_micros(200));
        }
        let _ = child.kill();
        let mut err = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_to_string(&mut err).unwrap();
        if child.wait().unwrap().success() {
            assert!(
                err.contains("of the images were already in shards of an interrupted"),
                "{err}"
            );
            break;
        }
        kills += 1;
    }
    assert!(kills > 1, "{kills}");
    assert!(files(&dir.file("killed")) == whole);
    let again = dir.run(&args("killed"));
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("images are already packed into it"), "{again:?}");
}

fn shards(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".tar")).count()
}

#[test]
fn messages_name_the_shard_and_the_next_step() {
    let dir = folder(4);
    dir.succeeds(&PACK);
    let train = [
        "train",
        "--data",
        "shards",
        "--epochs",
        "1",
        "-b",
        "8",
        "--val-fraction",
        "0.25",
        "--run-dir",
        "run",
        "--freeze",
        "features",
    ];
    let refused = |args: &[&str], words: &[&str]| {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for word in words {
            assert!(ran.err.contains(word), "expected `{word}`: {}", ran.err);
        }
    };
    let shard = dir.file("shards/shard-000001.tar");
    let intact = fs::read(&shard).unwrap();
    fs::remove_file(&shard).unwrap();
    let missing = "shard-000001.tar is missing: copy it into the folder of the others";
    refused(&train, &[missing, "images cannot be read", "`--on-bad-image skip`"]);
    let skipped = dir.run(&[&train[..], &["--on-bad-image", "skip"]].concat());
    assert_eq!(skipped.code, Some(0), "{skipped:?}");
    assert!(skipped.err.contains("left out: "), "{skipped:?}");
    let report = dir.succeeds(&["data", "check", "--data", "shards"]);
    assert!(report.contains("not readable") && report.contains(missing), "{report}");

    let mut changed = intact.clone();
    let middle = changed.len() / 2;
    changed[middle..middle + 3000].fill(0);
    fs::write(&shard, &changed).unwrap();
    let report = dir.succeeds(&["data", "check", "--data", "shards"]);
    let wrong =
        "do not match their checksum in index.bin: copy the shard again, or pack the images";
    assert!(report.contains(wrong), "{report}");
    fs::write(&shard, &intact).unwrap();

    let blocks = ["train", "--data", "folder", "--val-fraction", "0.25", "--shuffle", "blocks"];
    refused(
        &blocks,
        &[
            "`--shuffle` cannot be blocks: the images are not in shards",
            "pack the images with `data pack`",
        ],
    );
    fs::write(dir.file("shards/index.bin"), "ALXSHARD and words").unwrap();
    refused(&train, &["index.bin cannot be used, because", "copy it again, or remove it"]);
    refused(&PACK, &["shards was not written: images are already packed into it"]);
    for (option, value) in [("--shard-size", "0"), ("--shard-size", "2TB"), ("--quality", "101")] {
        let ran = dir.run(&["data", "pack", "--out", "x", option, value]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(option), "{ran:?}");
    }
}
