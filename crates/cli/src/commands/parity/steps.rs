//! Whether engines train alike, compared one step at a time from the same weights.
//!
//! Over several steps the losses of any two engines drift apart. Adam divides each gradient by its own magnitude, so a gradient that is
//! hardly more than a rounding error still moves its weight by up to a full learning rate, in a direction that the rounding decides.
//! Winograd's convolutions have such gradients where the sums of other engines are exactly zero. From trained weights, ten steps of
//! Adam turn differences of 10⁻⁷ into 10⁻². Therefore each step starts from the state of the first engine and updates with its
//! gradients: differences do not grow, and a mistake in the gradients or in the optimizer is found at the step where it occurs.
//!
//! Gradients are discontinuous where an activation is zero: ReLU may pass the gradient in one engine and not in the other. This happens
//! at some steps, while a mistake affects all of them, so the median over the steps is compared. Its tolerance is measured: the
//! first engine also computes each gradient from weights that are one f32 apart.

use alexnet::core::{
    Array, Backend, Batch, Device, Model, Optimizer, Options, Parameters, Result, State, Step, Topology,
    backend::Gradients,
    train::{step_gradients, train_step},
};
use serde::Serialize;

/// An engine on a device.
pub struct Place<'a> {
    pub name: String,
    pub engine: &'a dyn Backend,
    pub device: Device,
}

/// What the engines train on, and how.
pub struct Lesson<'a> {
    pub topology: Topology,
    pub optimizer: Optimizer,
    pub parameters: Parameters,
    /// The batches of each step.
    pub steps: Vec<(Step, &'a [Batch])>,
}

/// How far apart the steps of two engines are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Apart {
    /// The largest difference of the losses of a step, relative.
    pub loss: f64,
    /// The median over the steps of the largest L2 distance of the gradients of a parameter, relative to their norm.
    pub gradients: f64,
    /// The largest L2 distance of a parameter after the update by the same gradients, relative to how far the update moves it.
    pub update: f64,
}

/// An engine beside the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    pub apart: Apart,
    /// How far apart they may be.
    pub allowed: Apart,
    pub within_tolerance: bool,
}

impl Lesson<'_> {
    /// Lowers the network to an engine, to go on from `state`.
    pub fn compile(&self, place: &Place, state: &State) -> Result<Box<dyn Model>> {
        let options = Options { device: place.device, optimizer: self.optimizer, ..Options::default() };
        place.engine.compile(&self.topology, state, &options)
    }

    fn start(&self) -> State {
        State::from(self.parameters.clone())
    }

    /// The losses before each step of a training of the engine's own.
    pub fn losses(&self, place: &Place) -> Result<Vec<f64>> {
        let mut model = self.compile(place, &self.start())?;
        self.steps.iter().map(|(step, batches)| Ok(train_step(model.as_mut(), batches, step)?.loss)).collect()
    }

    /// How far the steps of each place are from those of the first.
    pub fn compare(&self, places: &[Place]) -> Result<Vec<Compared>> {
        let Some((first, _)) = places.split_first() else { return Ok(vec![]) };
        let mut leader = self.compile(first, &self.start())?;
        let mut all = vec![Seen::default(); places.len()];
        let mut kinks = 0.0;
        for (step, batches) in &self.steps {
            let before = leader.state()?;
            let (loss, gradients) = step_gradients(leader.as_mut(), batches, step)?;
            leader.update(&gradients, step)?;
            let truth = Truth {
                before: &before.parameters,
                loss,
                gradients: &gradients,
                after: leader.parameters()?,
            };
            for (place, seen) in places.iter().zip(&mut all).skip(1) {
                let mut model = self.compile(place, &before)?;
                let (loss, found) = step_gradients(model.as_mut(), batches, step)?;
                model.update(&gradients, step)?;
                truth.see(loss, &found, &model.parameters()?, seen);
            }
            if places.len() > 1 {
                let mut nearby = before.clone();
                nudge(&mut nearby.parameters);
                let found = step_gradients(self.compile(first, &nearby)?.as_mut(), batches, step)?.1;
                kinks = truth.gradients_apart(&found).max(kinks);
            }
        }
        let allowed = Apart { loss: 1e-5, gradients: (KINKS * kinks).max(1e-4), update: 1e-4 };
        Ok(all.into_iter().map(|seen| seen.judge(allowed)).collect())
    }
}

