//! The loss.

use alexnet_core::sum_order::MicroBatch;

use super::tensor::Tensor;

/// Returns the softmax cross-entropy of `logits` `[N, C]` with soft targets, divided by the divisor
/// of the step, and its gradient with respect to the logits.
pub(crate) fn cross_entropy(
    logits: &Tensor,
    targets: &[f32],
    micro_batch: Option<MicroBatch>,
) -> (f64, Tensor) {
    let classes = logits.shape[1];
    let n = micro_batch.map_or(logits.shape[0] as f64, |part| part.divisor);
    let mut loss = 0.0;
    let mut gradient = Tensor::zeros(&logits.shape);
    for (i, row) in logits.values.chunks_exact(classes).enumerate() {
        let targets = &targets[i * classes..(i + 1) * classes];
        let largest = row.iter().fold(f64::NEG_INFINITY, |a, x| a.max(*x));
        let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
        let mass: f64 = targets.iter().map(|t| f64::from(*t)).sum();
        for (c, (x, t)) in row.iter().zip(targets).enumerate() {
            let log_softmax = x - largest - sum.ln();
            loss -= f64::from(*t) * log_softmax / n;
            gradient.values[i * classes + c] = (log_softmax.exp() * mass - f64::from(*t)) / n;
        }
    }
    (loss, gradient)
}
