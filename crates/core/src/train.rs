//! The training loop, for any engine and any source of batches.

mod evaluation;
mod step;

use std::{ops::ControlFlow, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{
    Collective, Error, Model, Parameters, Result, State, Step, StepReport,
    batch::Batch,
    collective::{agree, barrier, gather},
    ema::Ema,
    metrics::Evaluation,
    schedule::Schedule,
    sum_order::Share,
};

pub use self::{
    evaluation::evaluate,
    step::{StepBatch, step_gradients, train_step},
};

/// A source of batches. Each batch is a pure function of the source's seed, the epoch and its
/// index, so an epoch can be started at any step.
pub trait Batches {
    /// Returns the number of training batches per epoch.
    fn batches_per_epoch(&self) -> usize;

    /// Returns the number of batches per step (gradient accumulation).
    fn batches_per_step(&self) -> usize;

    /// Returns the number of steps per epoch.
    fn steps_per_epoch(&self) -> usize {
        self.batches_per_epoch().div_ceil(self.batches_per_step())
    }

    /// Returns the share of a rank in each training step of `epoch` (from 0), starting with the step
    /// of the batch at index `first`. The number of steps is the same for all ranks.
    fn train(
        &self,
        epoch: u64,
        first: usize,
        share: Share,
    ) -> Box<dyn Iterator<Item = Result<StepBatch>> + '_>;

    /// Returns all images of each training step of `epoch`.
    fn whole_steps(&self, epoch: u64) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        Box::new(self.train(epoch, 0, Share::WHOLE).map(|step| Ok(step?.batch)))
    }

    /// Returns whether there are validation images.
    fn has_validation(&self) -> bool;

    /// Returns the validation batches of a rank `r` of `R`: of all batches, which are always in the
    /// same order, those at the indices `r`, `r + R`, `r + 2R`, ….
    fn validation(&self, share: Share) -> Box<dyn Iterator<Item = Result<Batch>> + '_>;
}

/// The settings of a run, which stay constant.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The seed of the dropout masks.
    pub seed: u64,
    /// The number of epochs, and the learning rate of each step.
    pub schedule: Schedule,
    /// See [`Step::clip_grad_norm`].
    pub clip_grad_norm: Option<f32>,
    /// The maximum number of images that the engine processes at a time.
    pub batch_size: usize,
    /// The run ends early when the accuracy has not increased for this number of epochs.
    pub patience: Option<u64>,
    /// The number of steps between two checkpoints, in addition to those after each epoch.
    pub checkpoint_every: Option<u64>,
}

/// The results of a finished epoch: a line of `results.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// The number of the epoch, from 1.
    pub epoch: u64,
    /// Seconds of training and validation since the start of the run, without the time between an
    /// interruption and the resume.
    pub time: f64,
    /// Mean loss over the training images, each computed before the update of its step.
    pub train_loss: f64,
    /// The results on the validation images, if there are any.
    #[serde(flatten)]
    pub validation: Option<Validation>,
    /// Learning rate of the last step of the epoch.
    pub lr: f32,
}

/// The results of an epoch on the validation images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Mean loss.
    #[serde(rename = "val_loss")]
    pub loss: f64,
    /// Share of images whose most probable class is the true one.
    pub accuracy: f64,
    /// Share of images whose true class is among the five most probable, if there are more than five
    /// classes. `None` in checkpoints of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
}

impl Validation {
    /// Returns the results of an evaluation.
    pub fn of(evaluation: &Evaluation) -> Self {
        Self {
            loss: evaluation.loss(),
            accuracy: evaluation.confusion().accuracy(),
            top5: evaluation.top5(),
        }
    }
}

impl EpochRow {
    /// Returns the validation accuracy, if there are validation images.
    pub fn accuracy(&self) -> Option<f64> {
        self.validation.map(|validation| validation.accuracy)
    }

    /// Compares accuracies, then validation losses. Without validation, the later epoch is as good.
    fn is_as_good_as(&self, earlier: &Self) -> bool {
        let (Some(own), Some(earlier)) = (self.validation, earlier.validation) else { return true };
        own.accuracy > earlier.accuracy
            || (own.accuracy == earlier.accuracy && own.loss <= earlier.loss)
    }
}

