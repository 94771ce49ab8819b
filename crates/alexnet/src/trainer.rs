//! Training: new runs and resumed runs.

mod environment;
mod parallel;
mod ranks;
mod ready;
mod resume;

use std::{ops::ControlFlow, path::Path, sync::Arc};

use alexnet_core::{
    Alone, Backend, Collective, Error as CoreError, Options, Parameters, Progress, State,
    StepReport, Topology,
    collective::{agree, gather},
    metrics::Evaluation,
    train::{self, Averaging, EpochRow, Outcome, Settings, fit},
    weights::{self, Metadata, Weights},
};
use alexnet_data::{augment::views::Views, loader::Loader};

use self::{
    environment::Environment,
    ready::{Ready, new_run},
};
use crate::{
    EngineConfig, Error, Evaluated, Note, Parallel, Result, RunFolder, RunInfo, TrainConfig,
    TrainObserver,
    observer::{ImageNotes, LoaderNotes},
    prepare::metadata,
    run_folder::Marks,
    saved,
};

pub use self::resume::Resume;

/// Trains a network on a folder of images and writes weights, results and checkpoints to a run
/// folder. The command `train` is this plus a [`TrainObserver`] that prints and draws figures.
///
/// ```no_run
/// use alexnet::{Recipe, TrainConfig, Trainer};
///
/// let config = TrainConfig { data: "flower_photos".into(), ..TrainConfig::recipe(Recipe::Fast) };
/// let run = Trainer::new(config)?.run(&mut ())?;
/// if let Some(best) = run.best() {
///     println!("epoch {}: accuracy {:?}", best.epoch, best.accuracy());
/// }
/// # Ok::<(), alexnet::Error>(())
/// ```
///
/// The computation runs in the current rayon thread pool. Results of the engine `cpu` do not depend
/// on the number of threads.
pub struct Trainer {
    config: TrainConfig,
    begin: Begin,
    parallel: Parallel,
}

enum Begin {
    New,
    Resumed(RunFolder, Resume),
}

/// A run that has finished or was stopped.
#[derive(Debug)]
pub struct Run {
    folder: RunFolder,
    progress: Progress,
    outcome: Outcome,
}

impl Run {
    /// Its folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Whether all epochs are done, or the observer stopped it.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Its progress.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The completed epochs.
    pub fn history(&self) -> &[EpochRow] {
        &self.progress.history
    }

    /// The epoch with the best weights, without validation images the last one; `None` before the
    /// first epoch is complete.
    pub fn best(&self) -> Option<&EpochRow> {
        self.progress.best()
    }
}

impl Trainer {
    /// Prepares a new run.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Invalid`] when a setting is out of its limits.
    pub fn new(config: TrainConfig) -> Result<Self> {
        config.check()?;
        Ok(Self { config, begin: Begin::New, parallel: Parallel::Data })
    }

    /// Prepares to resume the run in a folder with its own settings.
    ///
    /// # Errors
    /// When the folder is not a run folder, or its `args.toml` is damaged.
    pub fn resume(run: impl AsRef<Path>) -> Result<Self> {
        Self::resume_with(run, Resume::default())
    }

    /// Prepares to resume the run in a folder with changed settings.
    ///
    /// # Errors
    /// As [`Trainer::resume`].
    pub fn resume_with(run: impl AsRef<Path>, changes: Resume) -> Result<Self> {
        let folder = RunFolder::open(run)?;
        let (mut config, _) = saved::read(&folder)?;
        config.engine = changes.engine.apply(config.engine);
        changes.apply(&mut config);
        Ok(Self { config, begin: Begin::Resumed(folder, changes), parallel: Parallel::Data })
    }

    /// Sets how ranks divide the computation. It is not a setting of the run: a run can be resumed
    /// with another one.
    pub fn parallel(self, parallel: Parallel) -> Self {
        Self { parallel, ..self }
    }

    /// The engine of the run.
    pub fn engine(&self) -> EngineConfig {
        self.config.engine
    }

