//! One training step, divided among ranks and micro-batches.

use std::{sync::mpsc::channel, thread};

use crate::{
    Array, Batch, Collective, Error, Model, Result, Step, StepReport,
    backend::Gradients,
    collective::gather,
    sum_order::{BalancedSum, MicroBatch},
};

/// The images of a step, or the share of one rank in them.
///
/// An image that could not be read keeps its place, as a blank image whose targets are all 0.
#[derive(Clone, Debug, PartialEq)]
pub struct StepBatch {
    /// The images. If the rank has no image in the step, this is one blank image, so that the rank
    /// takes part in all sums, and `first` equals `images_per_step`.
    pub batch: Batch,
    /// The index of the batch's first image among the images of the step.
    pub first: usize,
    /// The number of images of the step on all ranks.
    pub images_per_step: usize,
    /// The weight of each image in the mean loss of the step, 0 for an image without a target. `None`
    /// means 1 for each image that has a target.
    pub weights: Option<Vec<f32>>,
}

impl StepBatch {
    /// Returns a step with the images of this batch.
    pub fn whole(batch: Batch) -> Self {
        Self { first: 0, images_per_step: batch.len(), batch, weights: None }
    }

    /// Describes the place of the batch in its step, whose losses are divided by `divisor`.
    pub fn micro_batch(&self, divisor: f64) -> MicroBatch {
        MicroBatch { first: self.first, images_per_step: self.images_per_step, divisor }
    }

    /// Returns the number of images of the step that have a target, and the divisor of their losses.
    /// Each rank has its share of the step.
    ///
    /// # Errors
    /// Those of `ranks`.
    pub fn total(&self, ranks: &dyn Collective) -> Result<(usize, f64)> {
        let images = gather(ranks, &self.batch.labeled())?.iter().sum();
        let Some(weights) = &self.weights else { return Ok((images, images as f64)) };
        // The sum has the order of the images, for any number of ranks. The numbers are sent as bits,
        // so that they reach the other ranks unchanged.
        let bits: Vec<u32> = weights.iter().map(|weight| weight.to_bits()).collect();
        let all = gather(ranks, &bits)?;
        let divisor = all.iter().flatten().map(|bits| f64::from(f32::from_bits(*bits))).sum();
        Ok((images, divisor))
    }
}

/// Does one step. `batch` contains the images of this rank ([`Step::micro_batch`]). The engine
/// processes at most `batch_size` images at a time. On the engine `cpu`, neither this limit nor a
/// number of ranks that is a power of two changes the bits of the result ([`crate::sum_order`]).
///
/// # Errors
/// Those of the engine and of `ranks`.
pub fn train_step(
    model: &mut dyn Model,
    batch: &Batch,
    batch_size: usize,
    step: &Step,
    ranks: &dyn Collective,
) -> Result<StepReport> {
    if ranks.size() == 1 && batch.len() <= batch_size {
        return model.train_step(batch, step);
    }
    let (own_loss, gradients) = match ranks.size() {
        1 => step_gradients(model, batch, batch_size, step)?,
        _ => sums_over_ranks(model, batch, batch_size, step, ranks)?,
    };
    let mut loss = BalancedSum::default();
    for bits in gather(ranks, &own_loss.to_bits())? {
        loss.push(f64::from_bits(bits), |sum, loss| *sum += loss);
    }
    let loss = loss.finish(|sum, loss| *sum += loss).unwrap_or_default();
    Ok(StepReport { loss, gradient_norm: model.update(&gradients, step)? })
}

/// Returns the share of these images in the mean loss, and the sums of the gradients over all ranks.
/// A thread adds each gradient while the engine computes the next ones.
fn sums_over_ranks(
    model: &mut dyn Model,
    batch: &Batch,
    batch_size: usize,
    step: &Step,
    ranks: &dyn Collective,
) -> Result<(f64, Gradients)> {
    thread::scope(|scope| {
        let (sender, receiver) = channel::<(String, Array)>();
        let sums = scope.spawn(move || {
            let sum = |(name, mut gradient): (String, Array)| {
                ranks.sum(&mut gradient.values)?;
                Ok((name, gradient))
            };
            receiver.into_iter().map(sum).collect::<Result<Gradients>>()
        });
        let loss = hand_out_gradients(model, batch, batch_size, step, &mut |name, gradient| {
            // The receiver is gone after an error, which `join` returns.
            let _ = sender.send((name, gradient));
        });
        drop(sender);
        let sums = sums.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((loss?, sums?))
    })
}

/// Does the part of [`train_step`] before the sum over the ranks. Returns the share of these images
/// in the mean loss, and in its unclipped gradients.
///
/// # Errors
/// Those of the engine; [`Error::Data`] when the batch has no image.
pub fn step_gradients(
    model: &mut dyn Model,
    batch: &Batch,
    batch_size: usize,
    step: &Step,
) -> Result<(f64, Gradients)> {
    let mut gradients = Gradients::new();
    let loss = hand_out_gradients(model, batch, batch_size, step, &mut |name, gradient| {
        gradients.insert(name, gradient);
    })?;
    Ok((loss, gradients))
}

/// Does the same as [`step_gradients`], but calls `hand_out` with each gradient: as soon as it is
/// complete if the images are one micro-batch, otherwise after the last one. The order of the
/// parameters is the same on all ranks.
fn hand_out_gradients(
    model: &mut dyn Model,
    batch: &Batch,
    batch_size: usize,
    step: &Step,
    hand_out: &mut (dyn FnMut(String, Array) + Send),
) -> Result<f64> {
    let place = step.micro_batch.unwrap_or(MicroBatch {
        first: 0,
        images_per_step: batch.len(),
        divisor: batch.len() as f64,
    });
    let MicroBatch { first, images_per_step, .. } = place;
    if first >= images_per_step {
        model.hand_out_gradients(batch, step, &mut |name, mut gradient| {
            gradient.values.fill(NEUTRAL);
            hand_out(name, gradient);
        })?;
        return Ok(NEUTRAL.into());
    }
    let mut sum = BalancedSum::default();
    for range in MicroBatch::divide(images_per_step, first..first + batch.len(), batch_size) {
        let micro_batch = Some(MicroBatch { first: range.start, ..place });
        let step = Step { micro_batch, ..*step };
        if range.len() == batch.len() {
            return model.hand_out_gradients(batch, &step, hand_out);
        }
        let images = batch.slice(range.start - first..range.end - first);
        let mut gradients = Vec::new();
        let loss = model.hand_out_gradients(&images, &step, &mut |name, gradient| {
            gradients.push((name, gradient));
        })?;
        sum.push((loss, gradients), add);
    }
    let (loss, gradients) =
        sum.finish(add).ok_or_else(|| Error::Data("a step has no image".into()))?;
    gradients.into_iter().for_each(|(name, gradient)| hand_out(name, gradient));
    Ok(loss)
}

/// The loss and the gradients of micro-batches, in the order in which the engine hands them out.
type Contribution = (f64, Vec<(String, Array)>);

/// Adds the loss and the gradients of a micro-batch.
fn add((loss, gradients): &mut Contribution, (more_loss, more): &Contribution) {
    *loss += more_loss;
    for ((_, sum), (_, more)) in gradients.iter_mut().zip(more) {
        sum.values.iter_mut().zip(&more.values).for_each(|(sum, more)| *sum += more);
    }
}

/// Changes no bit of a number that it is added to. 0 would change -0 to 0.
const NEUTRAL: f32 = -0.0;