/// The progress of a run. A run can be resumed from this and a [`State`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The number of optimizer steps done.
    pub step: u64,
    /// The number of batches done in the current epoch, which is epoch `history.len()`, from 0.
    pub batches: usize,
    /// The number of training images done in the current epoch.
    pub images: u64,
    /// The sum of their losses.
    pub loss_sum: f64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The finished epochs.
    pub history: Vec<EpochRow>,
    /// The epoch with the best weights so far, from 1. `None` before the end of the first epoch,
    /// and in checkpoints of earlier versions.
    #[serde(default)]
    pub best_epoch: Option<u64>,
}

impl Progress {
    /// Returns the progress of a run after these epochs, without the number of its steps.
    pub fn of_epochs(rows: impl IntoIterator<Item = EpochRow>) -> Self {
        let mut progress = Self::default();
        rows.into_iter().for_each(|row| progress.push(row));
        progress.seconds = progress.history.last().map_or(0.0, |row| row.time);
        progress
    }

    /// Returns the learning rate of the last step. It depends on the position in the epoch, not on
    /// the number of steps done, since batches may be empty, and for some schedules on the results of
    /// the finished epochs.
    pub fn lr(&self, schedule: &Schedule, data: &dyn Batches) -> f32 {
        let steps_per_epoch = data.steps_per_epoch() as u64;
        let done = self.batches.div_ceil(data.batches_per_step()) as u64;
        let step = self.history.len() as u64 * steps_per_epoch + done.saturating_sub(1);
        schedule.lr(step, steps_per_epoch, self.history.iter().filter_map(EpochRow::accuracy))
    }

    /// Whether the accuracy has not increased for `patience` epochs. Never without validation.
    pub fn is_stuck(&self, patience: u64) -> bool {
        let highest = self.first_with_highest_accuracy();
        highest.is_some_and(|row| self.history.len() as u64 - row.epoch >= patience)
    }

    fn first_with_highest_accuracy(&self) -> Option<&EpochRow> {
        self.history
            .iter()
            .filter(|row| row.validation.is_some())
            .reduce(|best, row| if row.accuracy() > best.accuracy() { row } else { best })
    }

    /// Returns the best epoch: the one with the highest accuracy; of equal ones that with the
    /// lowest validation loss; of equal ones the last. Without validation, the last epoch.
    pub fn best(&self) -> Option<&EpochRow> {
        match self.best_epoch {
            Some(epoch) => self.history.iter().find(|row| row.epoch == epoch),
            // Earlier versions saved the weights of the first epoch with the highest accuracy.
            None => self.first_with_highest_accuracy(),
        }
    }

    /// Adds a finished epoch.
    fn push(&mut self, row: EpochRow) {
        self.best_epoch = Some(match self.best() {
            Some(best) if !row.is_as_good_as(best) => best.epoch,
            _ => row.epoch,
        });
        self.history.push(row);
    }

    /// Returns the mean loss of the current epoch.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / self.images as f64
    }
}

/// Receives the events of a run and writes its files. Each rank has one. If parameters are divided
/// among ranks, only rank 0 gets all rows of them.
pub trait Observer {
    /// Is called after each step. `Break` on any rank stops the run after a checkpoint.
    fn step(&mut self, progress: &Progress, report: &StepReport) -> ControlFlow<()>;

    /// Is called after each epoch, before its checkpoint. The last row of `progress.history` is
    /// that of this epoch. `evaluation` is that of `weights` on the validation images, if there are
    /// any.
    ///
    /// # Errors
    /// Any error ends the run.
    fn epoch(
        &mut self,
        progress: &Progress,
        evaluation: Option<&Evaluation>,
        weights: &Parameters,
    ) -> Result<()>;

    /// Is called when the state of the run must be saved.
    ///
    /// # Errors
    /// Any error ends the run.
    fn checkpoint(&mut self, progress: &Progress, state: &State) -> Result<()>;
}

/// How a run without an error ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done, or [`Settings::patience`] ended the run.
    Finished,
    /// The observer stopped the run; a checkpoint is saved.
    Stopped,
}

/// The moving average of the weights, which is evaluated and saved instead of the weights.
pub struct Averaging<'a> {
    /// The decay and the interval of updates.
    pub ema: Ema,
    /// The current average; empty before its first update.
    pub average: Parameters,
    /// Creates a model from the average for the evaluation.
    pub compile: &'a dyn Fn(&Parameters) -> Result<Box<dyn Model>>,
}

