//! The exponential moving average of the weights, which is often more accurate than the last
//! weights.

use crate::{Array, Parameters};

/// `torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))`, updated
/// after every `steps` steps. It is computed on the host, so engines need no support for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ema {
    /// The weight of the previous average in each update.
    pub decay: f32,
    /// Optimizer steps between two updates.
    pub steps: u64,
}

impl Ema {
    /// Returns the default number of steps between two updates: [`Self::STEPS`], or less for short
    /// epochs, so that the average is updated at least six times per epoch and no epoch is
    /// evaluated with the weights of the epoch before. With a decay of 0.9, the average then covers
    /// about two epochs at most.
    pub fn default_steps(steps_per_epoch: u64) -> u64 {
        (steps_per_epoch / 6).clamp(1, Self::STEPS)
    }

    /// The default number of steps between two updates in epochs of about a hundred steps or more.
    pub const STEPS: u64 = 16;

    /// Computes `a ← a + (1 - decay)(w - a)` for each element. An empty average is set to the
    /// weights.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_epochs_update_the_average_more_often() {
        for (steps_per_epoch, default_steps) in
            [(0, 1), (1, 1), (9, 1), (12, 2), (95, 15), (103, 16), (40_000, 16)]
        {
            assert_eq!(Ema::default_steps(steps_per_epoch), default_steps, "{steps_per_epoch}");
        }
    }
}
