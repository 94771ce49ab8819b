//! The training loop over any engine and any source of batches.

use std::{ops::ControlFlow, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{
    Array, Batch, Error, Model, Parameters, Result, State, Step, StepReport, backend::Gradients, ema::Ema,
    metrics::Evaluation, schedule::Schedule,
};

/// Where batches come from. Each batch is a pure function of the source's seed, the epoch and its index, so an epoch can be
/// entered anywhere.
pub trait Batches {
    /// Training batches an epoch.
    fn steps_per_epoch(&self) -> usize;

    /// The training batches of `epoch` (from 0), beginning with the one at index `first`. A batch may be smaller than
    /// the others, or empty, when images had to be skipped.
    fn train(&self, epoch: u64, first: usize) -> Box<dyn Iterator<Item = Result<Batch>> + '_>;

    /// The validation batches, always in the same order.
    fn validation(&self) -> Box<dyn Iterator<Item = Result<Batch>> + '_>;
}

/// What stays the same through a run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Key of the dropout masks.
    pub seed: u64,
    /// Passes over the training images, and the learning rate of each step.
    pub schedule: Schedule,
    /// As in [`Step::clip_grad_norm`].
    pub clip_grad_norm: Option<f32>,
    /// Batches whose gradients are averaged for one step, over all their images; at least 1.
    pub accumulate: usize,
    /// The run ends early when the accuracy has not risen for so many epochs.
    pub patience: Option<u64>,
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
    /// Mean loss over the images trained on, as they were met.
    pub train_loss: f64,
    /// Mean loss over the validation images.
    pub val_loss: f64,
    /// Share of validation images whose most likely class is the true one.
    pub accuracy: f64,
    /// Learning rate at the end.
    pub lr: f32,
}

impl EpochRow {
    /// By accuracy, then by validation loss.
    fn is_as_good_as(&self, other: &Self) -> bool {
        self.accuracy > other.accuracy || (self.accuracy == other.accuracy && self.val_loss <= other.val_loss)
    }
}

/// How far a run is. Together with a [`State`] this is all that a resume needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// Batches taken from the epoch under way, which is epoch `history.len()`, from 0.
    pub batches: usize,
    /// Images trained on in it.
    pub images: u64,
    /// Sum of their losses.
    pub loss_sum: f64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The epochs done.
    pub history: Vec<EpochRow>,
    /// The epoch whose weights are the best so far, from 1; absent before the first one is done, and in checkpoints of earlier
    /// versions.
    #[serde(default)]
    pub best_epoch: Option<u64>,
}

impl Progress {
    /// Whether the accuracy has not risen for `patience` epochs. Equal accuracies are no rise.
    fn is_stuck(&self, patience: u64) -> bool {
        let highest = self.first_of_highest_accuracy();
        highest.is_some_and(|row| self.history.len() as u64 - row.epoch >= patience)
    }

    fn first_of_highest_accuracy(&self) -> Option<&EpochRow> {
        self.history.iter().reduce(|best, row| if row.accuracy > best.accuracy { row } else { best })
    }

    /// The best epoch: that of highest accuracy, of equals that of lowest validation loss, of equals the last.
    pub fn best(&self) -> Option<&EpochRow> {
        match self.best_epoch {
            Some(epoch) => self.history.iter().find(|row| row.epoch == epoch),
            // The best weights of a run of an earlier version are those of the first of equals.
            None => self.first_of_highest_accuracy(),
        }
    }

    /// Adds an epoch.
    fn push(&mut self, row: EpochRow) {
        self.best_epoch = Some(match self.best() {
            Some(best) if !row.is_as_good_as(best) => best.epoch,
            _ => row.epoch,
        });
        self.history.push(row);
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

    /// After each epoch, before its checkpoint; the last row of `progress.history` is new, and `weights` are those that
    /// were evaluated.
    ///
    /// # Errors
    /// Ends the run.
    fn epoch(&mut self, progress: &Progress, evaluation: &Evaluation, weights: &Parameters) -> Result<()>;

    /// When the run's state must be kept.
    ///
    /// # Errors
    /// Ends the run.
    fn checkpoint(&mut self, progress: &Progress, state: &State) -> Result<()>;
}

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done, or those that patience allows.
    Finished,
    /// The observer asked for a stop; the checkpoint is saved.
    Stopped,
}

