//! Invalid input must be refused with the right kind of error and without a panic, and must not
//! change the model.

use std::collections::BTreeSet;

use alexnet_core::{
    Array, Batch, Device, Error, Images, Logits, Op, Optimizer, Options, State, Step, Topology,
};

use super::states::{start, train};
use crate::{
    case::{Case, Engine, Outcome},
    fixtures,
    naming::slug,
};

/// Returns the cases, which use the miniature network.
pub fn cases() -> Vec<Case> {
    [at_compile(), at_run()].into_iter().flatten().collect()
}

fn at_compile() -> Vec<Case> {
    let state_case = |name: &str, modify: fn(&mut State)| {
        Case::new(format!("invalid_input::{}", slug(name)), move |engine| {
            let (mut state, _) = start();
            modify(&mut state);
            refused(engine, &fixtures::miniature(), &state, |error| {
                matches!(error, Error::Parameters { .. })
            })
        })
    };
    let topology_case = |name: &str, ops: &[Op]| {
        let topology = fixtures::topology([3, 8, 8], ops);
        Case::new(format!("invalid_input::{}", slug(name)), move |engine| {
            let state = State::default();
            refused(engine, &topology, &state, |error| matches!(error, Error::Topology { .. }))
        })
    };
    let freezing_case =
        |name: &str, frozen: fn(&Topology) -> alexnet_core::Result<BTreeSet<String>>| {
            Case::new(format!("invalid_input::{}", slug(name)), move |engine| {
                let (topology, (state, _)) = (fixtures::miniature(), start());
                let frozen = frozen(&topology)?;
                let outcome =
                    engine.compile_frozen(&topology, &state, Optimizer::default(), &frozen);
                expect(outcome, |error| matches!(error, Error::Invalid { field: "frozen", .. }))
            })
        };
    vec![
        state_case("a parameter is missing", |state| drop(state.parameters.remove("layer.8.bias"))),
        state_case("an unknown parameter", |state| {
            state.parameters.insert("layer.99.bias".into(), Array::filled(&[4], 0.0));
        }),
        state_case("a parameter of another shape", |state| {
            state.parameters.insert("layer.0.weight".into(), Array::filled(&[8, 3, 3], 0.0));
        }),
        state_case("a transposed parameter", |state| {
            state.parameters.insert("layer.8.weight".into(), Array::filled(&[96, 16], 0.0));
        }),
        state_case("a moment of another shape", |state| {
            state.moments.insert("layer.0.bias.exp_avg".into(), Array::filled(&[9], 0.0));
        }),
        topology_case(
            "a convolution of other channels",
            &[
                Op::Conv2d { inputs: 4, outputs: 2, kernel: 3, stride: 1, padding: 0, groups: 1 },
                Op::Flatten,
            ],
        ),
        topology_case(
            "groups that do not divide",
            &[
                Op::Conv2d { inputs: 3, outputs: 4, kernel: 3, stride: 1, padding: 0, groups: 2 },
                Op::Flatten,
            ],
        ),
        topology_case(
            "a window larger than the image",
            &[Op::MaxPool2d { kernel: 9, stride: 1 }, Op::Flatten],
        ),
        topology_case("a network that does not end in features", &[Op::Relu]),
        topology_case("a network of nothing", &[]),
        freezing_case("everything is frozen", |topology| {
            Ok(topology.parameters()?.into_iter().map(|parameter| parameter.name).collect())
        }),
        freezing_case("an unknown parameter is frozen", |_| {
            Ok(BTreeSet::from(["layer.99.bias".into()]))
        }),
        Case::new("invalid_input::a_device_that_is_not_there", |engine| {
            let (state, _) = start();
            let options = Options { device: Device::Cuda(99), ..Options::default() };
            match engine.backend.compile(&fixtures::miniature(), state, &options) {
                Err(Error::Device { .. }) => Ok(()),
                Err(error) => Err(format!("refused with another kind of error: {error}").into()),
                Ok(_) => Err("accepted".into()),
            }
        }),
    ]
}

fn refused(
    engine: &Engine,
    topology: &Topology,
    state: &State,
    kind: fn(&Error) -> bool,
) -> Outcome {
    expect(engine.compile(topology, state, Optimizer::default()), kind)
}

fn expect<T>(outcome: alexnet_core::Result<T>, kind: fn(&Error) -> bool) -> Outcome {
    match outcome {
        Err(error) if kind(&error) => Ok(()),
        Err(error) => Err(format!("refused with another kind of error: {error}").into()),
        Ok(_) => Err("accepted".into()),
    }
}

