//! One training step, divided among ranks and micro-batches.

use crate::{
    Batch, Collective, Error, Model, Result, Step, StepReport,
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
}

impl StepBatch {
    /// Returns a step with the images of this batch.
    pub fn whole(batch: Batch) -> Self {
        Self { first: 0, images_per_step: batch.len(), batch }
    }

    /// Describes the place of the batch in its step, of which `labeled` images have a target.
    pub fn micro_batch(&self, labeled: usize) -> MicroBatch {
        MicroBatch { first: self.first, images_per_step: self.images_per_step, labeled }
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
    let (own_loss, mut gradients) = step_gradients(model, batch, batch_size, step)?;
    let mut loss = BalancedSum::default();
    for bits in gather(ranks, &own_loss.to_bits())? {
        loss.push(f64::from_bits(bits), |sum, loss| *sum += loss);
    }
    let loss = loss.finish(|sum, loss| *sum += loss).unwrap_or_default();
    for gradient in gradients.values_mut() {
        ranks.sum(&mut gradient.values)?;
    }
    Ok(StepReport { loss, gradient_norm: model.update(&gradients, step)? })
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
    let place = step.micro_batch.unwrap_or(MicroBatch {
        first: 0,
        images_per_step: batch.len(),
        labeled: batch.len(),
    });
    let MicroBatch { first, images_per_step, .. } = place;
    let mut sum = BalancedSum::default();
    for range in MicroBatch::divide(images_per_step, first..first + batch.len(), batch_size) {
        let micro_batch = Some(MicroBatch { first: range.start, ..place });
        let images = batch.slice(range.start - first..range.end - first);
        let (report, gradients) = model.gradients(&images, &Step { micro_batch, ..*step })?;
        sum.push((report.loss, gradients), add);
    }
    let mut sum = sum.finish(add).ok_or_else(|| Error::Data("a step has no image".into()))?;
    if first >= images_per_step {
        make_neutral(&mut sum);
    }
    Ok(sum)
}

/// Adds the loss and the gradients of a micro-batch.
fn add((loss, gradients): &mut (f64, Gradients), (more_loss, more): &(f64, Gradients)) {
    *loss += more_loss;
    for (sum, more) in gradients.values_mut().zip(more.values()) {
        sum.values.iter_mut().zip(&more.values).for_each(|(sum, more)| *sum += more);
    }
}

/// Replaces all numbers by -0, which changes no bit of a number that it is added to: 0 would change
/// -0 to 0.
fn make_neutral((loss, gradients): &mut (f64, Gradients)) {
    *loss = -0.0;
    gradients.values_mut().for_each(|gradient| gradient.values.fill(-0.0));
}
