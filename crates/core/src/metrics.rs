//! Metrics: top-k, confusion matrix, precision, recall and F1, confidence interval of the accuracy,
//! calibration.

mod calibration;
mod confusion;
mod evaluation;
mod interval;
mod ranking;

pub use calibration::{Bin, Calibration};
pub use confusion::{Confusion, Quality};
pub use evaluation::{Answer, ClassReport, Evaluation, Report, ranked};
pub use interval::wilson95;
pub use ranking::{argmax, top_k};

/// Returns `part / whole`, or 0 if `whole` is 0.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