/// The moving average of a run's weights, which is evaluated and kept in their place.
pub struct Averaging<'a> {
    /// How it moves.
    pub ema: Ema,
    /// As it is now; empty before its first update.
    pub average: Parameters,
    /// Makes a model of it to evaluate.
    pub compile: &'a dyn Fn(&Parameters) -> Result<Box<dyn Model>>,
}

/// A run: what is trained, on what and how.
pub struct Run<'a> {
    /// Trained from its present state on.
    pub model: &'a mut dyn Model,
    /// With the average of a resumed run.
    pub averaging: Option<Averaging<'a>>,
    /// The images.
    pub data: &'a dyn Batches,
    /// What stays the same.
    pub settings: Settings,
}

/// Trains from `progress` to the last epoch.
///
/// # Errors
/// [`Error::NotFinite`] when a loss, a gradient or the state is not finite: the step is named, and nothing is kept of it.
/// Otherwise the first error of the engine, the batches or the observer. When batches cannot be had or the evaluation fails, the
/// state is kept in a checkpoint before, so that no step is lost.
pub fn fit(mut run: Run, progress: &mut Progress, observer: &mut dyn Observer) -> Result<Outcome> {
    let start = Instant::now();
    let seconds_before = progress.seconds;
    let settings = run.settings;
    let steps_per_epoch = run.data.steps_per_epoch().div_ceil(settings.accumulate) as u64;
    let is_over = |progress: &Progress| {
        progress.history.len() as u64 >= settings.schedule.epochs
            || settings.patience.is_some_and(|patience| progress.is_stuck(patience))
    };
    // By place in the epoch, not by steps done: batches may be empty.
    let lr = |progress: &Progress| {
        let done = progress.batches.div_ceil(settings.accumulate) as u64;
        let step = progress.history.len() as u64 * steps_per_epoch + done.saturating_sub(1);
        settings.schedule.lr(step, steps_per_epoch)
    };
    while !is_over(progress) {
        let epoch = progress.history.len() as u64;
        let mut batches = run.data.train(epoch, progress.batches);
        loop {
            let group = batches.by_ref().take(settings.accumulate).collect::<Result<Vec<Batch>>>();
            let group = match group {
                Ok(group) => group,
                Err(error) => return Err(run.keep_before(error, progress, observer)),
            };
            if group.is_empty() {
                break;
            }
            progress.batches += group.len();
            let group: Vec<Batch> = group.into_iter().filter(|batch| !batch.is_empty()).collect();
            let images: usize = group.iter().map(Batch::len).sum();
            if images == 0 {
                continue;
            }
            let step = Step {
                number: progress.step + 1,
                seed: settings.seed,
                sample_offset: 0,
                lr: lr(progress),
                clip_grad_norm: settings.clip_grad_norm,
            };
            let report = train_step(run.model, &group, &step)?;
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
            if stop || settings.checkpoint_every.is_some_and(|n| progress.step.is_multiple_of(n)) {
                observer.checkpoint(progress, &run.finite_state(progress)?)?;
            }
            if stop {
                return Ok(Outcome::Stopped);
            }
        }
        drop(batches);
        if progress.images == 0 {
            return Err(Error::Data(format!("epoch {} had no image to train on", epoch + 1)));
        }
        let evaluation = match run.evaluate() {
            Ok(evaluation) => evaluation,
            Err(error) => return Err(run.keep_before(error, progress, observer)),
        };
        if !evaluation.loss().is_finite() {
            return Err(Error::NotFinite { what: "validation loss", step: progress.step, epoch: epoch + 1 });
        }
        let state = run.finite_state(progress)?;
        progress.seconds = seconds_before + start.elapsed().as_secs_f64();
        progress.push(EpochRow {
            epoch: epoch + 1,
            time: progress.seconds,
            train_loss: progress.mean_loss(),
            val_loss: evaluation.loss(),
            accuracy: evaluation.confusion().accuracy(),
            lr: lr(progress),
        });
        (progress.batches, progress.images, progress.loss_sum) = (0, 0, 0.0);
        let weights = if state.average.is_empty() { &state.parameters } else { &state.average };
        observer.epoch(progress, &evaluation, weights)?;
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

    /// The state, which is kept only while each of its numbers is finite: the loss before an update says nothing of what the
    /// update made of the weights.
    fn finite_state(&self, progress: &Progress) -> Result<State> {
        let average = self.averaging.as_ref().map(|averaging| averaging.average.clone());
        let state = State { average: average.unwrap_or_default(), ..self.model.state()? };
        if state.is_finite() {
            return Ok(state);
        }
        let epoch = progress.history.len() as u64 + 1;
        Err(Error::NotFinite { what: "state of network and optimizer", step: progress.step, epoch })
    }

    /// Keeps the state before `error` ends the run, which it gives back: that is news, a state that cannot be kept is not.
    fn keep_before(&self, error: Error, progress: &Progress, observer: &mut dyn Observer) -> Error {
        let _ = self.finite_state(progress).and_then(|state| observer.checkpoint(progress, &state));
        error
    }

    fn evaluate(&mut self) -> Result<Evaluation> {
        match &self.averaging {
            Some(Averaging { average, compile, .. }) if !average.is_empty() => {
                evaluate(compile(average)?.as_mut(), self.data.validation())
            }
            _ => evaluate(self.model, self.data.validation()),
        }
    }
}

/// One step on the mean loss over the images of all `batches`, of which only one is in the engine at a time.
///
/// # Errors
/// The engine's.
pub fn train_step(model: &mut dyn Model, batches: &[Batch], step: &Step) -> Result<StepReport> {
    if let [batch] = batches {
        return model.train_step(batch, step);
    }
    let (loss, gradients) = step_gradients(model, batches, step)?;
    Ok(StepReport { loss, gradient_norm: model.update(&gradients, step)? })
}

/// What [`train_step`] does up to the update: the mean loss and its gradients, unclipped.
///
/// # Errors
/// The engine's.
pub fn step_gradients(model: &mut dyn Model, batches: &[Batch], step: &Step) -> Result<(f64, Gradients)> {
    if let [batch] = batches {
        let (report, gradients) = model.gradients(batch, step)?;
        return Ok((report.loss, gradients));
    }
    let images: usize = batches.iter().map(Batch::len).sum();
    let (mut sum, mut loss, mut sample_offset) = (Gradients::new(), 0.0, 0);
    for batch in batches {
        let (report, gradients) = model.gradients(batch, &Step { sample_offset, ..*step })?;
        let share = batch.len() as f64 / images as f64;
        loss += share * report.loss;
        for (name, Array { shape, values }) in gradients {
            let sum = sum.entry(name).or_insert_with(|| Array::filled(&shape, 0.0));
            sum.values.iter_mut().zip(values).for_each(|(sum, g)| *sum += share as f32 * g);
        }
        sample_offset += batch.len();
    }
    Ok((loss, sum))
}

/// The model's answers on `batches` against their targets.
///
/// # Errors
/// The first error of the engine or the batches; [`Error::Data`] when there is no image.
pub fn evaluate(
    model: &mut dyn Model,
    batches: impl IntoIterator<Item = Result<Batch>>,
) -> Result<Evaluation> {
    let mut evaluation: Option<Evaluation> = None;
    for batch in batches {
        let batch = batch?;
        if batch.is_empty() {
            continue;
        }
        let logits = model.logits(&batch.images)?;
        evaluation.get_or_insert_with(|| Evaluation::new(logits.classes)).add(&logits, &batch.targets);
    }
    evaluation.ok_or_else(|| Error::Data("there is no image to evaluate on".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Images, Logits, schedule::Scheduler};

    /// A model whose one weight counts steps, and whose loss is what `loss` says for a step.
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
            assert_eq!(step.number as f32, self.steps, "steps are numbered without a gap");
            Ok(StepReport { loss: (self.loss)(step.number), gradient_norm: 1.0 })
        }

        fn gradients(&mut self, _: &Batch, _: &Step) -> Result<(StepReport, Gradients)> {
            unreachable!("training does not ask for gradients")
        }

        fn update(&mut self, _: &Gradients, _: &Step) -> Result<f64> {
            unreachable!("every step has one batch")
        }

        fn vjp(&mut self, _: &Images, _: &Logits) -> Result<Gradients> {
            unreachable!("training does not ask for products")
        }

        fn state(&self) -> Result<State> {
            let mut state = State::default();
            state.parameters.insert("steps".into(), Array::filled(&[1], self.steps));
            let moment = if self.steps >= self.explodes_after { f32::INFINITY } else { 0.0 };
            state.moments.insert("steps.exp_avg_sq".into(), Array::filled(&[1], moment));
            Ok(state)
        }
    }

    /// Three training batches an epoch, of two images but the last, which is empty; two images to validate on.
    #[derive(Default)]
    struct FewImages {
        /// The training batch that cannot be read.
        bad_batch: Option<usize>,
        bad_validation: bool,
    }

    fn unreadable() -> Result<Batch> {
        Err(Error::Data("rose.jpg cannot be read".into()))
    }

    impl Batches for FewImages {
        fn steps_per_epoch(&self) -> usize {
            3
        }

        fn train(&self, _: u64, first: usize) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
            let batch = |(index, n)| {
                if Some(index) == self.bad_batch { unreadable() } else { Ok(Batch::random(n, 1, 2)) }
            };
            Box::new([2, 2, 0].into_iter().enumerate().skip(first).map(batch))
        }

        fn validation(&self) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
            let batch = |n| if self.bad_validation { unreadable() } else { Ok(Batch::random(n, 1, 2)) };
            Box::new([0, 2].into_iter().map(batch))
        }
    }

    /// Keeps checkpoints; asks for a stop after a step.
    #[derive(Default)]
    struct Notes {
        stop_after: Option<u64>,
        checkpoints: Vec<(Progress, State)>,
        epochs: usize,
    }

    impl Observer for Notes {
        fn step(&mut self, progress: &Progress, _: &StepReport) -> ControlFlow<()> {
            if Some(progress.step) == self.stop_after {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }

        fn epoch(&mut self, _: &Progress, evaluation: &Evaluation, _: &Parameters) -> Result<()> {
            assert_eq!(evaluation.images(), 2);
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
        accumulate: 1,
        patience: None,
        checkpoint_every: None,
    };

    fn fit(
        model: &mut Counter,
        settings: Settings,
        progress: &mut Progress,
        notes: &mut Notes,
    ) -> Result<Outcome> {
        fit_on(&FewImages::default(), model, settings, progress, notes)
    }

    fn fit_on(
        data: &FewImages,
        model: &mut Counter,
        settings: Settings,
        progress: &mut Progress,
        notes: &mut Notes,
    ) -> Result<Outcome> {
        super::fit(Run { model, averaging: None, data, settings }, progress, notes)
    }

    /// Without the times, which no two runs share.
    fn timeless(progress: &Progress) -> Progress {
        let mut progress = progress.clone();
        progress.seconds = 0.0;
        progress.history.iter_mut().for_each(|row| row.time = 0.0);
        progress
    }

    #[test]
    fn a_stopped_run_goes_on_to_the_same_end() {
        let loss = |step: u64| 1.0 / step as f64;
        let mut whole = Progress::default();
        let mut model = Counter::new(0.0, loss);
        let outcome = fit(&mut model, SETTINGS, &mut whole, &mut Notes::default());
        assert_eq!(outcome.unwrap(), Outcome::Finished);
        assert_eq!((whole.step, whole.history.len()), (4, 2));
        assert_eq!(whole.history[1].train_loss, (1.0 / 3.0 + 1.0 / 4.0) / 2.0);

        for stop in 1..=4 {
            let mut notes = Notes { stop_after: Some(stop), ..Notes::default() };
            let mut model = Counter::new(0.0, loss);
            let outcome = fit(&mut model, SETTINGS, &mut Progress::default(), &mut notes);
            assert_eq!(outcome.unwrap(), Outcome::Stopped);
            let (mut progress, state) = notes.checkpoints.pop().unwrap();
            let mut model = Counter::new(state.parameters["steps"].values[0], loss);
            fit(&mut model, SETTINGS, &mut progress, &mut Notes::default()).unwrap();
            assert_eq!(timeless(&progress), timeless(&whole), "stopped after step {stop}");
        }
    }

    #[test]
    fn batches_that_cannot_be_read_cost_no_step() {
        let loss = |step: u64| 1.0 / step as f64;
        let mut whole = Progress::default();
        fit(&mut Counter::new(0.0, loss), SETTINGS, &mut whole, &mut Notes::default()).unwrap();
        for (data, step, batches) in [
            (FewImages { bad_batch: Some(0), ..FewImages::default() }, 0, 0),
            (FewImages { bad_batch: Some(1), ..FewImages::default() }, 1, 1),
            (FewImages { bad_batch: Some(2), ..FewImages::default() }, 2, 2),
            (FewImages { bad_validation: true, ..FewImages::default() }, 2, 3),
        ] {
            let (mut notes, mut progress) = (Notes::default(), Progress::default());
            let ended = fit_on(&data, &mut Counter::new(0.0, loss), SETTINGS, &mut progress, &mut notes);
            assert!(matches!(ended, Err(Error::Data(_))), "{ended:?}");
            assert_eq!((notes.checkpoints.len(), notes.epochs), (1, 0));
            let (mut progress, state) = notes.checkpoints.pop().unwrap();
            assert_eq!((progress.step, progress.batches), (step, batches));
            // Once they are there, or left out.
            let mut model = Counter::new(state.parameters["steps"].values[0], loss);
            fit(&mut model, SETTINGS, &mut progress, &mut Notes::default()).unwrap();
            assert_eq!(timeless(&progress), timeless(&whole), "after step {step}");
        }
    }

    /// Each loss is finite, being that of the weights before the step.
    #[test]
    fn a_state_that_is_not_finite_is_never_kept() {
        for (explodes_after, checkpoint_every, kept) in
            [(1.0, Some(1), vec![]), (2.0, None, vec![]), (3.0, Some(1), vec![1, 2, 2]), (4.0, None, vec![2])]
        {
            let mut notes = Notes::default();
            let mut model = Counter { explodes_after, ..Counter::new(0.0, |_| 1.0) };
            let settings = Settings { checkpoint_every, ..SETTINGS };
            let error = fit(&mut model, settings, &mut Progress::default(), &mut notes).unwrap_err();
            let Error::NotFinite { what, step, epoch } = error else { panic!("{error}") };
            assert_eq!((step as f32, epoch), (explodes_after, (step - 1) / 2 + 1), "{what}");
            let steps: Vec<u64> = notes.checkpoints.iter().map(|(progress, _)| progress.step).collect();
            assert_eq!((steps, notes.epochs as u64), (kept, epoch - 1));
        }
    }

    #[test]
    fn what_is_not_finite_is_named_and_never_kept() {
        let mut notes = Notes::default();
        let mut model = Counter::new(0.0, |step| if step == 3 { f64::NAN } else { 1.0 });
        let every = Settings { checkpoint_every: Some(1), ..SETTINGS };
        let error = fit(&mut model, every, &mut Progress::default(), &mut notes).unwrap_err();
        assert!(matches!(error, Error::NotFinite { what: "loss", step: 3, epoch: 2 }), "{error}");
        // After steps 1 and 2, and after epoch 1.
        let steps: Vec<u64> = notes.checkpoints.iter().map(|(progress, _)| progress.step).collect();
        assert_eq!(steps, [1, 2, 2]);
    }

    fn row(epoch: u64, accuracy: f64, val_loss: f64) -> EpochRow {
        EpochRow { epoch, time: 0.0, train_loss: 0.0, val_loss, accuracy, lr: 0.0 }
    }

    #[test]
    fn of_equal_accuracies_the_lower_loss_is_the_best_then_the_later_epoch() {
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

    /// `best.safetensors` of such a run holds the first of equals, until an epoch is as good.
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
