//! Comparison of results with tolerances.

use std::collections::BTreeMap;

use alexnet_core::{StepReport, backend::Gradients};

use crate::{case::Outcome, reference::Tensor};

/// Checks that all numbers are equal. 0 and -0 are equal, because the sign of an empty sum is not
/// specified.
pub fn identical(what: &str, found: &[f32], truth: &[f64]) -> Outcome {
    within(what, found, truth, |_| 0.0)
}

/// Checks that `|found - truth| ≤ 1e-5 + 1.3e-6·|truth|`, PyTorch's default tolerances for f32.
/// Used for normalization, softmax and loss.
pub fn close(what: &str, found: &[f32], truth: &[f64]) -> Outcome {
    within(what, found, truth, |i| 1e-5 + 1.3e-6 * truth[i].abs())
}

/// Checks that `|found[i] - truth[i]| ≤ tolerance(i)` for all i.
pub fn within(
    what: &str,
    found: &[f32],
    truth: &[f64],
    tolerance: impl Fn(usize) -> f64,
) -> Outcome {
    if found.len() != truth.len() {
        return Err(format!("{what}: {} numbers instead of {}", found.len(), truth.len()).into());
    }
    let error = |i: usize| (f64::from(found[i]) - truth[i]).abs();
    // With this form of the comparison, NaN is wrong.
    let wrong: Vec<usize> =
        (0..found.len()).filter(|i| !matches!(error(*i), e if e <= tolerance(*i))).collect();
    let Some(first) = wrong.first().copied() else { return Ok(()) };
    Err(format!(
        "{what}: {} of {} numbers are wrong, first [{first}]: {} instead of {} ± {:.1e}",
        wrong.len(),
        found.len(),
        found[first],
        truth[first],
        tolerance(first)
    )
    .into())
}

/// Checks that `|found - truth| ≤ tolerance·|truth|`.
pub fn relative(what: &str, found: f64, truth: f64, tolerance: f64) -> Outcome {
    if (found - truth).abs() <= tolerance * truth.abs() {
        return Ok(());
    }
    Err(format!(
        "{what}: {found} instead of {truth}, relative error {:.1e}",
        (found / truth - 1.0).abs()
    )
    .into())
}

/// Returns the relative tolerance for the loss of step `number`: 1e-5 at step 1, growing to 1e-3 at
/// step 10, because rounding errors accumulate over the steps.
pub fn loss_tolerance(number: u64) -> f64 {
    1e-5 * 10f64.powf(2.0 * (number - 1) as f64 / 9.0)
}

/// Compares the loss of step `number` with a relative tolerance, and the gradient norm with ten times
/// that tolerance.
pub fn step(number: u64, found: &StepReport, truth: &StepReport, tolerance: f64) -> Outcome {
    relative(&format!("loss of step {number}"), found.loss, truth.loss, tolerance)?;
    let what = format!("gradient norm of step {number}");
    relative(&what, found.gradient_norm, truth.gradient_norm, 10.0 * tolerance)
}

/// Checks that the relative L2 distance of two tensors is at most `distance` and their cosine at
/// least 0.99999, or 1 - distance² if that is less.
pub fn aligned(what: &str, found: &[f32], truth: &[f64], distance: f64) -> Outcome {
    if found.len() != truth.len() {
        return Err(format!("{what}: {} numbers instead of {}", found.len(), truth.len()).into());
    }
    let (mut error, mut found_square, mut truth_square, mut product) = (0.0, 0.0, 0.0, 0.0);
    for (found, truth) in found.iter().zip(truth) {
        let found = f64::from(*found);
        error += (found - truth).powi(2);
        found_square += found * found;
        truth_square += truth * truth;
        product += found * truth;
    }
    if error == 0.0 {
        return Ok(());
    }
    let (relative, cosine) =
        ((error / truth_square).sqrt(), product / (found_square * truth_square).sqrt());
    if relative <= distance && cosine >= 1.0 - distance.powi(2).max(1e-5) {
        return Ok(());
    }
    Err(format!(
        "{what}: relative L2 distance {relative:.1e} (at most {distance:.0e}), cosine {cosine:.6}"
    )
    .into())
}

/// Checks that names and shapes of gradients equal those of `truth`, and calls `check(name, found,
/// truth)` for each.
pub fn gradients(
    found: &Gradients,
    truth: &BTreeMap<String, Tensor>,
    check: impl Fn(&str, &[f32], &[f64]) -> Outcome,
) -> Outcome {
    if !found.keys().eq(truth.keys()) {
        return Err(format!("gradients of {:?} instead of {:?}", found.keys(), truth.keys()).into());
    }
    for (name, truth) in truth {
        if found[name].shape != truth.shape {
            let found = &found[name].shape;
            return Err(format!(
                "{name}: gradient of shape {found:?} instead of {:?}",
                truth.shape
            )
            .into());
        }
        check(&format!("gradient of {name}"), &found[name].values, &truth.values)?;
    }
    Ok(())
}
