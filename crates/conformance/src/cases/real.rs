//! Single operations on real numbers.
//!
//! Convolution and linear layers: `|error| ≤ 4·√K·2⁻²⁴·Σ|aᵢbᵢ|` for each element, where K is the
//! number of products in its sum. This is the bound of direct methods, for any order of summation.
//! The probe's outputs are multiples of 1/64 and therefore exact, and the cotangent is given, so
//! the bound holds for the output and for the gradients of the operation's parameters. The probe's
//! gradients are `Σ dx·x` over P positions of the input gradient, which has an error of up to
//! `4·√K·2⁻²⁴·Σ|w·dy|`. Their bound is therefore `4·(√K + √P)·2⁻²⁴·Σ(Σ|w·dy|)·|x|`.
//!
//! Normalization, softmax and loss: rtol 1.3e-6, atol 1e-5. For a single image of one pixel, the
//! gradient of the probe's bias is the input gradient, so the gradient of the normalization is
//! tested element by element. For several pixels, the relative L2 distance of the probe's gradients
//! must be at most 1e-5.

use alexnet_core::{Batch, Mode, Op, Optimizer, Step, Topology, alexnet::Variant, topology::Role};
use rand::RngExt;

use crate::{
    case::{Case, Engine, Outcome},
    compare,
    experiment::{Experiment, Place, Results, build_topology},
    fixtures, naming,
    reference::{self, NodeView, Tensor},
};

/// Returns the cases with small shapes, and all cases of normalization, dropout and loss.
pub fn cases() -> Vec<Case> {
    [products(), normalizations(), dropouts(), losses()].into_iter().flatten().collect()
}

/// Returns cases of the tutorial's convolutions and linear layers, and of the original's grouped
/// convolutions and normalization, at full size with two images.
pub fn full_size_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for variant in [Variant::Tutorial, Variant::Original] {
        let topology = variant.topology(5);
        let shapes = topology.shapes().unwrap_or_default();
        for (node, shape) in topology.nodes.iter().skip(1).zip(shapes) {
            let grouped = matches!(node.op, Op::Conv2d { groups: 2, .. });
            let product = matches!(node.op, Op::Conv2d { .. } | Op::Linear { .. });
            if grouped || (variant == Variant::Tutorial && product) {
                let size = if let [_, height, width] = *shape { [height, width] } else { [1, 1] };
                cases.push(product_case(Place::Behind(shape[0]), size, 2, &node.op));
            }
        }
        if variant == Variant::Original {
            let lrn = Op::LocalResponseNorm { size: 5, alpha: 1e-4, beta: 0.75, k: 2.0 };
            for (channels, extent) in [(96, 55), (96, 27), (256, 27), (256, 13)] {
                cases.push(normalization_case(channels, [extent, extent], 2, &lrn));
            }
        }
    }
    cases
}

fn conv(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    groups: usize,
) -> Op {
    Op::Conv2d { inputs, outputs, kernel, stride, padding, groups }
}

fn products() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, (op, size)) in [
        (conv(16, 24, 3, 1, 1, 1), [13, 13]),
        (conv(24, 16, 5, 1, 2, 2), [9, 14]),
        (conv(6, 12, 7, 2, 3, 3), [17, 12]),
        (conv(5, 7, 1, 1, 0, 1), [6, 8]),
        (conv(4, 6, 2, 3, 1, 2), [11, 7]),
        (conv(96, 20, 3, 1, 1, 2), [6, 5]),
    ]
    .into_iter()
    .enumerate()
    {
        let Op::Conv2d { inputs, .. } = op else { continue };
        cases.push(product_case(Place::Behind(inputs), size, 1 + i % 3, &op));
    }
    cases.push(product_case(Place::First, [47, 39], 2, &conv(3, 16, 11, 4, 2, 1)));
    cases.push(product_case(Place::First, [12, 15], 3, &conv(3, 6, 3, 1, 0, 3)));
    for (inputs, outputs, batch) in [(64, 10, 1), (300, 47, 3), (1000, 33, 7)] {
        cases.push(product_case(
            Place::Behind(inputs),
            [1, 1],
            batch,
            &Op::Linear { inputs, outputs },
        ));
    }
    cases
}

