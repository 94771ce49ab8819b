//! Whether engines train alike, one step at a time from the same weights.
//!
//! Over several steps their losses drift apart, however exact they are: Adam divides each gradient by its own size, so that one which
//! is little more than rounding still moves its weight by up to a full learning rate, to the side that the rounding decides. (Where
//! terms cancel to exactly zero in other engines, Winograd's convolutions leave such a rounding.) From trained weights ten steps make
//! 10⁻² of 10⁻⁷. So every step begins at the state of the first engine and ends with an update by its gradients: nothing grows, and a
//! mistake in the gradients or in the optimizer is seen where it happens.

use alexnet_core::{
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

/// How far an engine's steps are from those of the first engine, each from the same state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Apart {
    /// The largest difference of the losses of a step, relative.
    pub loss: f64,
    /// The largest L2 distance of the gradients of a parameter, relative to their norm.
    pub gradients: f64,
    /// The largest L2 distance of a parameter after the update by the same gradients, relative to how far the update moves it.
    pub update: f64,
    /// The first step, from 1, that is farther apart than it may be.
    pub too_far_at: Option<u64>,
}

impl Lesson<'_> {
    /// Lowers the network to an engine, to go on from `state`.
    pub fn compile(&self, place: &Place, state: &State) -> Result<Box<dyn Model>> {
        let options = Options { device: place.device, optimizer: self.optimizer, ..Options::default() };
        place.engine.compile(&self.topology, state, &options)
    }

    fn start(&self) -> State {
        State { parameters: self.parameters.clone(), ..State::default() }
    }

    /// The losses before each step of a training of the engine's own.
    pub fn losses(&self, place: &Place) -> Result<Vec<f64>> {
        let mut model = self.compile(place, &self.start())?;
        self.steps.iter().map(|(step, batches)| Ok(train_step(model.as_mut(), batches, step)?.loss)).collect()
    }

    /// How far the steps of each place are from those of the first.
    pub fn apart(&self, places: &[Place]) -> Result<Vec<Apart>> {
        let mut apart = vec![Apart::default(); places.len()];
        let Some((first, others)) = places.split_first() else { return Ok(apart) };
        let mut leader = self.compile(first, &self.start())?;
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
            for (place, apart) in others.iter().zip(&mut apart[1..]) {
                let mut model = self.compile(place, &before)?;
                let (loss, found) = step_gradients(model.as_mut(), batches, step)?;
                model.update(&gradients, step)?;
                truth.compare(step.number, loss, &found, &model.parameters()?, apart);
            }
        }
        Ok(apart)
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
    fn compare(&self, number: u64, loss: f64, gradients: &Gradients, after: &Parameters, apart: &mut Apart) {
        // Losses and gradients come from probabilities less targets, whose roundings do not shrink with them.
        let sure = (1e-2 / self.loss.abs().max(1e-6)).max(1.0);
        let mut close = true;
        let mut see = |worst: &mut f64, difference: f64, size: f64, least: f64, tolerance: f64| {
            close &= difference <= tolerance * size + least;
            let relative = if difference == 0.0 { 0.0 } else { difference / size };
            if relative > *worst || relative.is_nan() {
                *worst = relative;
            }
        };
        see(&mut apart.loss, (loss - self.loss).abs(), self.loss.abs(), 1e-7, 1e-5);
        let whole = self.gradients.values().map(|g| norm(&g.values).powi(2)).sum::<f64>().sqrt();
        for (name, truth) in self.gradients {
            let difference = gradients.get(name).map_or(f64::NAN, |found| distance(found, truth));
            see(&mut apart.gradients, difference, norm(&truth.values), 1e-7 * whole, 1e-4 * sure);
            let (before, truth) = (&self.before[name], &self.after[name]);
            let difference = after.get(name).map_or(f64::NAN, |found| distance(found, truth));
            // Each number is rounded once when the update is added to it.
            let rounding = f64::from(f32::EPSILON) * norm(&truth.values);
            see(&mut apart.update, difference, distance(truth, before), rounding, 1e-4);
        }
        if !close && apart.too_far_at.is_none() {
            apart.too_far_at = Some(number);
        }
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
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
