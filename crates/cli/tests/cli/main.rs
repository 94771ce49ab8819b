//! Tests of the binary `alexnet`: exit codes, output and files.

mod about;
mod balance;
mod browser;
mod check;
mod datasets;
mod decoding;
mod doctor;
mod engines;
mod evaluate;
mod explain;
mod files;
mod flower_photos;
mod folders;
mod formats;
mod messages;
mod neighbors;
mod predict;
mod preprocessing;
mod ranks;
mod recipes;
mod reporting;
mod resume;
mod run_folder;
mod runs;
mod schedules;
mod serve;
mod shards;
mod splits;
mod streams;
mod torture;
mod train;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, PoisonError},
};

use alexnet_core::{
    ExifOrientation, Normalization,
    alexnet::Variant,
    init::{Init, initialize},
    weights::{Metadata, Weights},
};
use tempfile::TempDir;

/// The classes of the drawn flowers.
const CLASSES: [&str; 5] = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];

/// A temporary folder in which commands run.
struct TestDir(TempDir);

impl TestDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Creates a folder with `flowers/`, which has `per_class` drawn images of each class. They are
    /// drawn once and copied.
    fn with_flowers(per_class: usize) -> Self {
        static DRAWN: Mutex<BTreeMap<usize, TestDir>> = Mutex::new(BTreeMap::new());
        let dir = Self::new();
        let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
        let original = drawn.entry(per_class).or_insert_with(|| {
            let original = Self::new();
            let count = per_class.to_string();
            original.succeeds(&["data", "synth", "--out", "flowers", "--per-class", &count]);
            original
        });
        copy(&original.file("flowers"), &dir.file("flowers"));
        dir
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Returns the names of its entries, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alexnet"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().unwrap(), args)
    }

    /// Runs a command, asserts that it succeeds, and returns its stdout.
    fn succeeds(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out
    }

    /// Saves initial weights of a network for the drawn flowers.
    fn save_fresh_weights(&self, name: &str) {
        let topology = Variant::Tutorial.topology(CLASSES.len());
        let metadata = Metadata {
            variant: Variant::Tutorial,
            classes: CLASSES.map(String::from).to_vec(),
            input_size: topology.input[1],
            resize_crop: None,
            normalization: Normalization::HALF,
            exif_orientation: ExifOrientation::Apply,
            precision: Default::default(),
        };
        let parameters = initialize(&topology, Init::Pytorch, 0).unwrap().parameters;
        Weights { metadata, parameters }.save(self.file(name)).unwrap();
    }
}

/// Copies a folder with its subfolders.
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

/// The result of a command.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// Returns the result, and asserts that the command did not panic.
    fn from(output: Output, args: &[&str]) -> Self {
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(!err.contains("panicked") && !err.contains("RUST_BACKTRACE"), "{args:?}: {err}");
        Self { code: output.status.code(), out, err }
    }
}
