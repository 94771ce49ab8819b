//! The event file of a run for TensorBoard.

use std::path::Path;

use alexnet::{
    RunInfo,
    core::train::{Batches, EpochRow, Validation},
    interchange::tensorboard::{EventFile, NAME},
};
use anyhow::Result;

use super::report::Step;

/// Steps between two events of steps.
const EVERY: u64 = 10;

/// The tag that only the event of an epoch has.
const OF_EPOCH: &str = "train/loss";

/// Writes the scalars of a run. The event of an epoch has the names of the columns of `results.csv`.
pub struct Events(EventFile);

impl Events {
    /// Whether a run has an event file, which is continued.
    pub fn exist_in(folder: &Path) -> bool {
        folder.join(NAME).exists()
    }

    /// Opens the event file of a run at its present step: events after it, which a killed process
    /// has written after its last checkpoint, are removed. A new file gets the epochs before.
    ///
    /// # Errors
    /// If the file cannot be written, or is not an event file.
    pub fn open(run: &RunInfo) -> Result<Self> {
        let path = run.folder.file(NAME);
        let history = &run.progress.history;
        let is_new = !path.exists();
        let mut epochs = 0;
        let file = EventFile::open(&path, |step, tags| {
            epochs += usize::from(tags.contains(&OF_EPOCH));
            step <= run.progress.step && epochs <= history.len()
        })?;
        let mut events = Self(file);
        if is_new {
            let steps_per_epoch = run.loader.steps_per_epoch() as u64;
            for row in history {
                events.epoch(row.epoch * steps_per_epoch, row)?;
            }
        }
        Ok(events)
    }

    /// Adds the loss and the learning rate of every tenth step.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn step(&mut self, step: &Step) -> Result<()> {
        let Step { step, loss, lr, .. } = *step;
        if step.is_multiple_of(EVERY) {
            self.0.add(step, &[("step/loss", loss), ("step/lr", lr.into())])?;
        }
        Ok(())
    }

    /// Adds a finished epoch, whose last step is `step`, and waits until the disk has the file,
    /// before the checkpoint is written.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn epoch(&mut self, step: u64, row: &EpochRow) -> Result<()> {
        let mut scalars = vec![(OF_EPOCH, row.train_loss), ("lr", row.lr.into())];
        if let Some(Validation { loss, accuracy, top5 }) = row.validation {
            scalars.extend([("val/loss", loss), ("metrics/accuracy_top1", accuracy)]);
            scalars.extend(top5.map(|top5| ("metrics/accuracy_top5", top5)));
        }
        self.0.add(step, &scalars)?;
        Ok(self.0.sync()?)
    }
}
