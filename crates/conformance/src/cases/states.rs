//! Loading and saving of states is lossless, and an interrupted run gives the same bits as an
//! uninterrupted one.

use alexnet_core::{Array, Batch, Model, Optimizer, State, Step, optimizer::Adam};

use crate::{
    case::{Case, Outcome},
    fixtures,
    naming::slug,
};

/// Returns the cases for each kind of optimizer.
pub fn cases() -> Vec<Case> {
    let adam = Adam::default();
    [
        ("Adam", Optimizer::Adam { adam, weight_decay: 0.0 }),
        ("AdamW", Optimizer::AdamW { adam, weight_decay: 0.01 }),
        ("SGD", Optimizer::Sgd { momentum: 0.9, weight_decay: 5e-4 }),
        ("SGD of the paper", Optimizer::SgdPaper { momentum: 0.9, weight_decay: 5e-4 }),
    ]
    .into_iter()
    .flat_map(|(name, optimizer)| {
        [
            Case::new(format!("state::{}::out_as_in", slug(name)), move |engine| {
                let (state, _) = start();
                let moments = moments(&state, optimizer);
                for state in [state.clone(), State { moments, ..state }] {
                    let model = engine.compile(&fixtures::miniature(), &state, optimizer)?;
                    same_state("after compile", &model.state()?, &state)?;
                }
                Ok(())
            }),
            Case::new(format!("state::{}::moments_after_a_step", slug(name)), move |engine| {
                let (state, batches) = start();
                let mut model = engine.compile(&fixtures::miniature(), &state, optimizer)?;
                train(model.as_mut(), &batches, 1..=1)?;
                let after = model.state()?;
                after.check(&fixtures::miniature())?;
                let expected = moments(&state, optimizer);
                if !after.moments.keys().eq(expected.keys()) {
                    return Err(format!(
                        "moments {:?}, not {:?}",
                        after.moments.keys(),
                        expected.keys()
                    )
                    .into());
                }
                let unchanged =
                    |(name, array): &(&String, &Array)| state.parameters[*name] == **array;
                match after.parameters.iter().find(unchanged) {
                    Some((name, _)) => Err(format!("{name} has not changed").into()),
                    None => Ok(()),
                }
            }),
            Case::new(format!("state::{}::interrupted_and_resumed", slug(name)), move |engine| {
                let (state, batches) = start();
                let mut uninterrupted =
                    engine.compile(&fixtures::miniature(), &state, optimizer)?;
                let losses = train(uninterrupted.as_mut(), &batches, 1..=6)?;

                let mut first = engine.compile(&fixtures::miniature(), &state, optimizer)?;
                let mut resumed_losses = train(first.as_mut(), &batches, 1..=3)?;
                let between = first.state()?;
                drop(first);
                let mut second = engine.compile(&fixtures::miniature(), &between, optimizer)?;
                resumed_losses.extend(train(second.as_mut(), &batches, 4..=6)?);
                if losses != resumed_losses {
                    return Err(
                        format!("losses {resumed_losses:?}, uninterrupted {losses:?}").into()
                    );
                }
                same_state("after resuming", &second.state()?, &uninterrupted.state()?)
            }),
        ]
    })
    .collect()
}

/// Returns a state and three batches for the miniature network.
pub fn start() -> (State, Vec<Batch>) {
    let topology = fixtures::miniature();
    let mut rng = fixtures::rng("a miniature run");
    let state = fixtures::balanced_state(&mut rng, &topology);
    let batches = (0..3).map(|_| fixtures::batch(&mut rng, 4, &topology)).collect();
    (state, batches)
}

/// Returns valid moments: none is negative.
fn moments(state: &State, optimizer: Optimizer) -> std::collections::BTreeMap<String, Array> {
    let mut rng = fixtures::rng("moments");
    let mut all = std::collections::BTreeMap::new();
    for (name, array) in &state.parameters {
        for moment in optimizer.moments() {
            let values = fixtures::reals(&mut rng, array.values.len(), 0.1)
                .into_iter()
                .map(f32::abs)
                .collect();
            all.insert(format!("{name}.{moment}"), Array { shape: array.shape.clone(), values });
        }
    }
    all
}

/// Trains the steps `numbers` and returns their losses.
pub fn train(
    model: &mut dyn Model,
    batches: &[Batch],
    numbers: std::ops::RangeInclusive<u64>,
) -> Outcome<Vec<f64>> {
    let mut losses = Vec::new();
    for number in numbers {
        let step = Step { micro_batch: None, number, seed: 3, lr: 0.003, clip_grad_norm: None };
        losses.push(model.train_step(&batches[number as usize % batches.len()], &step)?.loss);
    }
    Ok(losses)
}

/// Checks that names, shapes and bits of parameters and moments are equal.
pub fn same_state(when: &str, found: &State, expected: &State) -> Outcome {
    for (kind, found, expected) in [
        ("parameters", &found.parameters, &expected.parameters),
        ("moments", &found.moments, &expected.moments),
    ] {
        if !found.keys().eq(expected.keys()) {
            return Err(format!(
                "{when}: {kind} {:?} instead of {:?}",
                found.keys(),
                expected.keys()
            )
            .into());
        }
        for (name, expected) in expected {
            if !same_bits(&found[name], expected) {
                return Err(format!("{when}: {name} differs").into());
            }
        }
    }
    Ok(())
}

/// Whether shapes and bits are equal.
pub fn same_bits(one: &Array, other: &Array) -> bool {
    let bits = |array: &Array| -> Vec<u32> { array.values.iter().map(|v| v.to_bits()).collect() };
    one.shape == other.shape && bits(one) == bits(other)
}
