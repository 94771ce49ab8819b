//! Compares training steps of engines, each step from the same weights.
//!
//! Over several steps the losses of any two engines drift apart. Adam divides each gradient by its
//! own magnitude, so a gradient that is little more than a rounding error still moves its weight by
//! up to a full learning rate, in a direction decided by rounding. Winograd convolutions have such
//! gradients where the sums of other engines are exactly zero. From trained weights, ten steps of
//! Adam turn differences of 10⁻⁷ into 10⁻². Therefore each step starts from the state of the first
//! engine and updates with its gradients: differences do not grow, and an error in the gradients or
//! in the optimizer is found at the step where it occurs.
//!
//! Gradients are discontinuous where an activation is zero: ReLU may pass the gradient in one
//! engine and not in the other. This happens at some steps, while an error affects all of them, so
//! the median over the steps is compared. Its tolerance is measured: the first engine also computes
//! each gradient from weights that differ by one f32 step (to the next representable number).

use alexnet::core::{
    Alone, Array, Backend, Batch, Device, Model, Optimizer, Options, Parameters, Result, State,
    Step, Topology,
    backend::Gradients,
    train::{step_gradients, train_step},
};
use serde::Serialize;

/// An engine on a device.
pub struct Target<'a> {
    pub name: String,
    pub engine: &'a dyn Backend,
    pub device: Device,
}

/// The network, optimizer, initial parameters and batches of the compared training.
pub struct TrainingSetup {
    pub topology: Topology,
    pub optimizer: Optimizer,
    pub parameters: Parameters,
    /// The steps and their images.
    pub steps: Vec<(Step, Batch)>,
    /// The maximum number of images that an engine processes at a time.
    pub batch_size: usize,
}

/// The deviation of the steps of an engine from those of the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Deviation {
    /// The largest relative difference of the losses of a step.
    pub loss: f64,
    /// The median over the steps of the largest L2 distance of the gradients of a parameter,
    /// relative to their norm.
    pub gradients: f64,
    /// The largest L2 distance of a parameter after an update with the same gradients, relative to
    /// the L2 norm of that update.
    pub update: f64,
}

/// The comparison of an engine with the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    pub apart: Deviation,
    /// The tolerance.
    pub allowed: Deviation,
    pub within_tolerance: bool,
}

impl TrainingSetup {
    /// Compiles the network for an engine, with `state` as its initial state.
    pub fn compile(&self, target: &Target, state: &State) -> Result<Box<dyn Model>> {
        let options =
            Options { device: target.device, optimizer: self.optimizer, ..Options::default() };
        target.engine.compile(&self.topology, state.clone(), &options)
    }

    fn start(&self) -> State {
        State::from(self.parameters.clone())
    }

    /// Returns the loss before each step of a run in which the engine continues from its own
    /// weights.
    pub fn losses(&self, target: &Target) -> Result<Vec<f64>> {
        let mut model = self.compile(target, &self.start())?;
        self.steps
            .iter()
            .map(|(step, batch)| {
                Ok(train_step(model.as_mut(), batch, self.batch_size, step, &Alone)?.loss)
            })
            .collect()
    }

    /// Compares the steps of each target with those of the first.
    pub fn compare(&self, targets: &[Target]) -> Result<Vec<Comparison>> {
        let Some((first, _)) = targets.split_first() else { return Ok(vec![]) };
        let mut reference = self.compile(first, &self.start())?;
        let mut all = vec![Deviations::default(); targets.len()];
        let mut sensitivity = 0.0;
        for (step, batch) in &self.steps {
            let before = reference.state()?;
            let (loss, gradients) =
                step_gradients(reference.as_mut(), batch, self.batch_size, step)?;
            reference.update(&gradients, step)?;
            let expected = ReferenceStep {
                before: &before.parameters,
                loss,
                gradients: &gradients,
                after: reference.parameters()?,
            };
            for (target, deviations) in targets.iter().zip(&mut all).skip(1) {
                let mut model = self.compile(target, &before)?;
                let (loss, found) = step_gradients(model.as_mut(), batch, self.batch_size, step)?;
                model.update(&gradients, step)?;
                expected.compare(loss, &found, &model.parameters()?, deviations);
            }
            if targets.len() > 1 {
                let mut nearby = before.clone();
                perturb(&mut nearby.parameters);
                let found = step_gradients(
                    self.compile(first, &nearby)?.as_mut(),
                    batch,
                    self.batch_size,
                    step,
                )?
                .1;
                sensitivity = expected.gradient_deviation(&found).max(sensitivity);
            }
        }
        let allowed = Deviation {
            loss: 1e-5,
            gradients: (SENSITIVITY_FACTOR * sensitivity).max(1e-4),
            update: 1e-4,
        };
        Ok(all.into_iter().map(|deviations| deviations.summarize(allowed)).collect())
    }
}

