//! The exponential moving average of the weights, which often answers better than the last weights do.

use crate::{Array, Parameters};

/// `torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))`, updated after every `steps` steps.
/// Computed on the host, so that engines need not know of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ema {
    /// What is kept of the average at each update.
    pub decay: f32,
    /// Optimiser steps between two updates.
    pub steps: u64,
}

impl Ema {
    /// `a ← a + (1 - decay)(w - a)`, element by element; an empty average becomes the weights.
    pub fn update(&self, average: &mut Parameters, weights: Parameters) {
        if average.is_empty() {
            *average = weights;
            return;
        }
        let share = 1.0 - self.decay;
        for (name, Array { values, .. }) in weights {
            let Some(average) = average.get_mut(&name) else { continue };
            average.values.iter_mut().zip(values).for_each(|(a, w)| *a += share * (w - *a));
        }
    }
}
