//! Training on shards: the results are those of the folder that they were packed from.

mod common;

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use alexnet::{
    Error, Evaluator, Note, Observer, Resume, RunInfo, Selection, Split, TrainConfig,
    TrainObserver, Trainer,
    core::{StepReport, collective::threads, train::Outcome},
    data::{
        dataset::listing::Listing,
        loader::Shuffle,
        pack::{PackOptions, pack},
        synthetic,
    },
};
use tempfile::TempDir;

use common::{Results, results};

/// A folder with four drawn flowers of each class, and the shards of these images.
fn flowers() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let flowers = place.path().join("flowers");
    synthetic::generate(&flowers, 4, 0, &|_, _| {}).unwrap();
    let options = PackOptions { shard_bytes: 100_000, ..PackOptions::default() };
    let listing = Listing::read(&flowers).unwrap();
    let packed = pack(&listing, &place.path().join("shards"), &options, &|_, _| {}).unwrap();
    assert!(packed.shards > 2, "{packed:?}");
    place
}

fn config(place: &Path, data: &str, run: &str) -> TrainConfig {
    TrainConfig {
        data: place.join(data).into(),
        run_dir: Some(place.join(run)),
        val_fraction: 0.25,
        batch_size: 4,
        epochs: 2,
        // Most parameters are in these layers, and their gradients take most of the time.
        freeze: vec!["classifier".into()],
        ..TrainConfig::default()
    }
}

/// Stops the run after a step.
#[derive(Default)]
struct Stop(Option<u64>);

impl Observer for Stop {}

