//! Prints the progress of a run, and writes its figures after each epoch and at its end.

use std::{ops::ControlFlow, time::Instant};

use alexnet::{
    BoxError, Evaluated, Note, Observer, Parallel, RunFolder, RunInfo, TrainObserver, Work,
    core::{
        Model, StepReport,
        metrics::Evaluation,
        sum_order::Share,
        text::shown_path,
        train::{Batches, Validation},
    },
    data::dataset::Item,
};
use anyhow::Result;

use super::{
    events::Events,
    header::header,
    report::{JsonLines, ReportOptions, Step},
};
use crate::{
    config::Source,
    console::Console,
    evaluation_figures, figures,
    output::explain,
    progress::{Line, clock},
    stop::Stop,
};

/// The observer of a training run.
pub struct Watch {
    console: Console,
    stop: Stop,
    /// A description of where the options of a new run come from; `None` for a resumed run.
    source: Option<String>,
    /// The number of ranks, and how they divide the computation.
    ranks: (usize, Parallel),
    report: ReportOptions,
    json: JsonLines,
    events: Option<Events>,
    /// The progress line of the current epoch, after its first step.
    line: Option<Line>,
    /// When this process finished its first step of the current epoch, and the images of the epoch
    /// that were done by then.
    epoch_start: Option<(Instant, u64)>,
}

impl Watch {
    /// Creates an observer. `source` is where the options of a new run come from; `None` for a
    /// resumed run.
    pub fn new(
        stop: Stop,
        source: Option<&Source>,
        ranks: (usize, Parallel),
        report: &ReportOptions,
    ) -> Self {
        Self {
            console: Console::default(),
            stop,
            source: source.map(Source::description),
            ranks,
            report: report.clone(),
            json: JsonLines::default(),
            events: None,
            line: None,
            epoch_start: None,
        }
    }

    /// Removes the progress line from the terminal.
    pub fn clear(&mut self) {
        self.console.clear();
        self.line = None;
    }

    fn started(&mut self, run: &RunInfo) -> Result<()> {
        self.console.clear();
        self.stop.listen()?;
        let dataset = run.loader.dataset();
        let training = format!("using {} images for training", dataset.train.len());
        self.report.result(&match (dataset.val.len(), run.config.fold) {
            (0, _) => format!("{training}, none for validation; the last weights are the best."),
            (images, None) => format!("{training}, {images} images for validation."),
            (images, Some(fold)) => {
                format!("{training}, {images} images for validation, fold {fold}.")
            }
        });
        if self.report.is_json() {
            self.json.start(run);
        }
        if self.report.tensorboard || Events::exist_in(run.folder.path()) {
            self.events = Some(Events::open(run)?);
        }
        let source = match &self.source {
            Some(source) => source.clone(),
            None => format!("options of {}", shown_path(&run.folder.args())),
        };
        for line in header(run, &source, self.ranks)? {
            self.inform(&line);
        }
        if self.ranks.0 > 1 {
            note_ranks(run, self.ranks);
        }
        if run.progress.step == 0
            && let Some(batch) = run.loader.unweighted().whole_steps(0).next()
        {
            let figure = figures::training_batch(&batch?, &run.metadata.classes);
            figures::save(&figure, &run.folder.file("train_batch0.jpg"))?;
        }
        self.inform(&format!("the run is stored in {}", shown_path(run.folder.path())));
        Ok(())
    }

    fn finished(
        &mut self,
        run: &RunInfo,
        model: &mut dyn Model,
        evaluated: Option<&Evaluated>,
    ) -> Result<()> {
        self.clear();
        let Some(evaluated) = evaluated else { return Ok(()) };
        // Every n-th image, because the images are sorted by class.
        let val = &run.loader.dataset().val;
        let shown: Vec<Item> = val.iter().step_by(val.len().div_ceil(16).max(1)).copied().collect();
        if let Some(batch) = run.loader.evaluation(&shown).next() {
            let (_, batch) = batch?;
            let logits = model.logits(&batch.images)?;
            let figure = figures::predictions(&batch, &logits, &run.metadata.classes);
            figures::save(&figure, &run.folder.file("val_batch0_pred.jpg"))?;
        }
        evaluation_figures::write(evaluated, run.folder.path())
    }

    /// Prints a message that only describes the run.
    fn inform(&self, line: &str) {
        if !self.report.quiet {
            note!("{line}");
        }
    }