/// A training run.
pub struct Run<'a> {
    /// The model to train, with its current state.
    pub model: &'a mut dyn Model,
    /// The moving average, if one is used; in a resumed run with the saved average.
    pub averaging: Option<Averaging<'a>>,
    /// The training and validation batches.
    pub data: &'a dyn Batches,
    /// The settings.
    pub settings: Settings,
    /// The ranks that train together.
    pub ranks: &'a dyn Collective,
}

/// Trains from `progress` until the end of the last epoch.
///
/// # Errors
/// [`Error::NotFinite`] with the step when a loss, a gradient or the state is not finite; this
/// state is not saved. Otherwise the first error of the engine, the batches or the observer. When
/// batches cannot be read or the evaluation fails, a checkpoint is saved first, so that no step is
/// lost. All ranks return such errors together. After another error of one rank, the others wait for
/// that rank; the caller must end them.
pub fn fit(mut run: Run, progress: &mut Progress, observer: &mut dyn Observer) -> Result<Outcome> {
    let start = Instant::now();
    let seconds_before = progress.seconds;
    let settings = run.settings;
    let (batches_per_epoch, batches_per_step) =
        (run.data.batches_per_epoch(), run.data.batches_per_step());
    let is_over = |progress: &Progress| {
        progress.history.len() as u64 >= settings.schedule.epochs
            || settings.patience.is_some_and(|patience| progress.is_stuck(patience))
    };
    let data = run.data;
    let lr = |progress: &Progress| progress.lr(&settings.schedule, data);
    let share = Share { rank: run.ranks.rank(), ranks: run.ranks.size() };
    while !is_over(progress) {
        let epoch = progress.history.len() as u64;
        for batch in run.data.train(epoch, progress.batches, share) {
            let own = match agree(run.ranks, batch) {
                Ok(own) => own,
                Err(error) => return Err(run.save_before(error, progress, observer)),
            };
            progress.batches = batches_per_epoch.min(progress.batches + batches_per_step);
            let (images, divisor) = own.total(run.ranks)?;
            if images == 0 {
                continue;
            }
            let step = Step {
                number: progress.step + 1,
                seed: settings.seed,
                micro_batch: Some(own.micro_batch(divisor)),
                lr: lr(progress),
                clip_grad_norm: settings.clip_grad_norm,
            };
            let report = train_step(run.model, &own.batch, settings.batch_size, &step, run.ranks)?;
            let not_finite = |what| Error::NotFinite { what, step: step.number, epoch: epoch + 1 };
            if !report.loss.is_finite() {
                return Err(not_finite("loss"));
            }
            if !report.gradient_norm.is_finite() {
                return Err(not_finite("gradient"));
            }
            progress.step = step.number;
            progress.images += images as u64;
            progress.loss_sum += report.loss * images as f64;
            run.move_average(progress.step)?;
            progress.seconds = seconds_before + start.elapsed().as_secs_f64();
            let stop = observer.step(progress, &report).is_break();
            let stop = gather(run.ranks, &stop)?.contains(&true);
            if stop || settings.checkpoint_every.is_some_and(|n| progress.step.is_multiple_of(n)) {
                observer.checkpoint(progress, &run.finite_state(progress)?)?;
            }
            if stop {
                return Ok(Outcome::Stopped);
            }
        }
        if progress.images == 0 {
            return Err(Error::Data(format!("epoch {} had no image to train on", epoch + 1)));
        }
        let evaluation = match run.evaluate(share) {
            Ok(evaluation) => evaluation,
            Err(error) => return Err(run.save_before(error, progress, observer)),
        };
        if evaluation.as_ref().is_some_and(|evaluation| !evaluation.loss().is_finite()) {
            return Err(Error::NotFinite {
                what: "validation loss",
                step: progress.step,
                epoch: epoch + 1,
            });
        }
        let state = run.finite_state(progress)?;
        progress.seconds = seconds_before + start.elapsed().as_secs_f64();
        progress.push(EpochRow {
            epoch: epoch + 1,
            time: progress.seconds,
            train_loss: progress.mean_loss(),
            validation: evaluation.as_ref().map(Validation::of),
            lr: lr(progress),
        });
        (progress.batches, progress.images, progress.loss_sum) = (0, 0, 0.0);
        let weights = if state.average.is_empty() { &state.parameters } else { &state.average };
        observer.epoch(progress, evaluation.as_ref(), weights)?;
        observer.checkpoint(progress, &state)?;
    }
    Ok(Outcome::Finished)
}

