//! `neighbours` lists the nearest images and keeps an index beside the weights.

use std::{
    fs::{self, File},
    path::PathBuf,
    time::Duration,
};

use alexnet_core::weights::Weights;
use serde_json::Value;

use crate::{Ran, TestDir};

const IMAGE: &str = "flowers/roses/roses_0001.jpg";
const SEARCH: [&str; 6] = ["neighbours", IMAGE, "--weights", "w.safetensors", "--data", "flowers"];

const USED: &str = "using the index ";
const WRITTEN: &str = "wrote an index for the next search: ";
const REPLACED: &str = "is not used, and a new one is made: ";

fn dir() -> TestDir {
    let dir = TestDir::with_flowers(2);
    dir.save_fresh_weights("w.safetensors");
    dir
}

/// Searches the neighbors of the image, and asserts that the messages contain `said`.
fn search(dir: &TestDir, said: &[&str]) -> Ran {
    let ran = dir.run(&SEARCH);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for text in said {
        assert!(ran.err.contains(text), "{text}: {ran:?}");
    }
    assert_eq!(ran.err.contains(USED), said.contains(&USED), "{ran:?}");
    assert_eq!(ran.err.contains(REPLACED), said.contains(&REPLACED), "{ran:?}");
    ran
}

/// Returns the indexes beside the weights.
fn indexes(dir: &TestDir) -> Vec<PathBuf> {
    let names = dir.names().into_iter();
    names.filter(|name| name.ends_with(".neighbors")).map(|name| dir.file(&name)).collect()
}

#[test]
fn the_second_search_uses_the_index_of_the_first() {
    let dir = dir();
    let first = search(&dir, &[WRITTEN, "the image itself is left out: "]);
    let [index] = &indexes(&dir)[..] else { panic!("one index") };
    let name = index.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("w.safetensors."), "{name}");
    let content = fs::read(index).unwrap();
    let second = search(&dir, &[USED]);
    assert_eq!(second.out, first.out);
    assert_eq!(fs::read(index).unwrap(), content);
    assert_eq!(first.out.lines().count(), 6);
    assert!(!first.out.contains("roses_0001.jpg"), "{}", first.out);

    let json: Value = serde_json::from_str(
        &dir.succeeds(&[&SEARCH[..], &["--format", "json", "--out", "n.png", "--k", "9"]].concat()),
    )
    .unwrap();
    assert_eq!((&json["path"], &json["figure"]), (&IMAGE.into(), &"n.png".into()));
    let neighbors = json["neighbors"].as_array().unwrap();
    assert_eq!(neighbors.len(), 9);
    assert!(neighbors.is_sorted_by_key(|neighbor| neighbor["distance"].as_f64().unwrap()));
    for (line, neighbor) in first.out.lines().zip(neighbors) {
        let class = neighbor["class"].as_str().unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, [words[0], class, neighbor["path"].as_str().unwrap()]);
        assert!(words[2].contains(&format!("/{class}/")));
    }
    for (name, columns, rows) in [("neighbors.png", 7, 1), ("n.png", 7, 2)] {
        let figure = image::open(dir.file(name)).unwrap();
        assert!(figure.width() >= columns * 112 && figure.height() >= rows * 112, "{name}");
    }
}

#[test]
fn an_index_of_other_weights_or_images_is_replaced() {
    let dir = dir();
    search(&dir, &[WRITTEN]);
    let index = indexes(&dir).remove(0);

    let image = dir.file("flowers/tulips/tulips_0001.jpg");
    let later = fs::metadata(&image).unwrap().modified().unwrap() + Duration::from_secs(2);
    fs::copy(dir.file("flowers/daisy/daisy_0001.jpg"), &image).unwrap();
    File::options().write(true).open(&image).unwrap().set_modified(later).unwrap();
    search(&dir, &[REPLACED, "0 new, 0 missing, 1 changed", WRITTEN]);
    fs::remove_file(&image).unwrap();
    let before = search(&dir, &[REPLACED, "0 new, 1 missing, 0 changed"]);

    let old = fs::read(&index).unwrap();
    let mut weights = Weights::load(dir.file("w.safetensors")).unwrap();
    let last_hidden = weights.parameters.get_mut("classifier.4.weight").unwrap();
    last_hidden.values.iter_mut().for_each(|weight| *weight *= 2.0);
    weights.save(dir.file("w.safetensors")).unwrap();
    search(&dir, &[REPLACED, "it was made with other weights"]);
    // The index of the earlier weights, put back.
    fs::write(&index, &old).unwrap();
    let after = search(&dir, &[REPLACED, "it was made with other weights"]);
    search(&dir, &[USED]);
    assert_ne!(after.out, before.out);

    // Another folder has its own index.
    dir.succeeds(&[
        "neighbors",
        IMAGE,
        "--weights",
        "w.safetensors",
        "--data",
        "flowers/../flowers",
    ]);
    assert_eq!(indexes(&dir), [index]);
    fs::rename(dir.file("flowers"), dir.file("moved")).unwrap();
    let image = IMAGE.replace("flowers", "moved");
    dir.succeeds(&["neighbors", &image, "--weights", "w.safetensors", "--data", "moved"]);
    assert_eq!(indexes(&dir).len(), 2);
}

#[test]
fn a_damaged_index_is_replaced_and_one_that_cannot_be_written_is_not_needed() {
    let dir = dir();
    let first = search(&dir, &[WRITTEN]);
    let index = indexes(&dir).remove(0);
    let intact = fs::read(&index).unwrap();
    let mut flipped = intact.clone();
    *flipped.last_mut().unwrap() ^= 64;
    for (damaged, what) in [
        (flipped, "its content does not match its checksum"),
        (intact[..intact.len() / 2].to_vec(), "truncated"),
        (b"words".to_vec(), "truncated"),
    ] {
        fs::write(&index, damaged).unwrap();
        let ran = search(&dir, &[REPLACED, what, WRITTEN]);
        assert_eq!(ran.out, first.out);
        assert_eq!(fs::read(&index).unwrap(), intact);
    }
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    let ran = search(&dir, &[REPLACED, "the index is not kept for the next search: cannot write"]);
    assert_eq!(ran.out, first.out);
}

#[test]
fn images_that_cannot_be_read_are_left_out_until_they_can() {
    let dir = dir();
    let image = dir.file("flowers/tulips/tulips_0001.jpg");
    let (bytes, time) = (fs::read(&image).unwrap(), fs::metadata(&image).unwrap().modified());
    fs::write(&image, vec![0; bytes.len()]).unwrap();
    File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_modified(*time.as_ref().unwrap())
        .unwrap();
    search(&dir, &["left out: ", "tulips_0001.jpg", WRITTEN]);
    search(&dir, &["left out: ", "tulips_0001.jpg", USED]);
    fs::write(&image, bytes).unwrap();
    File::options().write(true).open(&image).unwrap().set_modified(time.unwrap()).unwrap();
    search(&dir, &[REPLACED, "it lacks an image that can be read now"]);
}

#[test]
fn the_number_of_neighbors_is_checked() {
    let dir = dir();
    for k in ["0", "101", "-1", "x"] {
        let ran = dir.run(&[&SEARCH[..], &["--k", k]].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains("it must be a whole number from 1 to 100"), "{ran:?}");
    }
    let ran = dir.run(&[&SEARCH[..], &["--k", "100"]].concat());
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 9), "{ran:?}");
    assert!(ran.err.contains("there are only 9 other images"), "{ran:?}");
}