    /// Trains to the last epoch, or until the observer stops it.
    ///
    /// # Errors
    /// When images, settings or files are invalid, writing fails, or a loss, a gradient or the
    /// state is not finite. The files written until then remain, and the run can be resumed.
    pub fn run(self, observer: &mut dyn TrainObserver) -> Result<Run> {
        self.run_on_ranks(Arc::new(Alone), observer)
    }

    /// Trains together with other ranks, each of which calls this method with the same settings.
    /// The engine `cpu` computes the same bits on any number of ranks that is a power of two, with
    /// [`Parallel::Data`] and [`Parallel::Hybrid`]; otherwise, and on other engines, results differ
    /// by rounding.
    ///
    /// Rank 0 writes the run folder and has all events of its observer. The other ranks' observers
    /// get only [`TrainObserver::started`] and [`TrainObserver::step`], and each can stop the run.
    ///
    /// # Errors
    /// As [`Trainer::run`], and [`Error::RankDiffers`]. An error in preparing the run or in an image
    /// is returned on all ranks. After any other error of one rank, the others wait: the caller must
    /// end their processes.
    pub fn run_on_ranks(
        self,
        ranks: Arc<dyn Collective>,
        observer: &mut dyn TrainObserver,
    ) -> Result<Run> {
        let Self { config, begin, parallel } = self;
        let engine = config.engine;
        let backend = parallel::start(parallel, &config, &ranks);
        let ranks = ranks.as_ref();
        let backend = agree(ranks, backend)?;
        let resumed = match &begin {
            Begin::New => None,
            Begin::Resumed(folder, _) => Some(folder),
        };
        ranks::check_equal(ranks, &config, resumed, parallel)?;
        let ready = match begin {
            Begin::New => {
                let options = config.split_options();
                let list = || config.data.open_or_draw(&options, observer);
                let dataset = ranks::share_dataset(ranks, list)?;
                ranks::share(ranks, || new_run(config, dataset, observer))?
            }
            Begin::Resumed(folder, changes) => {
                let prepare = || resume::ready(folder, engine, &changes, observer);
                let ready = ranks::share(ranks, prepare)?;
                ranks::check_files(ranks, ready.loader.dataset())?;
                ready
            }
        };
        let Ready { config, folder, marks, loader, mut state, mut progress } = ready;
        let dataset = loader.dataset();
        let topology = config.variant.topology(dataset.classes.len());
        let metadata = metadata(&config, &topology, dataset);
        let fixed = Fixed {
            folder: &folder,
            config: &config,
            topology: &topology,
            metadata: &metadata,
            loader: &loader,
        };
        let options = Options {
            device: engine.device,
            optimizer: config.optimizer(),
            frozen: config.frozen(&topology)?,
            ..Options::default()
        };
        let average = std::mem::take(&mut state.average);
        let mut model = backend.compile(&topology, state, &options)?;
        let compile = |parameters: &Parameters| {
            backend.compile(&topology, State::from(parameters.clone()), &options)
        };
        let averaging = config.ema().map(|ema| Averaging { ema, average, compile: &compile });
        let is_first = ranks.rank() == 0;
        let mut started = || {
            if progress.step == 0 && is_first {
                folder.write_json(
                    "environment.json",
                    &Environment::here(engine, ranks.size(), parallel),
                )?;
                folder.write_class_indices(&metadata)?;
            }
            observer.started(&fixed.info(&progress)).map_err(Error::Observer)
        };
        agree(ranks, started())?;

        let settings = Settings {
            seed: config.seed,
            schedule: config.schedule(),
            clip_grad_norm: config.clip_grad_norm,
            batch_size: match parallel {
                // A rank processes all its images of a step at once.
                Parallel::Hybrid | Parallel::Towers if ranks.size() > 1 => usize::MAX,
                _ => config.batch_size as usize,
            },
            patience: config.patience,
            checkpoint_every: config.checkpoint_every,
        };
        let images = ImageNotes::default();
        let mut keeper = Keeper { fixed, marks: &marks, ranks, images, observer };
        let run = train::Run { model: model.as_mut(), averaging, data: &loader, settings, ranks };
        let outcome = fit(run, &mut progress, &mut keeper);
        match &outcome {
            Ok(_) => keeper.send_image_notes()?,
            // The other ranks may not reach this point.
            Err(_) => keeper.images.send(LoaderNotes::of(&loader), keeper.observer),
        }
        let outcome = outcome.map_err(|error| match error {
            CoreError::Image(_) | CoreError::OtherRank(_) => {
                Error::StoppedByImage { folder: folder.path().to_owned(), error }
            }
            error => error.into(),
        })?;
        if outcome == Outcome::Finished && is_first {
            drop(model);
            let (done, epochs) = (progress.history.len() as u64, config.epochs);
            if let Some(patience) = config.patience.filter(|_| done < epochs) {
                observer.note(Note::EndedEarly { done, epochs, patience });
            }
            // The other ranks have ended, so this engine computes alone.
            finish(&fixed.info(&progress), engine.start()?.as_ref(), &options, observer)?;
        }
        Ok(Run { folder, progress, outcome })
    }
}

