//! Learning rate schedules, as `torch.optim.lr_scheduler` (2.13) computes them when it is stepped
//! after every update, or for [`Scheduler::Plateau`] after every epoch. The rate depends only on the
//! step and on the results of the finished epochs, so a resumed run needs no other state.

use std::f64::consts::PI;

/// The kind of a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Scheduler {
    /// A constant rate.
    #[default]
    Constant,
    /// Decreases to 0 along half a cosine (`CosineAnnealingLR` with `eta_min=0`).
    Cosine,
    /// Increases from 1/25 of the rate to the rate, and decreases to 1/250,000 of it, along cosines
    /// (`OneCycleLR` with `cycle_momentum=False`). It increases during the warm-up epochs or,
    /// without warm-up, during the first 30 % of the run (`pct_start`).
    OneCycle,
    /// Multiplied by `gamma` after every `size` epochs (`StepLR`).
    Step {
        /// The number of epochs between two changes.
        size: u64,
        /// The factor of each change.
        gamma: f64,
    },
    /// Multiplied by `gamma` when the validation accuracy has not increased for more than `patience`
    /// epochs (`ReduceLROnPlateau(mode="max")`). Epochs of the warm-up count.
    Plateau {
        /// The number of epochs.
        patience: u64,
        /// The factor of each change, below 1.
        gamma: f64,
    },
}

/// The learning rates of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The kind of the schedule.
    pub scheduler: Scheduler,
    /// The first rate after the warm-up; for [`Scheduler::OneCycle`], the highest rate.
    pub lr: f32,
    /// The number of epochs at the start in which the rate increases linearly from 1/100 of it
    /// (`LinearLR(start_factor=0.01)`, combined with the schedule by `SequentialLR`); for
    /// [`Scheduler::OneCycle`], the epochs in which the rate increases.
    pub warmup_epochs: u64,
    /// The number of epochs of the run.
    pub epochs: u64,
}

impl Schedule {
    /// Returns the rate of update `step`, which counts from 0 over the whole run. An epoch has
    /// `steps_per_epoch` updates. `accuracies` are those of the finished epochs.
    pub fn lr(
        &self,
        step: u64,
        steps_per_epoch: u64,
        accuracies: impl IntoIterator<Item = f64>,
    ) -> f32 {
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
            Scheduler::Step { size, gamma } => {
                lr * gamma.powf(((t - warmup) / steps(size)).floor())
            }
            Scheduler::Plateau { patience, gamma } => plateau(lr, patience, gamma, accuracies),
        };
        rate as f32
    }
}

/// Returns the rate of step `t`: it increases to `lr` at step `peak` and decreases until step
/// `last`.
fn one_cycle(lr: f64, t: f64, peak: f64, last: f64) -> f64 {
    let lowest = lr / 25.0;
    if t <= peak {
        return if peak > 0.0 { cosine(lowest, lr, t / peak) } else { lr };
    }
    cosine(lr, lowest / 1e4, ((t - peak) / (last - peak)).min(1.0))
}

/// Returns the rate after epochs with these accuracies: `ReduceLROnPlateau` with its default
/// `threshold=1e-4`, `threshold_mode="rel"`, `cooldown=0`, `min_lr=0` and `eps=1e-8`.
fn plateau(lr: f64, patience: u64, gamma: f64, accuracies: impl IntoIterator<Item = f64>) -> f64 {
    let (mut rate, mut best, mut bad_epochs) = (lr, f64::NEG_INFINITY, 0);
    for accuracy in accuracies {
        if accuracy > best * (1.0 + 1e-4) {
            (best, bad_epochs) = (accuracy, 0);
        } else {
            bad_epochs += 1;
        }
        if bad_epochs > patience {
            let reduced = rate * gamma;
            if rate - reduced > 1e-8 {
                rate = reduced;
            }
            bad_epochs = 0;
        }
    }
    rate
}

