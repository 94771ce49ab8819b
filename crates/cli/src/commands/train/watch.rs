//! What a user sees of a run, and the files it leaves after each step and epoch.

use std::{collections::BTreeSet, ops::ControlFlow, path::PathBuf, time::Instant};

use alexnet_core::{
    Parameters, Progress, Result, State, StepReport,
    metrics::Evaluation,
    train::{Batches, Observer},
    weights::{self, Metadata},
};
use alexnet_data::loader::Loader;

use crate::{
    output::{explain, note_damaged, note_left_out},
    pictures,
    progress::{Line, clock},
    run_folder::{Marks, RunFolder},
    stop::Stop,
};

/// Watches a run.
pub struct Watch<'a> {
    folder: &'a RunFolder,
    marks: &'a Marks,
    metadata: &'a Metadata,
    loader: &'a Loader,
    epochs: u64,
    stop: Stop,
    line: Line,
    /// When this process took its first step, and the pictures of that epoch it found already done.
    epoch_start: Option<(Instant, u64)>,
    /// Photos left out or damaged that the user has been told of.
    told: BTreeSet<PathBuf>,
}

impl<'a> Watch<'a> {
    /// Watches a run of `epochs` epochs.
    pub fn new(
        (folder, marks): (&'a RunFolder, &'a Marks),
        metadata: &'a Metadata,
        loader: &'a Loader,
        epochs: u64,
        stop: Stop,
    ) -> Self {
        Self {
            folder,
            marks,
            metadata,
            loader,
            epochs,
            stop,
            line: Line::new(),
            epoch_start: None,
            told: BTreeSet::new(),
        }
    }

    /// Leaves the terminal clean and tells of the photos that were left out or are damaged.
    pub fn finish(mut self) {
        self.tell_skipped();
    }

    fn tell_skipped(&mut self) {
        for (path, reason) in untold(self.loader.skipped(), &mut self.told) {
            note_left_out(&path, &reason);
        }
        for (path, what) in untold(self.loader.notes(), &mut self.told) {
            note_damaged(&path, &what);
        }
    }

    fn print_step(&mut self, progress: &Progress, loss: f64) {
        let epoch = progress.history.len() as u64 + 1;
        let steps = self.loader.steps_per_epoch();
        let (start, before) = *self.epoch_start.get_or_insert((Instant::now(), progress.images));
        let speed = (progress.images - before) as f64 / start.elapsed().as_secs_f64();
        let left = (self.epochs - epoch) as f64 * steps as f64 + (steps - progress.batches) as f64;
        // Before the second step there is no speed to speak of.
        let pace = if progress.images > before {
            let per_step = start.elapsed().as_secs_f64() * progress.images as f64
                / ((progress.images - before) as f64 * progress.batches as f64);
            format!("{speed:.1} images/s, {} left", clock(left * per_step))
        } else {
            "measuring".into()
        };
        let title = format!("epoch {epoch}/{}", self.epochs);
        let (done, all) = (progress.batches as u64, steps as u64);
        self.line.show(&title, done, all, &format!("{done}/{all} loss {loss:.3}, {pace}"));
    }
}

impl Observer for Watch<'_> {
    fn step(&mut self, progress: &Progress, report: &StepReport) -> ControlFlow<()> {
        self.print_step(progress, report.loss);
        if self.stop.code().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn epoch(&mut self, progress: &Progress, evaluation: &Evaluation, weights: &Parameters) -> Result<()> {
        let (Some(row), Some(best)) = (progress.history.last(), progress.best()) else { return Ok(()) };
        self.epoch_start = None;
        let save = |path| weights::save(path, self.metadata, weights);
        save(self.folder.last())?;
        if row.epoch == best.epoch {
            save(self.folder.best())?;
            let matrix = pictures::confusion_matrix(evaluation.confusion(), &self.metadata.classes);
            self.save_picture(&matrix, "confusion_matrix.png");
        }
        self.folder.write_results(&progress.history)?;
        match pictures::curves(progress) {
            Ok(curves) => self.save_picture(&curves, "results.png"),
            Err(error) => note!("warning: results.png was not drawn: {}", explain(&error)),
        }
        let before = progress.history.iter().nth_back(1).map_or(0.0, |row| row.time);
        let line = format!(
            "[epoch {}] train_loss: {:.3}  val_accuracy: {:.3}  val_loss: {:.3}  {:.1} s",
            row.epoch,
            row.train_loss,
            row.accuracy,
            row.val_loss,
            row.time - before
        );
        // Training does not end because nobody reads: `results.csv` has it all.
        let _ = say!("{line}");
        self.tell_skipped();
        Ok(())
    }

    fn checkpoint(&mut self, progress: &Progress, state: &State) -> Result<()> {
        self.folder.save_checkpoint(state, progress, self.marks)
    }
}

impl Watch<'_> {
    /// Pictures are for looking at: one that cannot be written does not end a run.
    fn save_picture(&self, picture: &image::RgbImage, name: &str) {
        if let Err(error) = pictures::save(picture, &self.folder.file(name)) {
            note!("warning: {name} was not written: {}", explain(&error));
        }
    }
}

/// Those of `found` that are not in `told`, which they are added to. A photo found late can sort before the others.
fn untold(found: Vec<(PathBuf, String)>, told: &mut BTreeSet<PathBuf>) -> Vec<(PathBuf, String)> {
    found.into_iter().filter(|(path, _)| told.insert(path.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_photo_left_out_is_told_once_in_whatever_order_they_are_found() {
        let photo = |name: &str| (PathBuf::from(name), "cut".to_owned());
        let mut told = BTreeSet::new();
        assert_eq!(untold(vec![photo("m.jpg")], &mut told), [photo("m.jpg")]);
        let found = vec![photo("a.jpg"), photo("m.jpg"), photo("z.jpg")];
        assert_eq!(untold(found.clone(), &mut told), [photo("a.jpg"), photo("z.jpg")]);
        assert_eq!(untold(found, &mut told), []);
    }
}