/// The tolerance of the gradients, as a multiple of their change when each weight is changed to the
/// next f32. It is above 1 because an engine rounds in every sum, not only once.
const SENSITIVITY_FACTOR: f64 = 5.0;

/// The deviations of an engine over its steps.
#[derive(Clone, Debug, Default)]
struct Deviations {
    loss: f64,
    gradients: Vec<f64>,
    update: f64,
    /// Whether a loss or an update exceeded its tolerance.
    exceeded: bool,
}

impl Deviations {
    fn summarize(mut self, allowed: Deviation) -> Comparison {
        self.gradients.sort_by(f64::total_cmp);
        let gradients = self.gradients.get(self.gradients.len() / 2).copied().unwrap_or_default();
        let within_tolerance = !self.exceeded && gradients <= allowed.gradients;
        Comparison {
            apart: Deviation { loss: self.loss, gradients, update: self.update },
            allowed,
            within_tolerance,
        }
    }
}

/// A step of the first engine.
struct ReferenceStep<'a> {
    before: &'a Parameters,
    loss: f64,
    gradients: &'a Gradients,
    after: Parameters,
}

impl ReferenceStep<'_> {
    fn compare(
        &self,
        loss: f64,
        gradients: &Gradients,
        after: &Parameters,
        deviations: &mut Deviations,
    ) {
        let mut exceeded = false;
        let mut compare =
            |worst: &mut f64, difference: f64, size: f64, rounding: f64, tolerance: f64| {
                // Written so that NaN exceeds the tolerance.
                exceeded |= !matches!(difference, d if d <= tolerance * size + rounding);
                *worst = worst.max(relative(difference, size));
            };
        compare(&mut deviations.loss, (loss - self.loss).abs(), self.loss.abs(), 1e-7, 1e-5);
        for (name, expected) in &self.after {
            let difference = after.get(name).map_or(f64::NAN, |found| distance(found, expected));
            // Each value is rounded once when the update is added to it.
            let rounding = f64::from(f32::EPSILON) * norm(expected);
            let update = distance(expected, &self.before[name]);
            compare(&mut deviations.update, difference, update, rounding, 1e-4);
        }
        deviations.exceeded |= exceeded;
        deviations.gradients.push(self.gradient_deviation(gradients));
    }

    /// Returns the largest relative L2 distance of the gradients of a parameter. It is scaled down
    /// if the loss is below 0.01: gradients are then small differences of probabilities and
    /// targets, whose rounding errors are as large as those of large differences.
    fn gradient_deviation(&self, gradients: &Gradients) -> f64 {
        let total =
            self.gradients.values().map(|gradient| norm(gradient).powi(2)).sum::<f64>().sqrt();
        let scale = (1e-2 / self.loss.abs().max(1e-6)).max(1.0);
        let deviations = self.gradients.iter().map(|(name, expected)| {
            let difference =
                gradients.get(name).map_or(f64::NAN, |found| distance(found, expected));
            // A gradient far below the norm of all gradients may consist of rounding errors.
            relative(difference, norm(expected).max(1e-3 * total)) / scale
        });
        deviations.fold(0.0, f64::max)
    }
}

/// Returns `difference / size`: 0 if the difference is 0, infinity if the quotient is NaN.
fn relative(difference: f64, size: f64) -> f64 {
    match difference / size {
        _ if difference == 0.0 => 0.0,
        share if share.is_nan() => f64::INFINITY,
        share => share,
    }
}

/// Changes every value except 0 to the next f32, alternately up and down.
fn perturb(parameters: &mut Parameters) {
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
    let squares =
        a.values.iter().zip(&b.values).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;
