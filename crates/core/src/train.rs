//! The training loop over any engine and any source of batches.

use std::{ops::ControlFlow, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{Batch, Error, Model, Result, State, Step, StepReport, metrics::Evaluation};

/// Where batches come from. Each batch is a pure function of the source's seed, the epoch and its index, so an epoch can be
/// entered anywhere.
pub trait Batches {
    /// Training batches an epoch.
    fn steps_per_epoch(&self) -> usize;

    /// The training batches of `epoch` (from 0), beginning with the one at index `first`. A batch may be smaller than
    /// the others, or empty, when photos had to be skipped.
    fn train(&self, epoch: u64, first: usize) -> Box<dyn Iterator<Item = Result<Batch>> + '_>;

    /// The validation batches, always in the same order.
    fn validation(&self) -> Box<dyn Iterator<Item = Result<Batch>> + '_>;
}

/// What stays the same through a run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Passes over the training photos.
    pub epochs: u64,
    /// Key of the dropout masks.
    pub seed: u64,
    /// Learning rate of every step.
    pub lr: f32,
    /// Save a checkpoint after every so many steps, beside the one after each epoch.
    pub checkpoint_every: Option<u64>,
}

/// An epoch that is done: a line of `results.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// From 1.
    pub epoch: u64,
    /// Seconds of training and validation since the run began, without the time between a kill and its resume.
    pub time: f64,
    /// Mean loss over the pictures trained on, as they were met.
    pub train_loss: f64,
    /// Mean loss over the validation pictures.
    pub val_loss: f64,
    /// Share of validation pictures whose most likely class is the true one.
    pub accuracy: f64,
    /// Learning rate at the end.
    pub lr: f32,
}

/// How far a run is. Together with a [`State`] this is all that a resume needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimiser steps done.
    pub step: u64,
    /// Batches taken from the epoch under way, which is epoch `history.len()`, from 0.
    pub batches: usize,
    /// Pictures trained on in it.
    pub images: u64,
    /// Sum of their losses.
    pub loss_sum: f64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The epochs done.
    pub history: Vec<EpochRow>,
}

impl Progress {
    /// The epoch of highest accuracy; the first of equals.
    pub fn best(&self) -> Option<&EpochRow> {
        self.history.iter().reduce(|best, row| if row.accuracy > best.accuracy { row } else { best })
    }

    /// Mean loss of the epoch under way.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / self.images as f64
    }
}

/// Who watches a run and keeps its files.
pub trait Observer {
    /// After each step. `Break` ends the run here, with a checkpoint.
    fn step(&mut self, progress: &Progress, report: &StepReport) -> ControlFlow<()>;

    /// After each epoch, before its checkpoint; the last row of `progress.history` is new.
    ///
    /// # Errors
    /// Ends the run.
    fn epoch(&mut self, progress: &Progress, evaluation: &Evaluation, state: &State) -> Result<()>;

    /// When the run's state must be kept.
    ///
    /// # Errors
    /// Ends the run.
    fn checkpoint(&mut self, progress: &Progress, state: &State) -> Result<()>;
}

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// The observer asked for a stop; the checkpoint is saved.
    Stopped,
}

/// Trains `model` from `progress` to the last epoch.
///
/// # Errors
/// [`Error::NotFinite`] when a loss or gradient is not finite: the step is named and no checkpoint is written after it.
/// Otherwise the first error of the engine, the batches or the observer.
pub fn fit(
    model: &mut dyn Model,
    data: &dyn Batches,
    settings: &Settings,
    progress: &mut Progress,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let start = Instant::now();
    let seconds_before = progress.seconds;
    while (progress.history.len() as u64) < settings.epochs {
        let epoch = progress.history.len() as u64;
        for batch in data.train(epoch, progress.batches) {
            let batch = batch?;
            progress.batches += 1;
            if batch.is_empty() {
                continue;
            }
            let step = Step { number: progress.step + 1, seed: settings.seed, lr: settings.lr, clip_grad_norm: None };
            let report = model.train_step(&batch, &step)?;
            let not_finite = |what| Error::NotFinite { what, step: step.number, epoch: epoch + 1 };
            if !report.loss.is_finite() {
                return Err(not_finite("loss"));
            }
            if !report.gradient_norm.is_finite() {
                return Err(not_finite("gradient"));
            }
            progress.step = step.number;
            progress.images += batch.len() as u64;
            progress.loss_sum += report.loss * batch.len() as f64;
            progress.seconds = seconds_before + start.elapsed().as_secs_f64();
            let stop = observer.step(progress, &report).is_break();
            if stop || settings.checkpoint_every.is_some_and(|n| progress.step.is_multiple_of(n)) {
                observer.checkpoint(progress, &model.state()?)?;
            }
            if stop {
                return Ok(Outcome::Stopped);
            }
        }
        if progress.images == 0 {
            return Err(Error::Data(format!("epoch {} had no picture to train on", epoch + 1)));
        }
        let evaluation = evaluate(model, data.validation())?;
        if !evaluation.loss().is_finite() {
            return Err(Error::NotFinite { what: "validation loss", step: progress.step, epoch: epoch + 1 });
        }
        progress.seconds = seconds_before + start.elapsed().as_secs_f64();
        progress.history.push(EpochRow {
            epoch: epoch + 1,
            time: progress.seconds,
            train_loss: progress.mean_loss(),
            val_loss: evaluation.loss(),
            accuracy: evaluation.confusion().accuracy(),
            lr: settings.lr,
        });
        (progress.batches, progress.images, progress.loss_sum) = (0, 0, 0.0);
        let state = model.state()?;
        observer.epoch(progress, &evaluation, &state)?;
        observer.checkpoint(progress, &state)?;
    }
    Ok(Outcome::Finished)
}

/// The model's answers on `batches` against their targets.
///
/// # Errors
/// The first error of the engine or the batches; [`Error::Data`] when there is no picture.
pub fn evaluate(model: &mut dyn Model, batches: impl IntoIterator<Item = Result<Batch>>) -> Result<Evaluation> {
    let mut evaluation: Option<Evaluation> = None;
    for batch in batches {
        let batch = batch?;
        if batch.is_empty() {
            continue;
        }
        let logits = model.logits(&batch.images)?;
        evaluation.get_or_insert_with(|| Evaluation::new(logits.classes)).add(&logits, &batch.targets);
    }
    evaluation.ok_or_else(|| Error::Data("there is no picture to evaluate on".into()))
}
