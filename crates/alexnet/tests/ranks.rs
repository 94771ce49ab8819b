//! Training on several ranks, which are threads here: the results are those of one process.

mod common;

use std::{fs, ops::ControlFlow, path::Path, sync::Arc};

use alexnet::{
    ClassWeights, Engine, Error, Note, Observer, Parallel, Resume, Run, RunInfo, TrainConfig,
    TrainObserver, Trainer,
    core::{Alone, Collective, StepReport, alexnet::Variant, collective::threads, train::Outcome},
    data::{
        augment::Augmentation,
        loader::{OnBadImage, Sampler},
        synthetic,
    },
};
use tempfile::TempDir;

use common::results;

/// A folder with four drawn flowers of each class, one of them damaged.
fn flowers() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let flowers = place.path().join("flowers");
    synthetic::generate(&flowers, 4, 0, &|_, _| {}).unwrap();
    fs::write(flowers.join("roses").join("roses_0002.jpg"), "damaged").unwrap();
    place
}

/// Batches of 4 of 15 images: some ranks have no image in the last step.
fn config(place: &Path, run: &str) -> TrainConfig {
    let mut config = TrainConfig {
        data: place.join("flowers").into(),
        run_dir: Some(place.join(run)),
        val_fraction: 0.25,
        batch_size: 4,
        epochs: 2,
        clip_grad_norm: Some(1.0),
        model_ema: true,
        model_ema_steps: Some(2),
        on_bad_image: OnBadImage::Skip,
        ..TrainConfig::default()
    };
    config.augmentation.mixup = 0.2;
    config.augmentation.cutmix = 1.0;
    config.augmentation.label_smoothing = 0.1;
    config
}

/// Records the notes, and stops the run after a step.
#[derive(Default)]
struct Recorder {
    notes: Vec<Note>,
    stop_after: Option<u64>,
}

impl Observer for Recorder {
    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
}