/// Returns an experiment with real numbers.
fn experiment(
    key: &str,
    place: Place,
    size: [usize; 2],
    batch: usize,
    op: &Op,
) -> Outcome<Experiment> {
    let mut rng = fixtures::rng(key);
    let topology = build_topology(place, size, std::slice::from_ref(op));
    let state = fixtures::state(&topology, |parameter| {
        let probe = place != Place::First && parameter.node == 0;
        match (probe, parameter.role) {
            (true, _) => {
                let sixty_fourths = fixtures::integers(&mut rng, parameter.elements(), 64);
                sixty_fourths.into_iter().map(|v| v / 64.0).collect()
            }
            (false, Role::Weight) => {
                let fan_in: usize = parameter.shape[1..].iter().product();
                fixtures::reals(&mut rng, parameter.elements(), (3.0 / fan_in as f32).sqrt())
            }
            (false, Role::Bias) => fixtures::reals(&mut rng, parameter.elements(), 0.5),
        }
    });
    let images = match place {
        Place::First => fixtures::images(&mut rng, batch, size),
        Place::Behind(_) => fixtures::integer_images(&mut rng, batch, size),
    };
    let cotangent = fixtures::cotangent(&mut rng, batch, topology.classes()?);
    Ok(Experiment { topology, state, images, cotangent })
}

fn product_case(place: Place, size: [usize; 2], batch: usize, op: &Op) -> Case {
    let name = naming::operations("error_bound", std::slice::from_ref(op), place, size, batch);
    let key = format!("error bound: {op:?}, {place:?}, {batch}×{size:?}");
    let op = op.clone();
    Case::new(name, move |engine| {
        let experiment = experiment(&key, place, size, batch, &op)?;
        let results = experiment.run(engine)?;
        check_bound(engine, &experiment, &results)
    })
}

/// Returns `4·√K·2⁻²⁴`.
fn bound(k: usize) -> f64 {
    4.0 * (k as f64).sqrt() * 2f64.powi(-24)
}

/// Checks the error bound for the last convolution or linear layer of an experiment.
pub fn check_bound(engine: &Engine, experiment: &Experiment, results: &Results) -> Outcome {
    let is_product = |op: &Op| matches!(op, Op::Conv2d { .. } | Op::Linear { .. });
    let index =
        experiment.topology.nodes.iter().rposition(|node| is_product(&node.op)).unwrap_or_default();
    let node = &experiment.topology.nodes[index];
    let parameters = results.network.parameters();
    let weight = parameters[&format!("{}.weight", node.name)].map(f64::abs);
    let bias = parameters[&format!("{}.bias", node.name)].map(f64::abs);
    let view = NodeView {
        op: &node.op,
        index,
        mode: Mode::Differentiate,
        parameters: Some((&weight, &bias)),
        rounds: false,
    };
    let x = results.trace.input_of(index).map(f64::abs);
    let dy = experiment.output_gradient(&results.derivative, index).map(f64::abs);
    // The same sums with the absolute values of all products.
    let y = reference::forward(&view, &x);
    let (dx, [dw, db]) = match reference::backward(&view, &x, &dy) {
        (dx, Some(gradients)) => (dx, gradients),
        _ => return Err("a product has parameters".into()),
    };

    let transformed = match node.op {
        Op::Conv2d { .. } => engine.products.transform_bound(),
        _ => 0.0,
    };
    // Numbers with different errors are rounded to bf16 once more, in the engine and in the reference.
    let transformed_dx = 2.0 * transformed;

    let per_output: usize = weight.shape[1..].iter().product();
    let positions = experiment.images.len() * dy.shape[2..].iter().product::<usize>();
    let truth = results.trace.logits();
    compare::within("logits", &results.logits.values, &truth.values, |i| {
        (bound(per_output + 1) + transformed) * y.values[i]
    })?;
    let mut limits = vec![
        (format!("{}.weight", node.name), bound(positions) + transformed, dw),
        (format!("{}.bias", node.name), bound(positions), db),
    ];
    if index > 0 {
        let probe = &experiment.topology.nodes[0];
        let (weight, bias) = (
            &parameters[&format!("{}.weight", probe.name)],
            &parameters[&format!("{}.bias", probe.name)],
        );
        let view = NodeView {
            op: &probe.op,
            index: 0,
            mode: Mode::Differentiate,
            parameters: Some((weight, bias)),
            rounds: false,
        };
        let mut shape = vec![experiment.images.len(), weight.shape[0]];
        shape.extend(&results.trace.input.shape[2..]);
        let dx = Tensor { shape, values: dx.values };
        let (_, gradients) = reference::backward(&view, &results.trace.input.map(f64::abs), &dx);
        let per_input = weight_uses(&node.op);
        let pixels = results.trace.input.values.len() / 3;
        for (gradient, role) in gradients.into_iter().flatten().zip(["weight", "bias"]) {
            limits.push((
                format!("{}.{role}", probe.name),
                bound(per_input) + bound(pixels) + transformed_dx,
                gradient,
            ));
        }
    }
    compare::gradients(&results.gradients, &results.derivative.parameters, |name, found, truth| {
        let limit = limits.iter().find(|(parameter, ..)| name.ends_with(parameter.as_str()));
        let (_, factor, magnitude) = limit.ok_or("a gradient of an unknown parameter")?;
        compare::within(name, found, truth, |i| factor * magnitude.values[i])
    })
}