fn at_run() -> Vec<Case> {
    let images_case = |name: &str, modify: fn(&mut Images)| {
        Case::new(format!("invalid_input::{}", slug(name)), move |engine| {
            let (state, batches) = start();
            let mut batch = batches[0].clone();
            modify(&mut batch.images);
            still_works_after(
                engine,
                &state,
                &batches,
                &batch,
                &Logits { values: vec![0.0; 20], classes: 5 },
            )
        })
    };
    vec![
        images_case("images of another size", |images| {
            (images.height, images.width) = (images.width, images.height);
        }),
        images_case("images too small", |images| {
            images.height -= 1;
            images.pixels.truncate(images.pixels.len() / 19 * 18);
        }),
        images_case("no image", |images| images.pixels.clear()),
        images_case("half an image", |images| images.pixels.truncate(images.pixels.len() - 100)),
        Case::new("invalid_input::targets_of_another_length", |engine| {
            let (state, batches) = start();
            let mut batch = batches[0].clone();
            batch.targets.pop();
            let mut model = engine.compile(&fixtures::miniature(), &state, Optimizer::default())?;
            let before = model.logits(&batch.images)?;
            expect(model.train_step(&batch, &STEP), is_shape)?;
            expect(model.gradients(&batch, &STEP), is_shape)?;
            batch.targets.extend([0.0; 6]);
            expect(model.train_step(&batch, &STEP), is_shape)?;
            if model.state()? != state {
                return Err("the state has changed".into());
            }
            if model.logits(&batch.images)? == before {
                Ok(())
            } else {
                Err("the logits have changed".into())
            }
        }),
        Case::new(
            "invalid_input::gradients_to_update_with_that_are_missing_or_of_another_shape",
            |engine| {
                let (state, batches) = start();
                let mut model =
                    engine.compile(&fixtures::miniature(), &state, Optimizer::default())?;
                let (_, gradients) = model.gradients(&batches[0], &STEP)?;
                let mut missing = gradients.clone();
                missing.remove("layer.8.bias");
                expect(model.update(&missing, &STEP), is_shape)?;
                let mut reshaped = gradients;
                reshaped.insert("layer.8.weight".into(), Array::filled(&[96, 16], 0.0));
                expect(model.update(&reshaped, &STEP), is_shape)?;
                if model.state()? == state { Ok(()) } else { Err("the state has changed".into()) }
            },
        ),
        Case::new("invalid_input::a_cotangent_of_another_shape", |engine| {
            let (state, batches) = start();
            let mut model = engine.compile(&fixtures::miniature(), &state, Optimizer::default())?;
            let images = &batches[0].images;
            let before = model.logits(images)?;
            for (numbers, classes) in [(20, 4), (19, 5), (25, 5), (0, 5), (16, 4)] {
                expect(
                    model.vjp(images, &Logits { values: vec![1.0; numbers], classes }),
                    is_shape,
                )?;
            }
            if model.logits(images)? == before {
                Ok(())
            } else {
                Err("the logits have changed".into())
            }
        }),
    ]
}

const STEP: Step = Step { micro_batch: None, number: 1, seed: 3, lr: 0.003, clip_grad_norm: None };

fn is_shape(error: &Error) -> bool {
    matches!(error, Error::Shape { .. })
}

/// Passes `bad` to all functions that take images, between two steps of a run. The results of the
/// run must not change.
fn still_works_after(
    engine: &Engine,
    state: &State,
    batches: &[Batch],
    bad: &Batch,
    cotangent: &Logits,
) -> Outcome {
    let topology = fixtures::miniature();
    let mut undisturbed = engine.compile(&topology, state, Optimizer::default())?;
    let mut model = engine.compile(&topology, state, Optimizer::default())?;
    let mut losses = train(model.as_mut(), batches, 1..=1)?;
    expect(model.logits(&bad.images), is_shape)?;
    expect(model.train_step(bad, &STEP), is_shape)?;
    expect(model.gradients(bad, &STEP), is_shape)?;
    expect(model.vjp(&bad.images, cotangent), is_shape)?;
    losses.extend(train(model.as_mut(), batches, 2..=3)?);
    let expected = train(undisturbed.as_mut(), batches, 1..=3)?;
    if losses == expected {
        Ok(())
    } else {
        Err(format!("losses {losses:?} instead of {expected:?}").into())
    }
}
