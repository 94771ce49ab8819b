//! Independence: the results for an image must not depend on the other images of the batch, those
//! for a batch not on earlier batches, and training not on evaluation.

use alexnet_core::{Images, Model, Optimizer, Step};

use super::states::{same_state, start, train};
use crate::{
    case::{Case, Outcome},
    compare, fixtures,
};

/// Returns the cases, which use the miniature network.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("batches::an_image_alone_and_among_others", |engine| {
            let (state, _) = start();
            let mut model = engine.compile(&fixtures::miniature(), &state, Optimizer::default())?;
            let all = images(7);
            let together = model.logits(&all)?;
            for i in 0..all.len() {
                let single = model.logits(&image(&all, i))?;
                close(
                    &single.values,
                    &together.values[i * together.classes..][..together.classes],
                )?;
            }
            Ok(())
        }),
        Case::new("batches::larger_after_smaller_and_smaller_after_larger", |engine| {
            let (state, _) = start();
            let topology = fixtures::miniature();
            let mut model = engine.compile(&topology, &state, Optimizer::default())?;
            for n in [3, 8, 1, 8, 2, 3] {
                let images = images(n);
                let cotangent = fixtures::cotangent(&mut fixtures::rng("cotangent"), n, 5);
                let mut fresh = engine.compile(&topology, &state, Optimizer::default())?;
                close(&model.logits(&images)?.values, &fresh.logits(&images)?.values)?;
                let (used, unused) =
                    (model.vjp(&images, &cotangent)?, fresh.vjp(&images, &cotangent)?);
                for (name, gradient) in &unused {
                    close(&used[name].values, &gradient.values)?;
                }
            }
            Ok(())
        }),
        Case::new("batches::repeated_logits_are_the_same_bits", |engine| {
            let (state, _) = start();
            let mut model = engine.compile(&fixtures::miniature(), &state, Optimizer::default())?;
            let images = images(5);
            let once = model.logits(&images)?;
            if once == model.logits(&images)? { Ok(()) } else { Err("the bits differ".into()) }
        }),
        Case::new("batches::looking_does_not_change_training", |engine| {
            let (state, batches) = start();
            let topology = fixtures::miniature();
            let mut undisturbed = engine.compile(&topology, &state, Optimizer::default())?;
            let mut evaluated = engine.compile(&topology, &state, Optimizer::default())?;
            for number in 1..=4 {
                let losses = (
                    train(undisturbed.as_mut(), &batches, number..=number)?,
                    train(evaluated.as_mut(), &batches, number..=number)?,
                );
                if losses.0 != losses.1 {
                    return Err(format!(
                        "losses {:?}, but {:?} with evaluations",
                        losses.0, losses.1
                    )
                    .into());
                }
                evaluate_all(evaluated.as_mut(), &batches[0])?;
            }
            same_state("after evaluations", &evaluated.state()?, &undisturbed.state()?)
        }),
        Case::new("batches::training_changes_what_is_evaluated", |engine| {
            let (state, batches) = start();
            let topology = fixtures::miniature();
            let mut model = engine.compile(&topology, &state, Optimizer::default())?;
            let images = images(3);
            model.logits(&images)?;
            train(model.as_mut(), &batches, 1..=3)?;
            let mut fresh = engine.compile(&topology, &model.state()?, Optimizer::default())?;
            close(&model.logits(&images)?.values, &fresh.logits(&images)?.values)
        }),
    ]
}

/// Calls everything that does not train, with other batch sizes.
fn evaluate_all(model: &mut dyn Model, batch: &alexnet_core::Batch) -> Outcome {
    model.logits(&images(9))?;
    model.vjp(&images(2), &fixtures::cotangent(&mut fixtures::rng("look"), 2, 5))?;
    model.gradients(
        batch,
        &Step { micro_batch: None, number: 99, seed: 1, lr: 1.0, clip_grad_norm: Some(0.1) },
    )?;
    model.state()?;
    Ok(())
}

fn images(n: usize) -> Images {
    fixtures::images(&mut fixtures::rng("pictures of a miniature"), n, [19, 17])
}

fn image(all: &Images, index: usize) -> Images {
    let size = all.height * all.width * 3;
    Images { pixels: all.pixels[index * size..][..size].to_vec(), ..all.clone() }
}

/// Compares with a tolerance for another order of summation.
fn close(found: &[f32], expected: &[f32]) -> Outcome {
    let truth: Vec<f64> = expected.iter().map(|v| f64::from(*v)).collect();
    compare::within("results", found, &truth, |i| 1e-5 + 1e-5 * truth[i].abs())
}