    fn print_step(&mut self, run: &RunInfo, report: &StepReport) {
        let RunInfo { progress, config, .. } = *run;
        let (start, before) = *self.epoch_start.get_or_insert((Instant::now(), progress.images));
        let images = (progress.images - before) as f64;
        // The speed is known from the second step on.
        let speed = (images > 0.0).then(|| images / start.elapsed().as_secs_f64());
        let step = Step::new(run, report, speed);
        self.write_events(|events| events.step(&step));
        if self.report.is_json() {
            self.json.step(step);
        }
        let Step { epoch, batches_done, batches, loss, gradient_norm, lr, .. } = step;
        let pace = match (speed, step.seconds_left) {
            (Some(speed), Some(left)) => format!("{speed:.1} images/s, {} left", clock(left)),
            _ => "measuring".into(),
        };
        if self.report.verbose {
            note!(
                "step {}: epoch {epoch}, {batches_done}/{batches} loss {loss:.4}, \
                 gradient {gradient_norm:.4}, rate {lr:.3e}, {pace}",
                step.step
            );
        } else if !self.report.quiet && !self.report.is_json() {
            let title = format!("epoch {epoch}/{}", config.epochs);
            let line = self.line.get_or_insert_with(Line::new);
            let details = format!("{batches_done}/{batches} loss {loss:.3}, {pace}");
            line.show(&title, batches_done as u64, batches as u64, &details);
        }
    }

    /// Writes to the event file, if there is one. An error is printed, and nothing more is written.
    fn write_events(&mut self, write: impl FnOnce(&mut Events) -> Result<()>) {
        if let Some(Err(error)) = self.events.as_mut().map(write) {
            note!("warning: no more events are written for TensorBoard: {}", explain(&error));
            self.events = None;
        }
    }
}

impl Observer for Watch {
    fn note(&mut self, note: Note) {
        self.console.note(note);
    }

    fn progress(&mut self, work: Work<'_>, done: u64, total: u64) {
        self.line = None;
        if !self.report.quiet && !self.report.is_json() {
            self.console.progress(work, done, total);
        }
    }
}

impl TrainObserver for Watch {
    fn started(&mut self, run: &RunInfo<'_>) -> Result<(), BoxError> {
        Ok(Watch::started(self, run)?)
    }

    fn step(&mut self, run: &RunInfo<'_>, report: &StepReport) -> ControlFlow<()> {
        self.print_step(run, report);
        self.stop.asked()
    }

    fn epoch(&mut self, run: &RunInfo<'_>, evaluation: Option<&Evaluation>) {
        let progress = run.progress;
        let (Some(row), Some(best)) = (progress.history.last(), progress.best()) else { return };
        self.epoch_start = None;
        self.write_events(|events| events.epoch(progress.step, row));
        if self.report.is_json() {
            self.json.epoch(progress.step, row);
        }
        if let Some(evaluation) = evaluation.filter(|_| row.epoch == best.epoch) {
            let matrix = figures::confusion_matrix(evaluation.confusion(), &run.metadata.classes);
            save_figure(run.folder, &matrix, "confusion_matrix.png");
        }
        match figures::curves(progress) {
            Ok(curves) => save_figure(run.folder, &curves, "results.png"),
            Err(error) => note!("warning: results.png was not drawn: {}", explain(&error)),
        }
        let before = progress.history.iter().nth_back(1).map_or(0.0, |row| row.time);
        let validation = row.validation.map_or(String::new(), |validation| {
            let Validation { loss, accuracy, top5 } = validation;
            let top5 = top5.map_or(String::new(), |top5| format!("  val_top5: {top5:.3}"));
            format!("  val_accuracy: {accuracy:.3}{top5}  val_loss: {loss:.3}")
        });
        // The same numbers are in `results.csv`.
        self.report.result(&format!(
            "[epoch {}] train_loss: {:.3}{validation}  {:.1} s",
            row.epoch,
            row.train_loss,
            row.time - before
        ));
    }

    fn finished(
        &mut self,
        run: &RunInfo<'_>,
        model: &mut dyn Model,
        evaluated: Option<&Evaluated>,
    ) -> Result<(), BoxError> {
        Ok(Watch::finished(self, run, model, evaluated)?)
    }
}

/// Prints what is not as good as it could be with this number of ranks, and where results differ.
fn note_ranks(run: &RunInfo, (ranks, parallel): (usize, Parallel)) {
    let images = run.config.batch_size as usize * run.config.accumulate as usize;
    let idle = (0..ranks).filter(|rank| Share { rank: *rank, ranks }.of(images).is_empty()).count();
    if idle > 0 {
        note!(
            "note: a step of {images} images is too small for {ranks} ranks: {idle} have no images"
        );
    }
    if !ranks.is_power_of_two() {
        note!(
            "note: results on {ranks} ranks differ from those on 1, 2, 4, 8, … ranks by rounding"
        );
    }
    if parallel == Parallel::Towers {
        note!("note: results in two towers differ from those of one process by rounding");
    }
}

/// Writes a figure to the run folder. An error is printed but does not end the run.
fn save_figure(folder: &RunFolder, figure: &image::RgbImage, name: &str) {
    if let Err(error) = figures::save(figure, &folder.file(name)) {
        note!("warning: {name} was not written: {}", explain(&error));
    }
}