impl Run<'_> {
    fn move_average(&mut self, step: u64) -> Result<()> {
        match &mut self.averaging {
            Some(Averaging { ema, average, .. }) if step.is_multiple_of(ema.steps) => {
                ema.update(average, self.model.parameters()?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the current state, or an error on all ranks if it is not finite on one. This check is
    /// needed because the loss is computed before the update, and the update may make the weights
    /// infinite or NaN.
    fn finite_state(&self, progress: &Progress) -> Result<State> {
        let average = self.averaging.as_ref().map(|averaging| averaging.average.clone());
        let state = State { average: average.unwrap_or_default(), ..self.model.state()? };
        if !gather(self.ranks, &state.is_finite())?.contains(&false) {
            return Ok(state);
        }
        let epoch = progress.history.len() as u64 + 1;
        Err(Error::NotFinite { what: "state of network and optimizer", step: progress.step, epoch })
    }

    /// Saves a checkpoint before `error` ends the run, and returns `error`. An error of the
    /// checkpoint is ignored, since `error` is the cause.
    fn save_before(&self, error: Error, progress: &Progress, observer: &mut dyn Observer) -> Error {
        let _ = self.finite_state(progress).and_then(|state| observer.checkpoint(progress, &state));
        // The first rank that returns may end the others.
        let _ = barrier(self.ranks);
        error
    }

    /// Evaluates the weights on the validation images, if there are any.
    fn evaluate(&mut self, share: Share) -> Result<Option<Evaluation>> {
        if !self.data.has_validation() {
            return Ok(None);
        }
        let batches = self.data.validation(share);
        let evaluation = match &self.averaging {
            Some(Averaging { average, compile, .. }) if !average.is_empty() => {
                evaluate(compile(average)?.as_mut(), batches, self.ranks)
            }
            _ => evaluate(self.model, batches, self.ranks),
        };
        evaluation.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Alone, Array, Images, Inspection, Logits, ReluRule, backend::Gradients,
        collective::threads, schedule::Scheduler,
    };

    /// A model whose single weight counts the steps. `loss` returns the loss of a step.
    struct Counter {
        steps: f32,
        loss: fn(u64) -> f64,
        /// The number of steps after which the state is infinite.
        explodes_after: f32,
    }

    impl Counter {
        fn new(steps: f32, loss: fn(u64) -> f64) -> Self {
            Self { steps, loss, explodes_after: f32::INFINITY }
        }
    }

    impl Model for Counter {
        fn logits(&mut self, images: &Images) -> Result<Logits> {
            Ok(Logits { values: [self.steps, 0.0].repeat(images.len()), classes: 2 })
        }

        fn train_step(&mut self, _: &Batch, step: &Step) -> Result<StepReport> {
            self.steps += 1.0;
            assert_eq!(step.number as f32, self.steps, "step numbers must be consecutive");
            Ok(StepReport { loss: (self.loss)(step.number), gradient_norm: 1.0 })
        }

        /// There is no gradient to add.
        fn gradients(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Gradients)> {
            Ok((self.train_step(batch, step)?, Gradients::new()))
        }

        fn update(&mut self, _: &Gradients, _: &Step) -> Result<f64> {
            Ok(1.0)
        }

        fn vjp(&mut self, _: &Images, _: &Logits) -> Result<Gradients> {
            unreachable!("training does not call vjp")
        }

        fn inspect(&mut self, _: &Images, _: &Logits, _: ReluRule) -> Result<Inspection> {
            unreachable!("training does not call inspect")
        }

        fn state(&self) -> Result<State> {
            let mut state = State::default();
            state.parameters.insert("steps".into(), Array::filled(&[1], self.steps));
            let moment = if self.steps >= self.explodes_after { f32::INFINITY } else { 0.0 };
            state.moments.insert("steps.exp_avg_sq".into(), Array::filled(&[1], moment));
            Ok(state)
        }
    }

    /// Three training batches per epoch: two of two images, and an empty one. Two validation
    /// images.
    #[derive(Default)]
    struct FewImages {
        /// The training batch that cannot be read.
        bad_batch: Option<usize>,
        bad_validation: bool,
        no_validation: bool,
    }

    fn unreadable() -> Result<Batch> {
        Err(Error::Data("rose.jpg cannot be read".into()))
    }

    impl Batches for FewImages {
        fn batches_per_epoch(&self) -> usize {
            3
        }

        fn batches_per_step(&self) -> usize {
            1
        }

        fn train(
            &self,
            _: u64,
            first: usize,
            _: Share,
        ) -> Box<dyn Iterator<Item = Result<StepBatch>> + '_> {
            let batch = |(index, n)| {
                let batch = match Some(index) == self.bad_batch {
                    true => unreadable(),
                    false => Ok(Batch::random(n, 1, 2)),
                };
                batch.map(StepBatch::whole)
            };
            Box::new([2, 2, 0].into_iter().enumerate().skip(first).map(batch))
        }

        fn has_validation(&self) -> bool {
            !self.no_validation
        }

        fn validation(&self, _: Share) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
            let batch =
                |n| if self.bad_validation { unreadable() } else { Ok(Batch::random(n, 1, 2)) };
            Box::new([0, 2].into_iter().map(batch))
        }
    }

    /// Stores the checkpoints, and can stop the run after a step.
    #[derive(Default)]
    struct Recorder {
        stop_after: Option<u64>,
        checkpoints: Vec<(Progress, State)>,
        epochs: usize,
        evaluations: usize,
    }

    impl Observer for Recorder {
        fn step(&mut self, progress: &Progress, _: &StepReport) -> ControlFlow<()> {
            if Some(progress.step) == self.stop_after {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }

        fn epoch(
            &mut self,
            _: &Progress,
            evaluation: Option<&Evaluation>,
            _: &Parameters,
        ) -> Result<()> {
            if let Some(evaluation) = evaluation {
                assert_eq!(evaluation.images(), 2);
                self.evaluations += 1;
            }
            self.epochs += 1;
            Ok(())
        }

        fn checkpoint(&mut self, progress: &Progress, state: &State) -> Result<()> {
            self.checkpoints.push((progress.clone(), state.clone()));
            Ok(())
        }
    }

    /// Two epochs.
    const SETTINGS: Settings = Settings {
        seed: 0,
        schedule: Schedule { scheduler: Scheduler::Constant, lr: 1.0, warmup_epochs: 0, epochs: 2 },
        clip_grad_norm: None,
        batch_size: 2,
        patience: None,
        checkpoint_every: None,
    };

    fn fit(
        model: &mut Counter,
        settings: Settings,
        progress: &mut Progress,
        recorder: &mut Recorder,
    ) -> Result<Outcome> {
        fit_on(&FewImages::default(), model, settings, progress, recorder)
    }

    fn fit_on(
        data: &FewImages,
        model: &mut Counter,
        settings: Settings,
        progress: &mut Progress,
        recorder: &mut Recorder,
    ) -> Result<Outcome> {
        super::fit(
            Run { model, averaging: None, data, settings, ranks: &Alone },
            progress,
            recorder,
        )
    }

    /// Returns the progress with all times set to 0, since times differ between runs.
    fn timeless(progress: &Progress) -> Progress {
        let mut progress = progress.clone();
        progress.seconds = 0.0;
        progress.history.iter_mut().for_each(|row| row.time = 0.0);
        progress
    }

    #[test]
    fn a_stopped_run_resumes_to_the_same_result() {
        let loss = |step: u64| 1.0 / step as f64;
        let mut uninterrupted = Progress::default();
        let mut model = Counter::new(0.0, loss);
        let outcome = fit(&mut model, SETTINGS, &mut uninterrupted, &mut Recorder::default());
        assert_eq!(outcome.unwrap(), Outcome::Finished);
        assert_eq!((uninterrupted.step, uninterrupted.history.len()), (4, 2));
        assert_eq!(uninterrupted.history[1].train_loss, (1.0 / 3.0 + 1.0 / 4.0) / 2.0);

        for stop in 1..=4 {
            let mut recorder = Recorder { stop_after: Some(stop), ..Recorder::default() };
            let mut model = Counter::new(0.0, loss);
            let outcome = fit(&mut model, SETTINGS, &mut Progress::default(), &mut recorder);
            assert_eq!(outcome.unwrap(), Outcome::Stopped);
            let (mut progress, state) = recorder.checkpoints.pop().unwrap();
            let mut model = Counter::new(state.parameters["steps"].values[0], loss);
            fit(&mut model, SETTINGS, &mut progress, &mut Recorder::default()).unwrap();
            assert_eq!(timeless(&progress), timeless(&uninterrupted), "stopped after step {stop}");
        }
    }

    #[test]
    fn unreadable_batches_lose_no_step() {
        let loss = |step: u64| 1.0 / step as f64;
        let mut uninterrupted = Progress::default();
        fit(&mut Counter::new(0.0, loss), SETTINGS, &mut uninterrupted, &mut Recorder::default())
            .unwrap();
        for (data, step, batches) in [
            (FewImages { bad_batch: Some(0), ..FewImages::default() }, 0, 0),
            (FewImages { bad_batch: Some(1), ..FewImages::default() }, 1, 1),
            (FewImages { bad_batch: Some(2), ..FewImages::default() }, 2, 2),
            (FewImages { bad_validation: true, ..FewImages::default() }, 2, 3),
        ] {
            let (mut recorder, mut progress) = (Recorder::default(), Progress::default());
            let ended =
                fit_on(&data, &mut Counter::new(0.0, loss), SETTINGS, &mut progress, &mut recorder);
            assert!(matches!(ended, Err(Error::Data(_))), "{ended:?}");
            assert_eq!((recorder.checkpoints.len(), recorder.epochs), (1, 0));
            let (mut progress, state) = recorder.checkpoints.pop().unwrap();
            assert_eq!((progress.step, progress.batches), (step, batches));
            // The run is resumed with readable batches.
            let mut model = Counter::new(state.parameters["steps"].values[0], loss);
            fit(&mut model, SETTINGS, &mut progress, &mut Recorder::default()).unwrap();
            assert_eq!(timeless(&progress), timeless(&uninterrupted), "after step {step}");
        }
    }

    /// All losses are finite, since they are computed before the update.
    #[test]
    fn a_non_finite_state_is_never_saved() {
        for (explodes_after, checkpoint_every, saved) in [
            (1.0, Some(1), vec![]),
            (2.0, None, vec![]),
            (3.0, Some(1), vec![1, 2, 2]),
            (4.0, None, vec![2]),
        ] {
            let mut recorder = Recorder::default();
            let mut model = Counter { explodes_after, ..Counter::new(0.0, |_| 1.0) };
            let settings = Settings { checkpoint_every, ..SETTINGS };
            let error =
                fit(&mut model, settings, &mut Progress::default(), &mut recorder).unwrap_err();
            let Error::NotFinite { what, step, epoch } = error else { panic!("{error}") };
            assert_eq!((step as f32, epoch), (explodes_after, (step - 1) / 2 + 1), "{what}");
            let steps: Vec<u64> =
                recorder.checkpoints.iter().map(|(progress, _)| progress.step).collect();
            assert_eq!((steps, recorder.epochs as u64), (saved, epoch - 1));
        }
    }

    /// Rank 0 has all rows, so it may be the only one that has the infinite number.
    #[test]
    fn a_state_that_is_not_finite_on_one_rank_is_an_error_on_all() {
        let errors = threads::run(2, |ranks| {
            let explodes_after = if ranks.rank() == 0 { 2.0 } else { f32::INFINITY };
            let model = &mut Counter { explodes_after, ..Counter::new(0.0, |_| 1.0) };
            let settings = Settings { checkpoint_every: Some(1), ..SETTINGS };
            let data = &FewImages::default();
            let run = Run { model, averaging: None, data, settings, ranks: &*ranks };
            super::fit(run, &mut Progress::default(), &mut Recorder::default()).unwrap_err()
        });
        for error in errors {
            assert!(matches!(error, Error::NotFinite { step: 2, epoch: 1, .. }), "{error}");
        }
    }

    #[test]
    fn a_non_finite_loss_is_reported_and_its_state_not_saved() {
        let mut recorder = Recorder::default();
        let mut model = Counter::new(0.0, |step| if step == 3 { f64::NAN } else { 1.0 });
        let every = Settings { checkpoint_every: Some(1), ..SETTINGS };
        let error = fit(&mut model, every, &mut Progress::default(), &mut recorder).unwrap_err();
        assert!(matches!(error, Error::NotFinite { what: "loss", step: 3, epoch: 2 }), "{error}");
        // After steps 1 and 2, and after epoch 1.
        let steps: Vec<u64> =
            recorder.checkpoints.iter().map(|(progress, _)| progress.step).collect();
        assert_eq!(steps, [1, 2, 2]);
    }

    fn row(epoch: u64, accuracy: f64, val_loss: f64) -> EpochRow {
        let validation = Some(Validation { loss: val_loss, accuracy, top5: None });
        EpochRow { epoch, time: 0.0, train_loss: 0.0, validation, lr: 0.0 }
    }

    #[test]
    fn without_validation_the_last_epoch_is_the_best() {
        let data = FewImages { no_validation: true, ..FewImages::default() };
        let settings = Settings { patience: Some(1), ..SETTINGS };
        let (mut recorder, mut progress) = (Recorder::default(), Progress::default());
        let model = &mut Counter::new(0.0, |_| 1.0);
        fit_on(&data, model, settings, &mut progress, &mut recorder).unwrap();
        assert_eq!((recorder.epochs, recorder.evaluations, progress.history.len()), (2, 0, 2));
        assert_eq!(progress.best().unwrap().epoch, 2);
        assert_eq!(progress.best().unwrap().accuracy(), None);
        let saved = serde_json::to_string(&progress).unwrap();
        assert!(!saved.contains("accuracy"), "{saved}");
        assert_eq!(serde_json::from_str::<Progress>(&saved).unwrap(), progress);
    }

    /// The fields of validation results are beside the others, as earlier versions wrote them.
    #[test]
    fn an_epoch_of_an_earlier_version_is_read() {
        let text =
            r#"{"epoch":1,"time":2.5,"train_loss":1.5,"val_loss":1.25,"accuracy":0.1,"lr":0.5}"#;
        let read: EpochRow = serde_json::from_str(text).unwrap();
        let validation = Some(Validation { loss: 1.25, accuracy: 0.1, top5: None });
        assert_eq!(read, EpochRow { epoch: 1, time: 2.5, train_loss: 1.5, validation, lr: 0.5 });
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss_then_is_the_last() {
        let mut progress = Progress::default();
        for (accuracy, loss, best) in [
            (0.25, 1.0, 1),
            (0.5, 1.2, 2),
            (0.5, 1.1, 3),
            (0.5, 1.3, 3),
            (0.5, 1.1, 5),
            (0.25, 0.1, 5),
            (0.75, 9.0, 7),
        ] {
            progress.push(row(progress.history.len() as u64 + 1, accuracy, loss));
            assert_eq!(progress.best().unwrap().epoch, best);
        }
        assert!(!progress.is_stuck(1));
    }

    /// `best.safetensors` of such a run contains the first epoch with the highest accuracy, until a
    /// later epoch is at least as good.
    #[test]
    fn a_run_of_an_earlier_version_keeps_its_best_epoch() {
        let history = vec![row(1, 0.25, 1.0), row(2, 0.5, 1.2), row(3, 0.5, 1.1)];
        let mut progress = Progress { history, ..Progress::default() };
        let mut earlier = serde_json::to_value(&progress).unwrap();
        earlier.as_object_mut().unwrap().remove("best_epoch");
        assert_eq!(serde_json::from_value::<Progress>(earlier).unwrap(), progress);
        assert_eq!(progress.best().unwrap().epoch, 2);
        progress.push(row(4, 0.5, 1.3));
        assert_eq!(progress.best().unwrap().epoch, 2);
        progress.push(row(5, 0.5, 1.15));
        assert_eq!(progress.best().unwrap().epoch, 5);
    }

    #[test]
    fn patience_counts_from_the_first_epoch_of_the_highest_accuracy() {
        let mut progress = Progress::default();
        for (epoch, accuracy) in [(1, 0.5), (2, 1.0), (3, 1.0), (4, 1.0)] {
            progress.push(row(epoch, accuracy, 1.0 / epoch as f64));
        }
        assert_eq!(progress.best().unwrap().epoch, 4);
        assert!(progress.is_stuck(2) && !progress.is_stuck(3));
    }
}