/// The tolerance of the gradients, as a multiple of how much they change when the weights change by one f32: an engine rounds in every
/// sum, not only once.
const KINKS: f64 = 5.0;

/// An engine's steps.
#[derive(Clone, Debug, Default)]
struct Seen {
    loss: f64,
    gradients: Vec<f64>,
    update: f64,
    /// Whether a loss or an update was beyond its tolerance.
    far: bool,
}

impl Seen {
    fn judge(mut self, allowed: Apart) -> Compared {
        self.gradients.sort_by(f64::total_cmp);
        let gradients = self.gradients.get(self.gradients.len() / 2).copied().unwrap_or_default();
        let within_tolerance = !self.far && gradients <= allowed.gradients;
        Compared {
            apart: Apart { loss: self.loss, gradients, update: self.update },
            allowed,
            within_tolerance,
        }
    }
}

/// A step of the first engine.
struct Truth<'a> {
    before: &'a Parameters,
    loss: f64,
    gradients: &'a Gradients,
    after: Parameters,
}

impl Truth<'_> {
    fn see(&self, loss: f64, gradients: &Gradients, after: &Parameters, seen: &mut Seen) {
        let mut far = false;
        let mut compare = |worst: &mut f64, difference: f64, size: f64, rounding: f64, tolerance: f64| {
            // NaN is too far.
            far |= !matches!(difference, d if d <= tolerance * size + rounding);
            *worst = worst.max(relative(difference, size));
        };
        compare(&mut seen.loss, (loss - self.loss).abs(), self.loss.abs(), 1e-7, 1e-5);
        for (name, truth) in &self.after {
            let difference = after.get(name).map_or(f64::NAN, |found| distance(found, truth));
            // Each value is rounded once when the update is added to it.
            let rounding = f64::from(f32::EPSILON) * norm(truth);
            compare(&mut seen.update, difference, distance(truth, &self.before[name]), rounding, 1e-4);
        }
        seen.far |= far;
        seen.gradients.push(self.gradients_apart(gradients));
    }

    /// The largest relative L2 distance of the gradients of a parameter. Where the loss is small, gradients are small differences of
    /// probabilities and targets with the rounding errors of large ones, so the distance is scaled down.
    fn gradients_apart(&self, gradients: &Gradients) -> f64 {
        let whole = self.gradients.values().map(|gradient| norm(gradient).powi(2)).sum::<f64>().sqrt();
        let sure = (1e-2 / self.loss.abs().max(1e-6)).max(1.0);
        let apart = self.gradients.iter().map(|(name, truth)| {
            let difference = gradients.get(name).map_or(f64::NAN, |found| distance(found, truth));
            // A gradient far below the norm of the whole may consist of rounding errors.
            relative(difference, norm(truth).max(1e-3 * whole)) / sure
        });
        apart.fold(0.0, f64::max)
    }
}

/// `difference / size`; 0 without a difference, infinite for NaN.
fn relative(difference: f64, size: f64) -> f64 {
    match difference / size {
        _ if difference == 0.0 => 0.0,
        share if share.is_nan() => f64::INFINITY,
        share => share,
    }
}

/// Moves every value but 0 to the next f32, alternately above and below it.
fn nudge(parameters: &mut Parameters) {
    for (i, value) in parameters.values_mut().flat_map(|array| &mut array.values).enumerate() {
        if *value != 0.0 {
            *value = if i % 2 == 0 { value.next_up() } else { value.next_down() };
        }
    }
}

fn norm(array: &Array) -> f64 {
    array.values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

fn distance(a: &Array, b: &Array) -> f64 {
    if a.shape != b.shape {
        return f64::NAN;
    }
    let squares = a.values.iter().zip(&b.values).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;