/// Interpolates from `start` to `end` along half a cosine; `share` is 0 at the start and 1 at the
/// end.
fn cosine(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (PI * share).cos())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// A record of `tests/goldens/schedules.py`.
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

    /// A record of `tests/goldens/plateaus.py`.
    #[derive(Deserialize)]
    struct Plateau {
        lr: f32,
        patience: u64,
        gamma: f64,
        accuracies: Vec<f64>,
        rates: Vec<f64>,
    }

    #[test]
    fn rates_on_plateaus_equal_those_of_pytorch() {
        let goldens: Vec<Plateau> =
            serde_json::from_str(include_str!("../tests/goldens/plateaus.json")).unwrap();
        for Plateau { lr, patience, gamma, accuracies, rates } in goldens {
            let scheduler = Scheduler::Plateau { patience, gamma };
            let epochs = rates.len() as u64;
            let schedule = Schedule { scheduler, lr, warmup_epochs: 0, epochs };
            for (epoch, expected) in rates.iter().enumerate() {
                let done = accuracies[..epoch].iter().copied();
                // The rate is that of all steps of the epoch.
                for step in [3 * epoch as u64, 3 * epoch as u64 + 2] {
                    let found = schedule.lr(step, 3, done.clone());
                    assert_eq!(found, *expected as f32, "patience {patience}, epoch {epoch}");
                }
            }
        }
    }

    #[test]
    fn a_plateau_after_a_warm_up_counts_all_epochs() {
        let scheduler = Scheduler::Plateau { patience: 1, gamma: 0.5 };
        let schedule = Schedule { scheduler, lr: 1.0, warmup_epochs: 2, epochs: 9 };
        assert_eq!(schedule.lr(0, 10, []), 0.01);
        assert_eq!(schedule.lr(19, 10, [0.5]), (0.01 + 0.99 * 19.0 / 20.0) as f32);
        assert_eq!(schedule.lr(20, 10, [0.5, 0.4]), 1.0);
        assert_eq!(schedule.lr(30, 10, [0.5, 0.4, 0.5]), 0.5);
    }

    #[test]
    fn rates_equal_those_of_pytorch() {
        let goldens: Vec<Golden> =
            serde_json::from_str(include_str!("../tests/goldens/schedules.json")).unwrap();
        for golden in &goldens {
            let Golden {
                lr, warmup_epochs, epochs, steps_per_epoch, size, gamma, ref rates, ..
            } = *golden;
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
                let found = f64::from(schedule.lr(step, steps_per_epoch, []));
                // PyTorch multiplies the previous rate by a factor, while this code computes each
                // rate anew. The rounding error of f32 is 6e-8.
                assert!(
                    (found - expected).abs() <= 1e-6 * expected + 1e-12,
                    "{scheduler:?}, warm-up {warmup_epochs}, step {step}: {found}, {expected}"
                );
            }
        }
    }

    #[test]
    fn the_largest_numbers_give_valid_rates() {
        let max = u64::MAX;
        for scheduler in [
            Scheduler::Constant,
            Scheduler::Cosine,
            Scheduler::OneCycle,
            Scheduler::Step { size: max, gamma: 0.1 },
        ] {
            for (warmup_epochs, epochs) in [(max, 1), (0, max), (max, max)] {
                let schedule = Schedule { scheduler, lr: 1.0, warmup_epochs, epochs };
                for step in [0, 1, max] {
                    let lr = schedule.lr(step, 103, []);
                    assert!((0.0..=1.0).contains(&lr), "{schedule:?} {step}: {lr}");
                }
            }
        }
    }

    #[test]
    fn runs_of_one_step_or_only_warm_up_have_valid_rates() {
        for scheduler in [Scheduler::Constant, Scheduler::Cosine, Scheduler::OneCycle] {
            for warmup_epochs in [0, 1, 5] {
                let schedule = Schedule { scheduler, lr: 1.0, warmup_epochs, epochs: 1 };
                for steps in 1..4 {
                    for step in 0..steps {
                        let lr = schedule.lr(step, steps, []);
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
