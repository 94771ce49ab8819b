//! The library as a program uses it, and its examples as they are run.

use std::{fs, ops::ControlFlow, path::Path, process::Command};

use alexnet::{
    Classifier, Error, Evaluator, Note, Observer, Resume, RunInfo, TrainConfig, TrainObserver,
    Trainer, Work,
    core::{StepReport, metrics::Evaluation, train::Outcome},
    data::synthetic,
    image,
};
use tempfile::TempDir;

/// A folder with drawn flowers, `per_class` of each.
fn flowers(per_class: usize) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    synthetic::generate(&place.path().join("flowers"), per_class, 0, &|_, _| {}).unwrap();
    place
}

fn config(place: &Path, run: &str) -> TrainConfig {
    TrainConfig {
        data: place.join("flowers").into(),
        run_dir: Some(place.join(run)),
        val_fraction: 0.25,
        batch_size: 5,
        epochs: 2,
        ..TrainConfig::default()
    }
}

/// Records notes and events, and stops the run after a step.
#[derive(Default)]
struct Recorder {
    notes: Vec<Note>,
    looked_at: u64,
    steps: u64,
    epochs: u64,
    stop_after: Option<u64>,
}

impl Observer for Recorder {
    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    fn progress(&mut self, work: Work<'_>, done: u64, _: u64) {
        if work == Work::LookingAtImages {
            self.looked_at = self.looked_at.max(done);
        }
    }
}

impl TrainObserver for Recorder {
    fn step(&mut self, run: &RunInfo, report: &StepReport) -> ControlFlow<()> {
        assert!(report.loss.is_finite());
        self.steps = run.progress.step;
        if self.stop_after == Some(self.steps) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn epoch(&mut self, run: &RunInfo, _: Option<&Evaluation>) {
        self.epochs = run.progress.history.len() as u64;
    }
}

#[test]
fn a_stopped_run_resumes_to_the_same_bytes_and_classifies() {
    let place = flowers(4);
    let place = place.path();
    let mut events = Recorder::default();
    let run = Trainer::new(config(place, "whole")).unwrap().run(&mut events).unwrap();
    assert_eq!((run.outcome(), run.history().len()), (Outcome::Finished, 2));
    assert_eq!((events.looked_at, events.steps, events.epochs), (20, 6, 2));

    let mut events = Recorder { stop_after: Some(4), ..Recorder::default() };
    let run = Trainer::new(config(place, "stopped")).unwrap().run(&mut events).unwrap();
    assert_eq!((run.outcome(), run.history().len()), (Outcome::Stopped, 1));
    drop(run);
    let mut events = Recorder::default();
    let run = Trainer::resume(place.join("stopped")).unwrap().run(&mut events).unwrap();
    assert_eq!(run.outcome(), Outcome::Finished);
    assert!(events.notes.contains(&Note::Resuming { step: 4, epoch: 2 }), "{:?}", events.notes);
    let file = |run: &str, name: &str| fs::read(place.join(run).join(name)).unwrap();
    for name in
        ["weights/best.safetensors", "weights/last.safetensors", "misclassified.csv", "split.json"]
    {
        assert_eq!(file("whole", name), file("stopped", name), "{name}");
    }

    // A path, its bytes and its pixels are one image.
    let mut classifier = Classifier::load(place.join("whole")).unwrap();
    assert!(matches!(classifier.notes(), [Note::UsingWeights { .. }]), "{:?}", classifier.notes());
    let path = place.join("flowers/tulips/tulips_0001.jpg");
    let bytes = fs::read(&path).unwrap();
    let prediction = classifier.predict(&path).unwrap();
    assert_eq!(classifier.predict(&bytes).unwrap(), prediction);
    let decoded =
        alexnet::data::decode::decode(&path, classifier.decoding()).unwrap().image.clone();
    assert_eq!(classifier.predict(&image::DynamicImage::from(decoded)).unwrap(), prediction);
    assert_eq!(prediction.top(3), &prediction.classes()[..3]);
    assert!(prediction.classes().is_sorted_by(|a, b| a.probability >= b.probability));
    assert!(
        (prediction.classes().iter().map(|class| class.probability).sum::<f64>() - 1.0).abs()
            < 1e-6
    );

    // An image that cannot be read does not stop the others.
    let answers = classifier.predict_batch([place.join("none.jpg"), path]).unwrap();
    assert!(matches!(answers[0], Err(Error::Core(_))), "{:?}", answers[0]);
    assert_eq!(answers[1].as_ref().unwrap().best(), prediction.best());

    let evaluator = Evaluator { weights: Some(place.join("whole")), ..Evaluator::default() };
    let output = evaluator.run(&mut ()).unwrap().output();
    assert_eq!(output.report.images, 5);
    assert_eq!(Some(output.report.top1), run.best().and_then(|row| row.accuracy()));
}

#[test]
fn errors_say_what_is_wrong_in_the_terms_of_the_library() {
    let place = flowers(4);
    let place = place.path();
    let refused = |config: TrainConfig| {
        let error = Trainer::new(config).and_then(|trainer| trainer.run(&mut ())).unwrap_err();
        let said = error.to_string();
        assert!(!said.contains("--"), "{said}");
        said
    };
    let config = |change: fn(&mut TrainConfig)| {
        let mut config = config(place, "run");
        change(&mut config);
        config
    };
    assert!(refused(config(|c| c.lr = -1.0)).starts_with("lr cannot be -1: "));
    assert!(
        refused(config(|c| c.data = "nowhere".into())).starts_with("there is nothing at nowhere")
    );
    assert!(
        refused(config(|c| c.freeze = vec!["head".into()]))
            .starts_with("module cannot be `head`: ")
    );
    assert!(!place.join("run").exists());
    let error = Trainer::resume(place).err().unwrap();
    assert!(matches!(error, Error::NotARun { .. }), "{error}");
    let changes = Resume { epochs: Some(1), ..Resume::default() };
    assert!(Trainer::resume_with(place.join("run"), changes).is_err());
}

/// Runs an example with the arguments; cargo builds examples before tests.
fn example(name: &str, arguments: &[&Path]) -> String {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.ancestors().nth(2).unwrap().join("examples");
    let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let output = Command::new(&program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_example_runs() {
    let place = flowers(10);
    let place = place.path();
    assert!(example("own_engine", &[]).contains("step 3: loss "));
    let short = TrainConfig { epochs: 1, batch_size: 20, ..config(place, "run") };
    let run = Trainer::new(short).unwrap().run(&mut ()).unwrap();
    let weights = run.folder().best();
    drop(run);
    let image = place.join("flowers/roses/roses_0001.jpg");
    assert_eq!(example("predict", &[&place.join("run"), &image]).lines().count(), 3);
    let tuned = example("finetune", &[&weights, &place.join("flowers"), &place.join("tuned")]);
    assert_eq!(tuned.lines().count(), 2, "{tuned}");
    let trained = example("train", &[&place.join("flowers"), &place.join("fast"), "2".as_ref()]);
    assert!(trained.lines().last().unwrap().starts_with("accuracy "), "{trained}");
    assert!(place.join("fast/weights/best.safetensors").is_file());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cluster.md");
    let page = fs::read_to_string(page).unwrap();
    for row in example("scale", &[]).lines().filter(|line| line.starts_with('|')) {
        assert!(page.contains(row), "docs/cluster.md has another row: {row}");
    }
}