/// Returns the maximum number of outputs that an input contributes to.
fn weight_uses(op: &Op) -> usize {
    match *op {
        Op::Conv2d { outputs, kernel, groups, .. } => outputs / groups * kernel * kernel,
        Op::Linear { outputs, .. } => outputs,
        _ => 1,
    }
}

fn normalizations() -> Vec<Case> {
    let lrn = |size, alpha, beta, k| Op::LocalResponseNorm { size, alpha, beta, k };
    let mut cases = Vec::new();
    for op in [
        lrn(5, 1e-4, 0.75, 2.0),
        lrn(5, 0.2, 0.75, 2.0),
        lrn(3, 0.5, 0.5, 1.0),
        lrn(4, 0.3, 0.75, 1.0),
        lrn(1, 0.5, 1.0, 1.0),
        lrn(2, 0.7, 0.6, 1.5),
        lrn(7, 0.1, 1.3, 1.0),
    ] {
        for (channels, size, batch) in
            [(12, [1, 1], 1), (3, [1, 1], 1), (1, [1, 1], 1), (10, [6, 7], 3)]
        {
            cases.push(normalization_case(channels, size, batch, &op));
        }
    }
    cases
}

fn normalization_case(channels: usize, size: [usize; 2], batch: usize, op: &Op) -> Case {
    let place = Place::Behind(channels);
    let name = naming::operations("tolerance", std::slice::from_ref(op), place, size, batch);
    let key = format!("normalisation: {op:?}, {channels} channels, {batch}×{size:?}");
    let op = op.clone();
    Case::new(name, move |engine| {
        let experiment = experiment(&key, place, size, batch, &op)?;
        let results = experiment.run(engine)?;
        compare::close("logits", &results.logits.values, &results.trace.logits().values)?;
        let single = batch * size[0] * size[1] == 1;
        compare::gradients(
            &results.gradients,
            &results.derivative.parameters,
            |name, found, truth| {
                if single {
                    compare::close(name, found, truth)
                } else {
                    compare::aligned(name, found, truth, engine.of_gradients(1e-5))
                }
            },
        )
    })
}

