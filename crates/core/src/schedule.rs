//! Learning rates over a run, as `torch.optim.lr_scheduler` (2.13) computes them when it is stepped after every update. A rate
//! is a function of its position alone, so a resumed run needs to know nothing else.

use std::f64::consts::PI;

/// The shape of a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Scheduler {
    /// The same rate throughout.
    #[default]
    Constant,
    /// Down to 0 along half a cosine (`CosineAnnealingLR` with `eta_min=0`).
    Cosine,
    /// From a 25th up to the rate and down to a 250,000th, along cosines (`OneCycleLR` with `cycle_momentum=False`). It rises during
    /// the warm-up epochs or, when there are none, the first 30 % of the run (`pct_start`).
    OneCycle,
    /// Multiplied by `gamma` after every `size` epochs (`StepLR`).
    Step {
        /// Epochs.
        size: u64,
        /// Factor.
        gamma: f64,
    },
}

/// Learning rates of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Its shape.
    pub scheduler: Scheduler,
    /// The rate that it begins with after the warm-up or, of [`Scheduler::OneCycle`], its highest.
    pub lr: f32,
    /// Epochs in which the rate first rises linearly from a hundredth (`LinearLR(start_factor=0.01)`, joined to the schedule by
    /// `SequentialLR`); how long [`Scheduler::OneCycle`] rises.
    pub warmup_epochs: u64,
    /// Epochs of the run.
    pub epochs: u64,
}

impl Schedule {
    /// The rate of update `step`, which counts from 0 over the whole run, where an epoch has `steps_per_epoch` updates.
    pub fn lr(&self, step: u64, steps_per_epoch: u64) -> f32 {
        let steps = |epochs: u64| epochs as f64 * steps_per_epoch as f64;
        let (lr, t) = (f64::from(self.lr), step as f64);
        let (warmup, total) = (steps(self.warmup_epochs), steps(self.epochs));
        let rate = match self.scheduler {
            Scheduler::OneCycle => {
                let rise = if warmup > 0.0 { warmup } else { 0.3 * total };
                one_cycle(lr, t, rise - 1.0, total - 1.0)
            }
            _ if t < warmup => lr * (0.01 + 0.99 * t / warmup),
            Scheduler::Constant => lr,
            Scheduler::Cosine => cosine(lr, 0.0, (t - warmup) / (total - warmup)),
            Scheduler::Step { size, gamma } => lr * gamma.powf(((t - warmup) / steps(size)).floor()),
        };
        rate as f32
    }
}

/// Up to `lr` at step `peak`, down until step `last`.
fn one_cycle(lr: f64, t: f64, peak: f64, last: f64) -> f64 {
    let lowest = lr / 25.0;
    if t <= peak {
        return if peak > 0.0 { cosine(lowest, lr, t / peak) } else { lr };
    }
    cosine(lr, lowest / 1e4, ((t - peak) / (last - peak)).min(1.0))
}

/// `share` of the way from `start` to `end`, along half a cosine.
fn cosine(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (PI * share).cos())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Made by `tests/goldens/schedules.py`.
    #[derive(Deserialize)]
    struct Golden {
        scheduler: String,
        lr: f32,
        warmup_epochs: u64,
        epochs: u64,
        steps_per_epoch: u64,
        size: u64,
        gamma: f64,
        rates: Vec<f64>,
    }

    #[test]
    fn every_step_has_pytorchs_rate() {
        let goldens: Vec<Golden> =
            serde_json::from_str(include_str!("../tests/goldens/schedules.json")).unwrap();
        for golden in &goldens {
            let Golden { lr, warmup_epochs, epochs, steps_per_epoch, size, gamma, ref rates, .. } = *golden;
            let scheduler = match golden.scheduler.as_str() {
                "constant" => Scheduler::Constant,
                "cosine" => Scheduler::Cosine,
                "step" => Scheduler::Step { size, gamma },
                "onecycle" => Scheduler::OneCycle,
                other => panic!("{other}"),
            };
            let schedule = Schedule { scheduler, lr, warmup_epochs, epochs };
            assert_eq!(rates.len() as u64, epochs * steps_per_epoch);
            for (step, expected) in (0..).zip(rates) {
                let found = f64::from(schedule.lr(step, steps_per_epoch));
                // PyTorch multiplies the last rate by a factor, where ours is computed anew; f32 has 6e-8.
                assert!(
                    (found - expected).abs() <= 1e-6 * expected + 1e-12,
                    "{scheduler:?}, warm-up {warmup_epochs}, step {step}: {found}, {expected}"
                );
            }
        }
    }

    #[test]
    fn the_largest_numbers_have_rates() {
        let most = u64::MAX;
        for scheduler in [
            Scheduler::Constant,
            Scheduler::Cosine,
            Scheduler::OneCycle,
            Scheduler::Step { size: most, gamma: 0.1 },
        ] {
            for (warmup_epochs, epochs) in [(most, 1), (0, most), (most, most)] {
                let schedule = Schedule { scheduler, lr: 1.0, warmup_epochs, epochs };
                for step in [0, 1, most] {
                    let lr = schedule.lr(step, 103);
                    assert!((0.0..=1.0).contains(&lr), "{schedule:?} {step}: {lr}");
                }
            }
        }
    }

    #[test]
    fn runs_of_one_step_and_of_nothing_but_warm_up_have_rates() {
        for scheduler in [Scheduler::Constant, Scheduler::Cosine, Scheduler::OneCycle] {
            for warmup_epochs in [0, 1, 5] {
                let schedule = Schedule { scheduler, lr: 1.0, warmup_epochs, epochs: 1 };
                for steps in 1..4 {
                    for step in 0..steps {
                        let lr = schedule.lr(step, steps);
                        assert!(
                            (0.0..=1.0).contains(&lr),
                            "{scheduler:?} {warmup_epochs} {steps} {step}: {lr}"
                        );
                    }
                }
            }
        }
    }
}
