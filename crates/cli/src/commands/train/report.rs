//! How the progress of a run is printed: as text, or as JSON lines for other programs.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use alexnet::{
    Run, RunInfo,
    core::{
        StepReport,
        train::{Batches, EpochRow, Outcome},
    },
};
use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::output;

/// What a run prints besides its results, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Run")]
pub struct ReportOptions {
    /// How the progress is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "line")]
    pub progress: Format,
    /// Print only results, assumptions, warnings and errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Print a line for each step: loss, norm of the gradient, learning rate, images per second
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Also append everything that is printed, except the progress line, to this file, with the time
    /// of each line
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Also write losses, accuracy and learning rate to the run folder as an event file of
    /// TensorBoard
    #[arg(long)]
    pub tensorboard: bool,
}

impl ReportOptions {
    /// Whether standard output has JSON lines only.
    pub fn is_json(&self) -> bool {
        self.progress == Format::Json
    }

    /// Prints a line of results to standard output, or to standard error if standard output has JSON
    /// lines.
    pub fn result(&self, line: &str) {
        match self.is_json() {
            true => note!("{line}"),
            false => continue_after(say!("{line}")),
        }
    }
}

/// Formats of the progress of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line that is redrawn on a terminal; otherwise a line every few seconds
    Line,
    /// JSON lines on standard output, instead of the lines of text there
    Json,
}

/// The time between two events of steps.
const STEP_EVERY: Duration = Duration::from_secs(1);

/// An event, as a JSON line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'a> {
    /// The run is about to take its first or next step.
    Start {
        run: String,
        /// The epochs and steps that are done.
        epochs_done: usize,
        steps_done: u64,
        epochs: u64,
        steps_per_epoch: usize,
        train_images: usize,
        val_images: usize,
        classes: &'a [String],
    },
    /// A step is complete.
    Step(Step),
    /// An epoch is complete.
    Epoch {
        epoch: u64,
        step: u64,
        train_loss: f64,
        /// Unknown without validation images, as the next one.
        val_loss: Option<f64>,
        val_accuracy: Option<f64>,
        /// Known if there are also more than five classes.
        val_top5: Option<f64>,
        lr: f32,
        /// Seconds of training since the start of the run.
        seconds: f64,
    },
    /// The run has finished or was stopped.
    End {
        outcome: &'static str,
        steps_done: u64,
        epochs_done: usize,
        best_epoch: Option<u64>,
        best_val_accuracy: Option<f64>,
    },
}

/// A step, in JSON and in the lines of `--verbose`.
#[derive(Clone, Copy, Serialize)]
pub struct Step {
    pub epoch: u64,
    pub step: u64,
    /// Batches of the epoch that are done, and all.
    pub batches_done: usize,
    pub batches: usize,
    pub loss: f64,
    pub gradient_norm: f64,
    pub lr: f32,
    /// Unknown in the first step.
    pub images_per_second: Option<f64>,
    pub seconds_left: Option<f64>,
}

impl Step {
    /// Returns the last step of a run. `speed` is the number of images per second, if it is known.
    pub fn new(run: &RunInfo, report: &StepReport, speed: Option<f64>) -> Self {
        let RunInfo { progress, config, loader, .. } = *run;
        let (epochs_done, batches) = (progress.history.len() as u64, loader.batches_per_epoch());
        let batches_left = (config.epochs - epochs_done - 1) as f64 * batches as f64
            + (batches - progress.batches) as f64;
        let images_left = batches_left * progress.images as f64 / progress.batches as f64;
        Self {
            epoch: epochs_done + 1,
            step: progress.step,
            batches_done: progress.batches,
            batches,
            loss: report.loss,
            gradient_norm: report.gradient_norm,
            lr: progress.lr(&config.schedule(), loader),
            images_per_second: speed,
            seconds_left: speed.map(|speed| images_left / speed),
        }
    }
}

/// Prints events.
#[derive(Default)]
pub struct JsonLines {
    last_step: Option<Instant>,
}

impl JsonLines {
    pub fn start(&self, run: &RunInfo) {
        let dataset = run.loader.dataset();
        print(&Event::Start {
            run: run.folder.path().to_string_lossy().into_owned(),
            epochs_done: run.progress.history.len(),
            steps_done: run.progress.step,
            epochs: run.config.epochs,
            steps_per_epoch: run.loader.steps_per_epoch(),
            train_images: dataset.train.len(),
            val_images: dataset.val.len(),
            classes: &run.metadata.classes,
        });
    }

    /// Prints a step if the last one was printed a second ago, or it is the last of its epoch.
    pub fn step(&mut self, step: Step) {
        let is_due = self.last_step.is_none_or(|last| last.elapsed() >= STEP_EVERY);
        if is_due || step.batches_done == step.batches {
            self.last_step = Some(Instant::now());
            print(&Event::Step(step));
        }
    }

    pub fn epoch(&self, step: u64, row: &EpochRow) {
        print(&Event::Epoch {
            epoch: row.epoch,
            step,
            train_loss: row.train_loss,
            val_loss: row.validation.map(|validation| validation.loss),
            val_accuracy: row.accuracy(),
            val_top5: row.validation.and_then(|validation| validation.top5),
            lr: row.lr,
            seconds: row.time,
        });
    }

    pub fn end(run: &Run) {
        print(&Event::End {
            outcome: match run.outcome() {
                Outcome::Finished => "finished",
                Outcome::Stopped => "stopped",
            },
            steps_done: run.progress().step,
            epochs_done: run.history().len(),
            best_epoch: run.best().map(|row| row.epoch),
            best_val_accuracy: run.best().and_then(EpochRow::accuracy),
        });
    }
}

/// Prints an event.
fn print(event: &Event) {
    if let Ok(text) = serde_json::to_string(event) {
        continue_after(output::json(&text));
    }
}

/// Prints the first error of standard output as a warning, unless the reader of a pipe has exited.
/// Training continues.
fn continue_after(printed: Result<()>) {
    static IS_LOST: AtomicBool = AtomicBool::new(false);
    if let Err(error) = printed
        && !output::is_broken_pipe(&error)
        && !IS_LOST.swap(true, Ordering::Relaxed)
    {
        note!("warning: {}; the run is not affected", output::explain(&error));
    }
}