/// Returns cases of dropout with several probabilities, steps, seeds and nodes. All gradients
/// depend on the masks.
fn dropouts() -> Vec<Case> {
    let mut cases = Vec::new();
    for (p, number, seed) in
        [(0.5, 1, 0), (0.5, 2, 0), (0.5, 1, 1), (0.25, 7, 3), (0.9, 1000, 42), (0.0, 1, 0)]
    {
        let ops = [
            conv(3, 4, 3, 2, 1, 1),
            Op::Dropout { p },
            Op::Flatten,
            Op::Dropout { p },
            Op::Linear { inputs: 80, outputs: 6 },
        ];
        let name = format!("dropout::training::p{p}_step{number}_seed{seed}");
        let key = format!("dropout: p {p}, step {number}, seed {seed}");
        let step = Step { micro_batch: None, number, seed, lr: 0.1, clip_grad_norm: None };
        cases.push(Case::new(name, move |engine| {
            let topology = fixtures::topology([3, 9, 7], &ops);
            let mut rng = fixtures::rng(&key);
            let state = fixtures::balanced_state(&mut rng, &topology);
            let batch = fixtures::batch(&mut rng, 4, &topology);
            let (found, found_gradients) = engine
                .compile(&topology, &state, Optimizer::default())?
                .gradients(&batch, &step)?;
            let network = engine.reference(&topology, &state, Optimizer::default())?;
            let (report, gradients) = network.gradients(&batch, &step)?;
            compare::relative("loss", found.loss, report.loss, 1e-5)?;
            compare::gradients(&found_gradients, &gradients, |name, found, truth| {
                compare::aligned(name, found, truth, 1e-5)
            })
        }));
    }
    cases
}

/// Returns cases of softmax cross-entropy. Integer logits are exact, and for one image the gradient
/// of the bias is that of the loss.
fn losses() -> Vec<Case> {
    let mut cases = Vec::new();
    for (batch, classes, limit) in
        [(1, 5, 1), (1, 10, 4), (1, 3, 1000), (4, 5, 2), (7, 10, 300), (3, 2, 30), (2, 1, 1)]
    {
        let name = format!("loss::{batch}_images_{classes}_classes_weights_to_{limit}");
        let key = format!("loss: {batch} pictures, {classes} classes, weights to {limit}");
        cases.push(Case::new(name, move |engine| {
            let mut rng = fixtures::rng(&key);
            let topology = build_topology(
                Place::First,
                [2, 2],
                &[Op::Linear { inputs: 12, outputs: classes }],
            );
            let state = fixtures::state(&topology, |parameter| {
                fixtures::integers(&mut rng, parameter.elements(), limit)
            });
            let images = fixtures::integer_images(&mut rng, batch, [2, 2]);
            let targets = soft_targets(&mut rng, batch, classes);
            check_loss(engine, &topology, &state, &Batch { images, targets })
        }));
    }
    cases.push(Case::new("loss::ordinary_images", |engine| {
        let mut rng = fixtures::rng("loss: ordinary pictures");
        let topology =
            build_topology(Place::First, [9, 7], &[Op::Linear { inputs: 189, outputs: 5 }]);
        let state = fixtures::balanced_state(&mut rng, &topology);
        let batch = fixtures::batch(&mut rng, 6, &topology);
        check_loss(engine, &topology, &state, &batch)
    }));
    cases
}

fn soft_targets(rng: &mut impl rand::Rng, batch: usize, classes: usize) -> Vec<f32> {
    let mut targets = Vec::new();
    for _ in 0..batch {
        let row: Vec<f32> = (0..classes).map(|_| rng.random_range(0.0..1.0f32)).collect();
        let sum: f32 = row.iter().sum();
        targets.extend(row.into_iter().map(|t| t / sum));
    }
    targets
}

fn check_loss(
    engine: &Engine,
    topology: &Topology,
    state: &alexnet_core::State,
    batch: &Batch,
) -> Outcome {
    let step = Step { micro_batch: None, number: 1, seed: 0, lr: 0.1, clip_grad_norm: None };
    let (found, found_gradients) =
        engine.compile(topology, state, Optimizer::default())?.gradients(batch, &step)?;
    let (report, gradients) =
        engine.reference(topology, state, Optimizer::default())?.gradients(batch, &step)?;
    if (found.loss - report.loss).abs() > 1e-5 + 1.3e-6 * report.loss.abs() {
        return Err(format!("the loss is {} instead of {}", found.loss, report.loss).into());
    }
    compare::gradients(&found_gradients, &gradients, compare::close)
}
