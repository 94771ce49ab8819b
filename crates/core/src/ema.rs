//! The exponential moving average of the weights, which often answers better than the last weights do.

use crate::{Array, Parameters};

/// `torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))`, updated after every `steps` steps.
/// Computed on the host, so that engines need not know of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ema {
    /// What is kept of the average at each update.
    pub decay: f32,
    /// Optimizer steps between two updates.
    pub steps: u64,
}

impl Ema {
    /// Steps between two updates in a run that does not say: [`Self::STEPS`], and less where an epoch is short, so that the average
    /// moves at least six times an epoch and no epoch is evaluated with the weights of the one before. With a decay of 0.9 it
    /// then remembers about two epochs at most.
    pub fn pace(steps_per_epoch: u64) -> u64 {
        (steps_per_epoch / 6).clamp(1, Self::STEPS)
    }

    /// Steps between two updates where an epoch has a hundred steps and more.
    pub const STEPS: u64 = 16;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_epochs_move_the_average_more_often() {
        for (steps_per_epoch, pace) in [(0, 1), (1, 1), (9, 1), (12, 2), (95, 15), (103, 16), (40_000, 16)] {
            assert_eq!(Ema::pace(steps_per_epoch), pace, "{steps_per_epoch}");
        }
    }
}
