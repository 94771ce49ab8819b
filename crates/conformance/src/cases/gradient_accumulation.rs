//! Gradient accumulation: a step on several batches must equal the step on all their images at
//! once, with the same masks, the same gradient and the same clipping. Images without a target must
//! not count, and weights of the classes must.

use alexnet_core::{
    Array, Batch, Model, Op, Optimizer, Result, Step, StepReport, backend::Gradients,
    optimizer::Adam, sum_order::MicroBatch,
};

use crate::{case::Case, compare, fixtures};

/// Returns cases with and without clipping, with two and more parts.
pub fn cases() -> Vec<Case> {
    type Indices = &'static [usize];
    let case = |(parts, clip_grad_norm, unlabeled, weighted): (_, _, _, bool)| {
        let (parts, clip_grad_norm, unlabeled): (Indices, Option<f32>, Indices) =
            (parts, clip_grad_norm, unlabeled);
        let sizes: Vec<String> = parts.iter().map(usize::to_string).collect();
        let clipped =
            clip_grad_norm.map_or("unclipped".into(), |limit| format!("clipped_to_{limit}"));
        let mut name = format!("gradient_accumulation::batches_of_{}_{clipped}", sizes.join("_"));
        if !unlabeled.is_empty() {
            name += "_with_unlabeled_images";
        }
        if weighted {
            name += "_with_class_weights";
        }
        let key = format!("gathering: {parts:?}, clipped to {clip_grad_norm:?}");
        Case::new(name, move |engine| {
            let topology = fixtures::topology(
                [3, 4, 3],
                &[Op::Flatten, Op::Dropout { p: 0.5 }, Op::Linear { inputs: 36, outputs: 5 }],
            );
            let mut rng = fixtures::rng(&key);
            let state = fixtures::balanced_state(&mut rng, &topology);
            let optimizer = Optimizer::AdamW { adam: Adam::default(), weight_decay: 0.1 };
            let mut model = engine.compile(&topology, &state, optimizer)?;
            let mut truth = engine.reference(&topology, &state, optimizer)?;
            for number in 1..=10 {
                let mut full_batch = fixtures::batch(&mut rng, parts.iter().sum(), &topology);
                let images_per_step = full_batch.len();
                unlabeled.iter().for_each(|i| full_batch.targets[5 * i..5 * (i + 1)].fill(0.0));
                let mut divisor = (images_per_step - unlabeled.len()) as f64;
                if weighted {
                    let weights = [0.5, 2.0, 1.25, 3.0, 1.0].into_iter().cycle();
                    full_batch.targets.iter_mut().zip(weights).for_each(|(t, w)| *t *= w);
                    divisor *= 1.5;
                }
                let micro_batch = Some(MicroBatch { first: 0, images_per_step, divisor });
                let step = Step { micro_batch, number, seed: 5, lr: 0.01, clip_grad_norm };
                let found = step_on(model.as_mut(), &full_batch, parts, &step)?;
                engine.same_step(number, &found, &truth.train_step(&full_batch, &step)?)?;
            }
            for (name, truth) in truth.parameters() {
                let found = model.parameters()?;
                compare::within(name, &found[name].values, &truth.values, |_| 1e-4)?;
            }
            Ok(())
        })
    };
    [
        (&[4, 4][..], None, &[][..], false),
        (&[3, 1, 4, 2], None, &[], false),
        (&[4, 3], Some(0.1), &[], false),
        (&[1, 1, 1], Some(100.0), &[], false),
        (&[4, 1, 3], Some(0.1), &[0, 4], false),
        (&[4, 1, 3], None, &[0, 4], true),
    ]
    .map(case)
    .into()
}

/// Does a step on micro-batches of these sizes.
fn step_on(
    model: &mut dyn Model,
    batch: &Batch,
    sizes: &[usize],
    step: &Step,
) -> Result<StepReport> {
    let (mut first, mut loss, mut sum) = (0, 0.0, Gradients::new());
    for size in sizes {
        let micro_batch = step.micro_batch.map(|whole| MicroBatch { first, ..whole });
        let part = batch.slice(first..first + size);
        let (report, gradients) = model.gradients(&part, &Step { micro_batch, ..*step })?;
        loss += report.loss;
        for (name, gradient) in gradients {
            let sum = sum.entry(name).or_insert_with(|| Array::filled(&gradient.shape, 0.0));
            sum.values.iter_mut().zip(gradient.values).for_each(|(sum, g)| *sum += g);
        }
        first += size;
    }
    Ok(StepReport { loss, gradient_norm: model.update(&sum, step)? })
}
