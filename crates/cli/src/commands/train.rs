//! `alexnet train`: the main job.

mod header;
mod resumed;
mod watch;

use std::{fs, path::PathBuf, process::ExitCode};

use alexnet_core::{
    Backend, Error, Options, Parameters, Progress, State,
    ema::Ema,
    text::shown_path,
    train::{self, Averaging, Batches, Outcome, Settings, fit},
    weights::{Metadata, Weights},
};
use alexnet_data::{
    augment::views::Views,
    check,
    dataset::{Dataset, Item},
    loader::Loader,
};
use anyhow::{Result, ensure};
use serde::Serialize;

use self::{header::header, resumed::resumed, watch::Watch};
use crate::{
    config::{FileOptions, Source},
    dataset,
    engine::Choice,
    pictures, progress,
    recipe::{BadImage, DEFAULT_EPOCHS},
    report::Evaluated,
    run_folder::{Marks, RunFolder},
    saved::Saved,
    start,
    stop::Stop,
};

/// Trains a network on a folder of photos and keeps everything in a run folder.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: FileOptions,
    #[command(flatten)]
    pub source: Source,
    /// Folder of the run [default: the next free runs/train…]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Go on with this run from its last checkpoint, on its engine or another; only engine, device, workers, epochs,
    /// checkpoints, --data (where its images are now) and --on-bad-image can be given anew
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "run_dir", "Source", "Setup", "val_fraction", "exif_orientation", "ModelOptions", "Optimisation", "Equations", "Rates", "Steps", "Augmentation"
    ])]
    resume: Option<PathBuf>,
}

/// A run as it stands: new, or read back from its folder.
struct Run {
    folder: RunFolder,
    options: Saved,
    marks: Marks,
    backend: Box<dyn Backend>,
    loader: Loader,
    state: State,
    progress: Progress,
}