impl TrainObserver for Recorder {
    fn step(&mut self, run: &RunInfo, _: &StepReport) -> ControlFlow<()> {
        match self.stop_after == Some(run.progress.step) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

fn train(config: TrainConfig, ranks: Arc<dyn Collective>) -> Outcome {
    let mut recorder = Recorder::default();
    let is_first = ranks.rank() == 0;
    let run = Trainer::new(config).unwrap().run_on_ranks(ranks, &mut recorder).unwrap();
    let damaged = recorder.notes.iter().filter(|note| matches!(note, Note::LeftOut { .. })).count();
    assert_eq!(damaged, usize::from(is_first), "rank 0 reports the images of all ranks");
    run.outcome()
}

#[test]
fn any_number_of_ranks_gives_the_same_bytes_also_after_a_resume() {
    let place = flowers();
    let place = place.path();
    train(config(place, "alone"), Arc::new(Alone));
    let expected = results(&place.join("alone"));
    threads::run(4, |ranks| train(config(place, "on4"), ranks));
    assert!(results(&place.join("on4")) == expected, "4 ranks");

    // Rank 1 stops a run with divided linear layers in its second epoch.
    let stopped = threads::run(2, |ranks| {
        let stop_after = (ranks.rank() == 1).then_some(5);
        let mut recorder = Recorder { stop_after, ..Recorder::default() };
        let config = TrainConfig { checkpoint_every: Some(2), ..config(place, "hybrid") };
        let trainer = Trainer::new(config).unwrap().parallel(Parallel::Hybrid);
        trainer.run_on_ranks(ranks, &mut recorder).unwrap().outcome()
    });
    assert_eq!(stopped, [Outcome::Stopped; 2]);
    Trainer::resume(place.join("hybrid")).unwrap().run(&mut ()).unwrap();
    assert!(results(&place.join("hybrid")) == expected, "hybrid on 2 ranks, resumed alone");
}

/// The mean over a step is weighted by the classes of the images of all ranks. One image is damaged,
/// and some ranks have no image in the last step.
#[test]
fn weighted_and_drawn_images_give_the_same_bytes_on_any_number_of_ranks() {
    let place = flowers();
    let place = place.path();
    let config = |run: &str, accumulate| {
        let config = config(place, run);
        let weights = vec![0.3, 1.7, 0.9, 1.1, 2.3];
        let augmentation = Augmentation { mixup: 0.0, cutmix: 0.0, ..config.augmentation };
        TrainConfig {
            augmentation,
            batch_size: 8 / accumulate,
            accumulate,
            sampler: Sampler::Balanced,
            class_weights: Some(ClassWeights::Given(weights)),
            ..config
        }
    };
    train(config("alone", 1), Arc::new(Alone));
    let expected = results(&place.join("alone"));
    for (ranks, accumulate) in [(1, 2), (2, 1), (4, 2)] {
        let run = format!("on{ranks}");
        threads::run(ranks, |ranks| train(config(&run, accumulate), ranks));
        assert!(results(&place.join(&run)) == expected, "{ranks} ranks, {accumulate} batches");
    }
}

/// Rank 1 stops a run in two towers after its first step; one process finishes it.
#[test]
fn two_towers_train_as_one_process_also_after_a_resume() {
    let place = flowers();
    let place = place.path();
    let config = |run: &str| TrainConfig {
        variant: Variant::Original,
        freeze: vec!["classifier".into()],
        epochs: 1,
        batch_size: 4,
        accumulate: 2,
        ..config(place, run)
    };
    let losses =
        |run: &Run| [run.history()[0].train_loss, run.history()[0].validation.unwrap().loss];
    let alone = Trainer::new(config("alone")).unwrap().run(&mut ()).unwrap();
    let stopped = threads::run(2, |ranks| {
        let stop_after = (ranks.rank() == 1).then_some(1);
        let mut recorder = Recorder { stop_after, ..Recorder::default() };
        let trainer = Trainer::new(config("towers")).unwrap().parallel(Parallel::Towers);
        trainer.run_on_ranks(ranks, &mut recorder).unwrap().outcome()
    });
    assert_eq!(stopped, [Outcome::Stopped; 2]);
    let resumed = Trainer::resume(place.join("towers")).unwrap().run(&mut ()).unwrap();
    for (found, expected) in losses(&resumed).into_iter().zip(losses(&alone)) {
        assert!((found / expected - 1.0).abs() < 1e-4, "{found}, alone {expected}");
    }
}

#[test]
fn all_ranks_return_an_error_in_an_image_and_nothing_is_lost() {
    let place = flowers();
    let place = place.path();
    train(TrainConfig { epochs: 1, ..config(place, "run") }, Arc::new(Alone));
    let errors = threads::run(2, |ranks| {
        let changes =
            Resume { epochs: Some(2), on_bad_image: Some(OnBadImage::Error), ..Resume::default() };
        let trainer = Trainer::resume_with(place.join("run"), changes).unwrap();
        trainer.run_on_ranks(ranks, &mut ()).unwrap_err()
    });
    for error in errors {
        assert!(matches!(error, Error::StoppedByImage { .. }), "{error}");
        assert!(error.to_string().contains("roses_0002.jpg"), "{error}");
    }
    let run = Trainer::resume(place.join("run")).unwrap();
    assert!(run.run(&mut ()).is_err(), "the checkpoint was saved");
}

#[test]
fn ranks_with_other_settings_or_images_are_refused() {
    let place = flowers();
    let place = place.path();
    let refused = |of: &(dyn Fn(usize) -> TrainConfig + Sync)| -> String {
        let errors = threads::run(2, |ranks| {
            let trainer = Trainer::new(of(ranks.rank())).unwrap();
            trainer.run_on_ranks(ranks, &mut ()).unwrap_err().to_string()
        });
        errors.into_iter().next().unwrap()
    };
    let error = refused(&|rank| TrainConfig { lr: [0.1, 0.2][rank], ..config(place, "run") });
    assert_eq!(error, "rank 1 of 2 differs from rank 0 of 2: lr is 0.2, not 0.1");
    let errors = threads::run(2, |ranks| {
        let parallel = [Parallel::Data, Parallel::Hybrid][ranks.rank()];
        let trainer = Trainer::new(config(place, "run")).unwrap().parallel(parallel);
        trainer.run_on_ranks(ranks, &mut ()).unwrap_err().to_string()
    });
    assert!(errors[0].ends_with("parallel is hybrid, not data"), "{}", errors[0]);
    let error = refused(&|rank| config(place, ["run", "other"][rank]));
    assert!(error.contains("the run folder is"), "{error}");
    let error =
        refused(&|_| TrainConfig { data: place.join("nowhere").into(), ..config(place, "run") });
    assert!(error.starts_with("there is nothing at "), "{error}");
    assert!(!place.join("run").exists());
}

#[test]
fn divided_layers_are_refused_where_they_are_impossible() {
    let refused = |parallel, ranks, config: TrainConfig| -> Error {
        let mut errors = threads::run(ranks, |ranks| {
            let trainer = Trainer::new(config.clone()).unwrap().parallel(parallel);
            trainer.run_on_ranks(ranks, &mut ()).unwrap_err()
        });
        errors.swap_remove(0)
    };
    let original = || TrainConfig { variant: Variant::Original, ..TrainConfig::default() };
    for parallel in [Parallel::Hybrid, Parallel::Towers] {
        let error =
            refused(parallel, 2, TrainConfig { engine: Engine::Candle.into(), ..original() });
        assert!(matches!(error, Error::CannotDivide { engine: Engine::Candle, .. }), "{error}");
        let error = refused(parallel, 2, TrainConfig { accumulate: 3, ..original() });
        assert!(error.to_string().starts_with("accumulate cannot be 3: "), "{error}");
    }
    let error = refused(Parallel::Towers, 2, TrainConfig::default()).to_string();
    assert!(error.starts_with("parallel cannot be towers: the network has no"), "{error}");
    let error = refused(Parallel::Towers, 4, original()).to_string();
    assert!(error.starts_with("ranks cannot be 4: a network has two towers"), "{error}");
}