impl TrainObserver for Stop {
    fn step(&mut self, run: &RunInfo, _: &StepReport) -> ControlFlow<()> {
        match self.0 == Some(run.progress.step) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

fn train(config: TrainConfig, threads: usize) -> Results {
    let run = config.run_dir.clone().unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let trained = pool.install(|| Trainer::new(config).unwrap().run(&mut ()));
    assert_eq!(trained.unwrap().outcome(), Outcome::Finished);
    results(&run)
}

#[test]
fn shards_train_to_the_bytes_of_the_folder() {
    let place = flowers();
    let place = place.path();
    let expected = train(config(place, "flowers", "folder"), 2);
    for threads in [1, 2] {
        let run = format!("shards{threads}");
        assert!(train(config(place, "shards", &run), threads) == expected, "{threads} threads");
    }

    // Stopped in the second epoch on shards, and resumed on the folder; and the reverse.
    for (first, second) in [("shards", "flowers"), ("flowers", "shards")] {
        let run = place.join(format!("{first}-{second}"));
        let config = config(place, first, run.to_str().unwrap());
        let stopped = Trainer::new(config).unwrap().run(&mut Stop(Some(5))).unwrap();
        assert_eq!(stopped.outcome(), Outcome::Stopped);
        // It holds the lock of the folder.
        drop(stopped);
        let data = Some(place.join(second));
        let changes = Resume { data, ..Resume::default() };
        Trainer::resume_with(&run, changes).unwrap().run(&mut ()).unwrap();
        assert!(results(&run) == expected, "{first}, then {second}");
    }

    threads::run(2, |ranks| {
        let config = config(place, "shards", "ranks");
        let trainer = Trainer::new(config).unwrap();
        trainer.run_on_ranks(ranks, &mut ()).unwrap().outcome()
    });
    assert!(results(&place.join("ranks")) == expected, "2 ranks");

    // The validation images of the run, wherever they are.
    for data in [None, Some("shards"), Some("flowers")] {
        let evaluator = Evaluator {
            weights: Some(place.join("shards1")),
            data: data.map(|data| place.join(data).into()).unwrap_or_default(),
            ..Evaluator::default()
        };
        let evaluated = evaluator.run(&mut ()).unwrap();
        let report = fs::read_to_string(place.join("folder/report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let output = serde_json::to_value(evaluated.output()).unwrap();
        assert_eq!(output["confusion"], report["confusion"], "{data:?}");
        assert_eq!(output["loss"], report["loss"], "{data:?}");
    }
}

#[test]
fn blocks_train_the_same_after_a_resume_and_on_ranks() {
    let place = flowers();
    let place = place.path();
    let blocks =
        |run: &str| TrainConfig { shuffle: Shuffle::Blocks, ..config(place, "shards", run) };
    let expected = train(blocks("blocks"), 2);
    let run = place.join("stopped");
    Trainer::new(blocks("stopped")).unwrap().run(&mut Stop(Some(5))).unwrap();
    Trainer::resume(&run).unwrap().run(&mut ()).unwrap();
    assert!(results(&run) == expected, "resumed");
    threads::run(2, |ranks| {
        Trainer::new(blocks("ranks")).unwrap().run_on_ranks(ranks, &mut ()).unwrap().outcome()
    });
    assert!(results(&place.join("ranks")) == expected, "2 ranks");
    assert!(train(config(place, "shards", "full"), 2) != expected);

    // The same images in another order.
    let stopped = place.join("moved");
    Trainer::new(blocks("moved")).unwrap().run(&mut Stop(Some(5))).unwrap();
    let other = place.join("other");
    fs::create_dir(&other).unwrap();
    for entry in fs::read_dir(place.join("shards")).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        // Without the index, the order is that of the names.
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some(number) = name.strip_prefix("shard-") {
            let number: u32 = number.strip_suffix(".tar").unwrap().parse().unwrap();
            let reversed = format!("{:06}.tar", 999_999 - number);
            fs::copy(&path, other.join(reversed)).unwrap();
        }
    }
    let resume = |data: &str| {
        let changes = Resume { data: Some(place.join(data)), ..Resume::default() };
        Trainer::resume_with(&stopped, changes).unwrap().run(&mut ())
    };
    let error = resume("other").unwrap_err();
    assert!(matches!(error, Error::OtherOrder { .. }), "{error}");
    fs::remove_dir_all(&other).unwrap();
    fs::rename(place.join("shards"), &other).unwrap();
    resume("other").unwrap();
    assert!(results(&stopped) == expected, "moved");
    fs::rename(&other, place.join("shards")).unwrap();

    let folder = TrainConfig { data: place.join("flowers").into(), ..blocks("folder") };
    let error = Trainer::new(folder).unwrap().run(&mut ()).unwrap_err().to_string();
    assert_eq!(error, "shuffle cannot be blocks: the images are not in shards");
    assert!(!place.join("folder").exists());
}

/// Records the notes.
#[derive(Default)]
struct Notes(Vec<Note>);

impl Observer for Notes {
    fn note(&mut self, note: Note) {
        self.0.push(note);
    }
}

impl TrainObserver for Notes {}

#[test]
fn a_missing_shard_stops_a_run_before_it_starts_or_is_left_out() {
    let place = flowers();
    let place = place.path();
    let shard = place.join("shards/shard-000001.tar");
    let moved = place.join("moved.tar");
    fs::rename(&shard, &moved).unwrap();
    let mut notes = Notes::default();
    let error = Trainer::new(config(place, "shards", "run")).unwrap().run(&mut notes).unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    assert!(
        error.to_string().contains("the shard shard-000001.tar is missing: copy it"),
        "{error}"
    );
    let is_noted =
        |note: &Note| matches!(note, Note::Folder { what, .. } if what.contains("is missing"));
    assert!(notes.0.iter().any(is_noted), "{:?}", notes.0);
    assert!(!place.join("run").exists());

    // Two ranks, one of which has all shards.
    let incomplete = place.join("incomplete");
    fs::create_dir(&incomplete).unwrap();
    for entry in fs::read_dir(place.join("shards")).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        fs::copy(&path, incomplete.join(path.file_name().unwrap())).unwrap();
    }
    fs::rename(&moved, &shard).unwrap();
    let skip = TrainConfig {
        on_bad_image: alexnet::data::loader::OnBadImage::Skip,
        ..config(place, "incomplete", "skipped")
    };
    let mut notes = Notes::default();
    Trainer::new(skip).unwrap().run(&mut notes).unwrap();
    let left_out = notes.0.iter().filter(|note| matches!(note, Note::LeftOut { .. })).count();
    assert!((1..15).contains(&left_out), "{left_out}");

    // All images are found again in the complete shards.
    let selection = Selection::choose(
        &place.join("shards").into(),
        &place.join("skipped/weights/last.safetensors"),
        Some(Split::All),
        &mut (),
    );
    assert_eq!(selection.unwrap().items.len(), 20);
}