/// Runs the command. The exit code is 0, or 129, 130 or 143 after a signal.
///
/// # Errors
/// When the photos, the options or the disk do not allow it, or the loss is not finite.
pub fn run(args: &Args) -> Result<ExitCode> {
    let run = match &args.resume {
        Some(path) => resumed(path, args)?,
        None => begun(args)?,
    };
    let stop = Stop::listen()?;
    let Run { folder, options: Saved { engine, recipe }, marks, backend, loader, state, mut progress } = run;
    let dataset = loader.dataset();
    // Here and below: training does not end because nobody reads.
    let _ = say!(
        "using {} images for training, {} images for validation.",
        dataset.train.len(),
        dataset.val.len()
    );
    let topology = recipe.setup.topology(dataset);
    let metadata = Metadata {
        variant: recipe.setup.model.variant,
        classes: dataset.classes.clone(),
        input_size: topology.input[1],
        normalization: recipe.setup.normalization(),
        exif_orientation: recipe.setup.data.exif_orientation(),
    };
    let source = match &args.resume {
        Some(_) => format!("options of {}", shown_path(&folder.args())),
        None => args.source.description(),
    };
    for line in header(&recipe, &topology, engine, &source)? {
        note!("{line}");
    }
    let options = Options {
        device: engine.device,
        optimizer: recipe.optimisation.equations.optimizer(),
        frozen: recipe.setup.frozen(&topology)?,
    };
    let mut model = backend.compile(&topology, &state, &options)?;
    let compile = |parameters: &Parameters| {
        let state = State { parameters: parameters.clone(), ..State::default() };
        backend.compile(&topology, &state, &options)
    };
    let averaging =
        recipe.optimisation.ema().map(|ema| Averaging { ema, average: state.average, compile: &compile });
    // Nothing of the state is needed any more.
    drop((state.parameters, state.moments));
    if progress.step == 0 {
        write_static_files(&folder, engine, &loader, &metadata)?;
    }

    let settings = Settings {
        seed: recipe.setup.seed,
        schedule: recipe.schedule(),
        clip_grad_norm: recipe.optimisation.steps.clip_grad_norm,
        accumulate: recipe.optimisation.steps.accumulate as usize,
        patience: recipe.optimisation.patience,
        checkpoint_every: args.options.checkpoint_every,
    };
    note!("the run is kept in {}", shown_path(folder.path()));
    let mut watch = Watch::new((&folder, &marks), &metadata, &loader, settings.schedule.epochs, stop.clone());
    let run = train::Run { model: model.as_mut(), averaging, data: &loader, settings };
    let outcome = fit(run, &mut progress, &mut watch);
    watch.finish();
    match outcome.map_err(|error| how_to_go_on(error, &folder))? {
        Outcome::Finished => {
            drop(model);
            write_pictures_of_the_best(&folder, backend.as_ref(), &options, &loader)?;
            let _ = say!("Finished Training");
            if let Some(best) = progress.best() {
                let _ = say!(
                    "best: epoch {}, val_accuracy {:.3}, {}",
                    best.epoch,
                    best.accuracy,
                    shown_path(&folder.best())
                );
            }
            if let Ok(checkpoint) = fs::metadata(folder.checkpoint()) {
                note!(
                    "checkpoint: {} ({:.0} MB), needed only to go on with more `--epochs`",
                    shown_path(&folder.checkpoint()),
                    checkpoint.len() as f64 / 1e6
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped => {
            note!(
                "stopped after step {}; go on with `train --resume {}`",
                progress.step,
                shown_path(folder.path())
            );
            Ok(ExitCode::from(stop.code().unwrap_or(130)))
        }
    }
}

/// A new run, with its folder.
fn begun(args: &Args) -> Result<Run> {
    let (engine, backend) = args.options.engine.start()?;
    let mut recipe = args.options.recipe.clone();
    recipe.epochs.get_or_insert(DEFAULT_EPOCHS);
    let equations = &mut recipe.optimisation.equations;
    equations.weight_decay.get_or_insert(equations.opt.weight_decay());
    let setup = &mut recipe.setup;
    let dataset = dataset::open_or_draw(setup.data.data.as_deref(), setup.data.val_fraction, setup.seed)?;
    let frozen = setup.frozen(&setup.topology(&dataset))?;
    if !frozen.is_empty() && setup.model.weights.is_none() {
        note!("`--freeze` without `--weights`: the frozen layers stay as they are drawn");
    }
    if *setup.data.on_bad_image.get_or_insert_default() == BadImage::Error {
        look_at_all(&dataset)?;
    }
    let (state, loader) = start::begin(setup, dataset)?;
    let steps_per_epoch = loader.steps_per_epoch().div_ceil(recipe.optimisation.steps.accumulate as usize);
    recipe.optimisation.model_ema_steps.get_or_insert(Ema::pace(steps_per_epoch as u64));
    // A run that cannot take its first step leaves no folder.
    loader.train(0, 0).next().transpose()?;
    let options = Saved { engine, recipe };
    options.check()?;
    let (marks, progress) = (options.marks(loader.dataset())?, Progress::default());
    let folder = RunFolder::create(args.run_dir.as_deref())?;
    // The arguments come first: with them a run that is killed now can already be resumed.
    options.write(&folder)?;
    loader.dataset().save(&folder.split())?;
    // From here on a run without a checkpoint has lost it, and its initial weights may move.
    folder.save_checkpoint(&state, &progress, &marks)?;
    Ok(Run { folder, options, marks, backend, loader, state, progress })
}

/// Of images that cannot be read so many are named.
const NAMED: usize = 5;

/// Looks for images that cannot be read before hours of training meet them.
fn look_at_all(dataset: &Dataset) -> Result<()> {
    let bar = progress::Items::new("looking at the images");
    let unreadable = check::unreadable(dataset, &|done, total| bar.at(done, total));
    bar.finish();
    let named: Vec<String> = unreadable.iter().take(NAMED).map(ToString::to_string).collect();
    let more = if unreadable.len() > NAMED { "; …" } else { "" };
    ensure!(
        unreadable.is_empty(),
        "{} of {} images cannot be read: {}{more}; replace or remove them (`data check` lists all), or leave them out with \
         `--on-bad-image skip`",
        unreadable.len(),
        dataset.items().count(),
        named.join("; ")
    );
    Ok(())
}

/// What ended a run, with the way on where it is an image.
fn how_to_go_on(error: Error, folder: &RunFolder) -> anyhow::Error {
    let is_image = matches!(error, Error::Image(_));
    let error = anyhow::Error::new(error);
    if !is_image {
        return error;
    }
    let on = format!("`train --resume {}` goes on from there", shown_path(folder.path()));
    error.context(format!("what was done is kept, and {on}"))
}

/// What a run tells about itself before its first step.
fn write_static_files(
    folder: &RunFolder,
    engine: Choice,
    loader: &Loader,
    metadata: &Metadata,
) -> Result<()> {
    folder.write_json("environment.json", &Environment::here(engine))?;
    folder.write_class_indices(metadata)?;
    if let Some(batch) = loader.train(0, 0).next() {
        let picture = pictures::training_batch(&batch?, &metadata.classes);
        pictures::save(&picture, &folder.file("train_batch0.jpg"))?;
    }
    Ok(())
}

/// Where a run was made: `environment.json`.
#[derive(Serialize)]
struct Environment {
    version: &'static str,
    #[serde(flatten)]
    engine: Choice,
    os: &'static str,
    arch: &'static str,
    threads: usize,
}

impl Environment {
    fn here(engine: Choice) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            engine,
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            threads: rayon::current_num_threads(),
        }
    }
}

/// `val_batch0_pred.jpg`: what the best weights say to some validation photos; and the report on all.
fn write_pictures_of_the_best(
    folder: &RunFolder,
    backend: &dyn Backend,
    options: &Options,
    loader: &Loader,
) -> Result<()> {
    let Weights { metadata, parameters } = Weights::load(folder.best())?;
    let topology = metadata.variant.topology(metadata.classes.len());
    let state = State { parameters, ..State::default() };
    let mut model = backend.compile(&topology, &state, options)?;
    // Evenly spread, since the photos are sorted by class.
    let val = &loader.dataset().val;
    let shown: Vec<Item> = val.iter().step_by(val.len().div_ceil(16).max(1)).cloned().collect();
    if let Some(batch) = loader.evaluation(&shown).next() {
        let (_, batch) = batch?;
        let picture = pictures::predictions(&batch, &model.logits(&batch.images)?, &metadata.classes);
        pictures::save(&picture, &folder.file("val_batch0_pred.jpg"))?;
    }
    Evaluated::new(model.as_mut(), loader, val, Views::Whole, &metadata.classes)?.write(folder.path())
}
