//! Softmax cross-entropy on soft targets (`torch.nn.functional.cross_entropy` with probabilities).

use crate::{
    Logits,
    sum_order::{BalancedSum, MicroBatch, images_per_part},
};

/// Returns the softmax of one row, in f64. The largest logit is subtracted first, to avoid
/// overflow.
pub fn softmax(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().fold(f64::NEG_INFINITY, |a, x| a.max(f64::from(*x)));
    let exponentials: Vec<f64> = row.iter().map(|x| (f64::from(*x) - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / sum).collect()
}

/// Returns the logarithm of [`softmax`], which is finite for all finite logits.
pub fn log_softmax(row: &[f32]) -> Vec<f64> {
    let log_sum = log_sum_exp(row.iter().map(|x| f64::from(*x)));
    row.iter().map(|x| f64::from(*x) - log_sum).collect()
}

/// Returns `ln Σ exp x`. The largest number is subtracted first, to avoid overflow.
pub fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    values.map(|x| (x - largest).exp()).sum::<f64>().ln() + largest
}

/// Returns the cross-entropy of one row of logits with its target distribution: `-Σ t·log
/// softmax(x)`.
pub fn row_loss(row: &[f32], target: &[f32]) -> f64 {
    let log_sum = log_sum_exp(row.iter().map(|x| f64::from(*x)));
    row.iter().zip(target).map(|(x, t)| f64::from(*t) * (log_sum - f64::from(*x))).sum()
}

/// Returns the mean loss over the images of a step and its gradient with respect to the logits,
/// `[N, C]`: `(softmax(x)·Σt - t) / N`. For a micro-batch, N is [`MicroBatch::divisor`], and the loss
/// is the share of the micro-batch. An image whose targets are all 0 has the loss 0 and the gradient
/// 0. Targets may have factors, such as weights of classes. All engines use this function. It
/// computes in f64 on the host and rounds once.
pub fn cross_entropy(
    logits: &Logits,
    targets: &[f32],
    micro_batch: Option<MicroBatch>,
) -> (f64, Logits) {
    let rows = logits.values.len() / logits.classes;
    let (images, n) =
        micro_batch.map_or((rows, rows as f64), |part| (part.images_per_step, part.divisor));
    let part = images_per_part(images);
    let mut loss = BalancedSum::default();
    let mut part_loss = 0.0;
    let mut gradient = Vec::with_capacity(logits.values.len());
    for (i, (row, target)) in logits.rows().zip(targets.chunks_exact(logits.classes)).enumerate() {
        part_loss += row_loss(row, target) / n;
        if (i + 1).is_multiple_of(part) || i + 1 == rows {
            loss.push(std::mem::take(&mut part_loss), add);
        }
        let mass: f64 = target.iter().map(|t| f64::from(*t)).sum();
        let probabilities = softmax(row);
        gradient.extend(
            probabilities.iter().zip(target).map(|(p, t)| ((p * mass - f64::from(*t)) / n) as f32),
        );
    }
    let loss = loss.finish(add).unwrap_or_default();
    (loss, Logits { values: gradient, classes: logits.classes })
}

fn add(sum: &mut f64, value: &f64) {
    *sum += value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_of_uniform_logits_is_the_log_of_the_number_of_classes() {
        let logits = Logits { values: vec![7.0; 10], classes: 5 };
        let (loss, gradient) =
            cross_entropy(&logits, &[1., 0., 0., 0., 0., 0., 0., 1., 0., 0.], None);
        assert!((loss - 5f64.ln()).abs() < 1e-12);
        assert_eq!(gradient.values, [-0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, -0.4, 0.1, 0.1]);
    }

    #[test]
    fn extreme_logits_stay_finite() {
        let logits = Logits { values: vec![1e30, -1e30, 0.0], classes: 3 };
        let (loss, gradient) = cross_entropy(&logits, &[1., 0., 0.], None);
        assert_eq!(loss, 0.0);
        assert!(gradient.values.iter().all(|g| *g == 0.0));
        assert!(cross_entropy(&logits, &[0., 1., 0.], None).0.is_finite());
    }

    #[test]
    fn nan_logits_give_a_nan_loss() {
        let logits = Logits { values: vec![f32::NAN, 0.0], classes: 2 };
        assert!(cross_entropy(&logits, &[0.0, 1.0], None).0.is_nan());
    }

    #[test]
    fn the_gradient_equals_finite_differences() {
        let values = vec![0.3, -1.2, 2.0, 0.1, 0.7, -0.4];
        let targets = [0.2, 0.5, 0.3, 0.0, 0.9, 0.1];
        let logits = |values| Logits { values, classes: 3 };
        let (_, gradient) = cross_entropy(&logits(values.clone()), &targets, None);
        let h = 1.0 / 256.0;
        for i in 0..values.len() {
            let shifted = |by: f32| {
                let mut shifted = values.clone();
                shifted[i] += by;
                cross_entropy(&logits(shifted), &targets, None).0
            };
            let slope = (shifted(h) - shifted(-h)) / f64::from(2.0 * h);
            assert!((slope - f64::from(gradient.values[i])).abs() < 1e-5);
        }
    }
}