/// The parts of a run that do not change.
#[derive(Clone, Copy)]
struct Fixed<'a> {
    folder: &'a RunFolder,
    config: &'a TrainConfig,
    topology: &'a Topology,
    metadata: &'a Metadata,
    loader: &'a Loader,
}

impl<'a> Fixed<'a> {
    fn info(self, progress: &'a Progress) -> RunInfo<'a> {
        let Self { folder, config, topology, metadata, loader } = self;
        RunInfo { folder, config, topology, metadata, loader, progress }
    }
}

/// Writes the files of a run and calls its observer.
struct Keeper<'a> {
    fixed: Fixed<'a>,
    marks: &'a Marks,
    ranks: &'a dyn Collective,
    images: ImageNotes,
    observer: &'a mut dyn TrainObserver,
}

impl Keeper<'_> {
    fn is_first_rank(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// Sends the notes of all ranks about images to the observer of rank 0.
    fn send_image_notes(&mut self) -> alexnet_core::Result<()> {
        let all = gather(self.ranks, &LoaderNotes::of(self.fixed.loader))?;
        if self.is_first_rank() {
            all.into_iter().for_each(|notes| self.images.send(notes, self.observer));
        }
        Ok(())
    }
}

impl train::Observer for Keeper<'_> {
    fn step(&mut self, progress: &Progress, report: &StepReport) -> ControlFlow<()> {
        self.observer.step(&self.fixed.info(progress), report)
    }

    fn epoch(
        &mut self,
        progress: &Progress,
        evaluation: Option<&Evaluation>,
        weights: &Parameters,
    ) -> alexnet_core::Result<()> {
        if !self.is_first_rank() {
            return self.send_image_notes();
        }
        let info = self.fixed.info(progress);
        let (Some(row), Some(best)) = (progress.history.last(), progress.best()) else {
            return Ok(());
        };
        weights::save(info.folder.last(), info.metadata, weights)?;
        if row.epoch == best.epoch {
            weights::save(info.folder.best(), info.metadata, weights)?;
        }
        info.folder.write_results(&progress.history)?;
        self.observer.epoch(&info, evaluation);
        self.send_image_notes()
    }

    fn checkpoint(&mut self, progress: &Progress, state: &State) -> alexnet_core::Result<()> {
        match self.is_first_rank() {
            true => self.fixed.folder.save_checkpoint(state, progress, self.marks),
            false => Ok(()),
        }
    }
}

/// Evaluates the best weights on the validation images, if there are any, and writes the report.
fn finish(
    info: &RunInfo,
    backend: &dyn Backend,
    options: &Options,
    observer: &mut dyn TrainObserver,
) -> Result<()> {
    let Weights { metadata, parameters } = Weights::load(info.folder.best())?;
    let topology = metadata.variant.topology(metadata.classes.len());
    let mut model = backend.compile(&topology, State::from(parameters), options)?;
    let val = &info.loader.dataset().val;
    let evaluated = match val.is_empty() {
        true => None,
        false => Some(Evaluated::new(
            model.as_mut(),
            info.loader,
            val,
            Views::Whole,
            &metadata.classes,
            observer,
        )?),
    };
    if let Some(evaluated) = &evaluated {
        evaluated.write(info.folder.path())?;
    }
    observer.finished(info, model.as_mut(), evaluated.as_ref()).map_err(Error::Observer)
}
