//! `alexnet train`: trains a network, or resumes a run.

mod events;
mod header;
mod other_rank;
mod report;
mod watch;

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc};

use alexnet::{
    Parallel, Resume, Run, RunFolder, Trainer,
    core::{Collective, text::shown_path, train::Outcome},
};
use anyhow::{Result, bail};

use self::{
    other_rank::OtherRank,
    report::{JsonLines, ReportOptions},
    watch::Watch,
};
use crate::{
    config::Source,
    options::{TrainOptions, engine},
    output, parse,
    ranks::{self, SumOrder},
    stop::Stop,
};

/// Train a network on a folder of images and write a run folder
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: TrainOptions,
    #[command(flatten)]
    pub source: Source,
    /// Run folder [default: the next free name of runs/train, runs/train2, …]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    #[command(flatten)]
    report: ReportOptions,
    /// Number of processes on this machine that train together; `mpirun` starts them (needs a build
    /// with MPI). The number does not change the results of the engine `cpu` if it is 1, 2, 4, 8, …,
    /// except with `--parallel towers`
    #[arg(long, help_heading = "Engine", value_name = "N", value_parser = parse::between(1u16, 1024))]
    ranks: Option<u16>,
    /// Order in which gradients are added over the ranks
    #[arg(
        long,
        help_heading = "Engine",
        value_name = "ORDER",
        value_enum,
        default_value = "fixed"
    )]
    sum_order: SumOrder,
    /// How processes divide the computation
    #[arg(long, help_heading = "Engine", value_name = "MODE", value_enum, default_value = "data")]
    parallel: Parallel,
    /// Resume a run from its last checkpoint; without a value, the newest run in runs/. Only the
    /// options for engine, workers, epochs, patience, checkpoints, --data (if the images have been
    /// moved) and --on-bad-image can be changed
    #[arg(long, value_name = "RUN", num_args = 0..=1, conflicts_with_all = [
        "run_dir", "Source", "val_fraction", "fold", "shuffle", "sampler", "class_weights", "exif_orientation",
        "ModelOptions", "batch_size", "AugmentationOptions", "seed", "OptimizerOptions", "RateOptions",
        "StepOptions", "model_ema", "model_ema_decay", "model_ema_steps"
    ])]
    resume: Option<Option<PathBuf>>,
}

/// Runs the command. The exit code is 0, or 129, 130, 138 or 143 after a signal.
///
/// # Errors
/// If an option is invalid, an image cannot be read, a file cannot be written, or the loss is not
/// finite.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(path) = &args.report.log_file
        && ranks::is_first()
    {
        let is_of_a_run = |folder| RunFolder::open(folder).is_ok_and(|run| run.has(path));
        if path.ancestors().skip(1).take(2).any(is_of_a_run) {
            bail!("`--log-file {}` is a file of a run; choose another file", shown_path(path));
        }
        output::log_to(path)?;
    }
    let trainer = trainer(args)?;
    if let Some(ranks) = args.ranks.filter(|ranks| *ranks > 1)
        && ranks::launched().is_none()
    {
        return ranks::launch(ranks);
    }
    engine::choose_program(trainer.engine())?;
    let ranks = ranks::join(args.ranks, args.sum_order)?;
    let code = train(args, trainer, Arc::clone(&ranks));
    if code.is_err() {
        // Dropping it would wait for the other ranks.
        std::mem::forget(ranks);
    }
    code
}

/// Trains on one of `ranks`.
fn train(args: &Args, trainer: Trainer, ranks: Arc<dyn Collective>) -> Result<ExitCode> {
    let threads = args.options.engine.threads;
    match ranks.size() {
        1 => threads.start()?,
        _ => threads.or(ranks::threads(ranks.as_ref())?).start()?,
    }
    let stop = Stop::default();
    if ranks.rank() > 0 {
        let run = trainer.run_on_ranks(ranks, &mut OtherRank { stop: stop.clone() })?;
        return Ok(exit_code(&run, &stop));
    }
    let source = args.resume.is_none().then_some(&args.source);
    let mut watch = Watch::new(stop.clone(), source, (ranks.size(), args.parallel), &args.report);
    let run = trainer.run_on_ranks(ranks, &mut watch);
    watch.clear();
    let run = run?;
    if args.report.is_json() {
        JsonLines::end(&run);
    }
    match run.outcome() {
        Outcome::Finished => print_best(&run, &args.report),
        Outcome::Stopped => note!(
            "stopped after step {}; continue with `train --resume {}`",
            run.progress().step,
            shown_path(run.folder().path())
        ),
    }
    Ok(exit_code(&run, &stop))
}

fn exit_code(run: &Run, stop: &Stop) -> ExitCode {
    match run.outcome() {
        Outcome::Finished => ExitCode::SUCCESS,
        // Another rank may have received the signal.
        Outcome::Stopped => ExitCode::from(stop.code().unwrap_or(130)),
    }
}

fn trainer(args: &Args) -> Result<Trainer> {
    Ok(begin(args)?.parallel(args.parallel))
}

fn begin(args: &Args) -> Result<Trainer> {
    let Args { options, run_dir, resume, .. } = args;
    let Some(run) = resume else {
        let mut config = options.config();
        config.run_dir.clone_from(run_dir);
        return Ok(Trainer::new(config)?);
    };
    let run = match run {
        Some(run) => run.clone(),
        None => newest()?,
    };
    let data = &options.setup.data;
    let changes = Resume {
        engine: options.engine.changes(),
        epochs: options.epochs,
        patience: options.optimization.patience,
        data: data.data.clone(),
        on_bad_image: data.on_bad_image.map(Into::into),
        checkpoint_every: options.checkpoint_every,
    };
    Ok(Trainer::resume_with(run, changes)?)
}

/// Returns the newest run in `runs/`, and prints its name.
fn newest() -> Result<PathBuf> {
    let run = RunFolder::newest()?;
    // Of several processes, the one that starts the others prints it.
    if ranks::launched().is_none() {
        note!("resuming the newest run, {}", shown_path(&run));
    }
    Ok(run)
}

/// Prints the best epoch of a finished run.
fn print_best(run: &Run, report: &ReportOptions) {
    let folder = run.folder();
    report.result("Finished Training");
    if let Some(best) = run.best() {
        let accuracy = match best.accuracy() {
            Some(accuracy) => format!("val_accuracy {accuracy:.3}"),
            None => "the last, without validation".into(),
        };
        let file = folder.best();
        report.result(&format!("best: epoch {}, {accuracy}, {}", best.epoch, shown_path(&file)));
    }
    if report.quiet {
        return;
    }
    if let Ok(checkpoint) = fs::metadata(folder.checkpoint()) {
        note!(
            "checkpoint: {} ({:.0} MB), needed only to continue with more `--epochs` or `--patience`",
            shown_path(&folder.checkpoint()),
            checkpoint.len() as f64 / 1e6
        );
    }
}
