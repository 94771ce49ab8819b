//! The learning rate range test (Smith 2017, "Cyclical Learning Rates for Training Neural
//! Networks", section 3.3): the learning rate grows with every step, and the losses show which
//! rates are useful.

use std::ops::ControlFlow;

use crate::{Alone, Error, Model, Result, Step, sum_order::Share, train::Batches};

/// The learning rates of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The first rate.
    pub min: f32,
    /// The last rate.
    pub max: f32,
    /// The number of rates, which are spaced at equal ratios; at least 2.
    pub steps: u64,
}

impl Range {
    /// Returns the rate of step `index`, from 0.
    fn rate(&self, index: u64) -> f32 {
        let (min, max) = (f64::from(self.min), f64::from(self.max));
        (min * (max / min).powf(index as f64 / (self.steps - 1).max(1) as f64)) as f32
    }
}

/// The result of one step of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Its learning rate.
    pub lr: f32,
    /// The loss before its update.
    pub loss: f64,
    /// The weighted mean of the losses so far; the weights decrease by a tenth per step back.
    pub smoothed: f64,
}

/// The weight of the previous steps in the smoothed loss.
const SMOOTHING: f64 = 0.9;
/// The test ends when the smoothed loss exceeds its lowest value by this factor.
const DIVERGED: f64 = 4.0;

/// Trains `model` with growing rates until the last rate, until the loss diverges, or until `watch`
/// breaks.
///
/// # Errors
/// Those of the engine and the batches; [`Error::Data`] when there is no image.
pub fn range_test(
    model: &mut dyn Model,
    data: &dyn Batches,
    seed: u64,
    range: &Range,
    mut watch: impl FnMut(&Point) -> ControlFlow<()>,
) -> Result<Vec<Point>> {
    let (mut points, mut sum, mut lowest) = (Vec::new(), 0.0, f64::INFINITY);
    let mut number = 0;
    for epoch in 0.. {
        let before = number;
        for step_batch in data.train(epoch, 0, Share::WHOLE) {
            let step_batch = step_batch?;
            let (images, divisor) = step_batch.total(&Alone)?;
            if images == 0 {
                continue;
            }
            if number == range.steps {
                return Ok(points);
            }
            let lr = range.rate(number);
            number += 1;
            let micro_batch = Some(step_batch.micro_batch(divisor));
            let step = Step { number, seed, micro_batch, lr, clip_grad_norm: None };
            let loss = model.train_step(&step_batch.batch, &step)?.loss;
            sum = SMOOTHING * sum + (1.0 - SMOOTHING) * loss;
            let smoothed = sum / (1.0 - SMOOTHING.powf(number as f64));
            if !loss.is_finite() || smoothed > DIVERGED * lowest {
                return Ok(points);
            }
            lowest = lowest.min(smoothed);
            let point = Point { lr, loss, smoothed };
            points.push(point);
            if watch(&point).is_break() {
                return Ok(points);
            }
        }
        if number == before {
            return Err(Error::Data("there is no image to train on".into()));
        }
    }
    Ok(points)
}

/// Returns the rate at which the smoothed loss decreases fastest over the logarithm of the rate,
/// before its lowest value; `None` if it does not decrease. Slopes are computed over a tenth of the
/// steps, since single losses are noisy.
pub fn suggestion(points: &[Point]) -> Option<f32> {
    let half = (points.len() / 20).max(1);
    let lowest =
        (0..points.len()).min_by(|a, b| points[*a].smoothed.total_cmp(&points[*b].smoothed))?;
    let slope = |at: &[Point]| at[2 * half].smoothed - at[0].smoothed;
    let steepest =
        points[..=lowest].windows(2 * half + 1).min_by(|a, b| slope(a).total_cmp(&slope(b)))?;
    (slope(steepest) < 0.0).then_some(steepest[half].lr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_grow_by_equal_ratios() {
        let range = Range { min: 1e-4, max: 1.0, steps: 5 };
        let rates: Vec<f32> = (0..5).map(|index| range.rate(index)).collect();
        for (found, expected) in rates.iter().zip([1e-4, 1e-3, 1e-2, 1e-1, 1.0]) {
            assert!((found / expected - 1.0).abs() < 1e-5, "{rates:?}");
        }
    }

    #[test]
    fn the_steepest_descent_is_suggested() {
        let curve = |losses: &[f64]| -> Vec<Point> {
            let point = |(loss, index): (&f64, i32)| Point {
                lr: 10f32.powi(index),
                loss: *loss,
                smoothed: *loss,
            };
            losses.iter().zip(-6..).map(point).collect()
        };
        assert_eq!(suggestion(&curve(&[1.6, 1.6, 1.5, 0.9, 0.85, 2.0])), Some(1e-4));
        // A decrease after the loss has risen is noise.
        assert_eq!(suggestion(&curve(&[1.6, 1.5, 1.4, 1.6, 9.0, 3.0])), Some(1e-5));
        assert_eq!(suggestion(&curve(&[1.0, 1.1, 1.3])), None);
        assert_eq!(suggestion(&curve(&[1.0, 0.5])), None);
    }
}
