//! The evaluation of a model on batches that are divided among ranks.

use serde::{Deserialize, Serialize};

use crate::{
    Batch, Collective, Error, Logits, Model, Result,
    collective::{agree, gather},
    metrics::Evaluation,
};

/// The logits and targets of a batch, as bits, so that all numbers reach the other ranks unchanged.
/// Without images, all are empty.
#[derive(Serialize, Deserialize)]
struct Evaluated {
    logits: Vec<u32>,
    targets: Vec<u32>,
    classes: usize,
}

/// Evaluates the model. Each rank has its own batches: rank `r` of `R` has the batches `r`, `r + R`,
/// `r + 2R`, … of the data set. All ranks return the evaluation of all batches.
///
/// # Errors
/// The first error of the engine or of the batches of any rank; [`Error::Data`] when there is no
/// image.
pub fn evaluate(
    model: &mut dyn Model,
    batches: impl IntoIterator<Item = Result<Batch>>,
    ranks: &dyn Collective,
) -> Result<Evaluation> {
    let mut evaluation: Option<Evaluation> = None;
    let mut batches = batches.into_iter();
    loop {
        let own = match batches.next() {
            Some(Ok(batch)) if !batch.is_empty() => evaluated(model, &batch).map(Some),
            // The other ranks may have images, and may need this one to compute their logits.
            other => model.take_part().and_then(|()| Ok(other.transpose()?.map(|_| NOTHING))),
        };
        let own = agree(ranks, own)?;
        let all = gather(ranks, &own)?;
        if all.iter().all(Option::is_none) {
            return evaluation
                .ok_or_else(|| Error::Data("there is no image to evaluate on".into()));
        }
        for Evaluated { logits, targets, classes } in all.into_iter().flatten() {
            if logits.is_empty() {
                continue;
            }
            let numbers =
                |bits: Vec<u32>| -> Vec<f32> { bits.into_iter().map(f32::from_bits).collect() };
            evaluation
                .get_or_insert_with(|| Evaluation::new(classes))
                .add(&Logits { values: numbers(logits), classes }, &numbers(targets));
        }
    }
}

const NOTHING: Evaluated = Evaluated { logits: Vec::new(), targets: Vec::new(), classes: 0 };

fn evaluated(model: &mut dyn Model, batch: &Batch) -> Result<Evaluated> {
    let Logits { values, classes } = model.logits(&batch.images)?;
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect();
    Ok(Evaluated { logits: bits(&values), targets: bits(&batch.targets), classes })
}
