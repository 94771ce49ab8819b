//! The accuracy on corrupted images.

use alexnet_core::{Model, metrics::Evaluation};
use alexnet_data::{
    corruption::{Corruption, Kind, SEVERITIES},
    dataset::Item,
    loader::Loader,
};
use serde::Serialize;

use crate::{Error, Observer, Result, observer::Work};

/// The accuracy on corrupted images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CorruptionReport {
    /// The mean accuracy over all corruptions and severities.
    pub top1: f64,
    /// One entry per corruption.
    pub corruptions: Vec<CorruptionAccuracy>,
}

/// The accuracy for one corruption.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CorruptionAccuracy {
    /// The name of the corruption, such as `gaussian-noise`.
    pub corruption: &'static str,
    /// The mean accuracy over the severities.
    pub top1: f64,
    /// The accuracy at each severity.
    pub severities: [f64; SEVERITIES],
}

/// Evaluates a model with `classes` classes on each corruption of the items.
///
/// # Errors
/// The first error of the engine or the images; [`Error::NothingToEvaluate`] when there is no
/// image, [`Error::NotFinite`] when a logit is not finite.
pub fn evaluate(
    model: &mut dyn Model,
    loader: &Loader,
    items: &[Item],
    classes: usize,
    observer: &mut dyn Observer,
) -> Result<CorruptionReport> {
    let total = (Kind::ALL.len() * SEVERITIES * items.len()) as u64;
    let mut done = 0;
    let mut corruptions = Vec::with_capacity(Kind::ALL.len());
    for kind in Kind::ALL {
        let mut severities = [0.0; SEVERITIES];
        for (severity, top1) in severities.iter_mut().enumerate() {
            let mut evaluation = Evaluation::new(classes);
            for batch in loader.corrupted_evaluation(items, Corruption { kind, severity }) {
                let (positions, batch) = batch?;
                done += positions.len() as u64;
                observer.progress(Work::Evaluating, done, total);
                if !batch.is_empty() {
                    evaluation.add(&model.logits(&batch.images)?, &batch.targets);
                }
            }
            if evaluation.images() == 0 {
                return Err(Error::NothingToEvaluate);
            }
            if !evaluation.loss().is_finite() {
                return Err(Error::NotFinite);
            }
            *top1 = evaluation.confusion().accuracy();
        }
        corruptions.push(CorruptionAccuracy {
            corruption: kind.name(),
            top1: mean(severities),
            severities,
        });
    }
    let top1 = corruptions.iter().map(|accuracy| accuracy.top1).sum::<f64>();
    Ok(CorruptionReport { top1: top1 / corruptions.len() as f64, corruptions })
}

fn mean(severities: [f64; SEVERITIES]) -> f64 {
    severities.iter().sum::<f64>() / SEVERITIES as f64
}
