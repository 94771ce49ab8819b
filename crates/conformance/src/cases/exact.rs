//! Single operations on integers. Every product and partial sum is an integer below 2²⁴, so f32
//! sums are exact in any order, and an engine must compute the exact bits, forward and backward.
//! Winograd convolutions divide by 3 and are not exact. If an engine says so
//! ([`alexnet_core::Backend::exact_convolutions`]), its convolutions only have to satisfy the error
//! bound for real numbers.

use alexnet_core::{Logits, Node, Op, alexnet::Variant, topology::Role};
use rand::RngExt;

use super::real;
use crate::{
    case::{Case, Engine, Outcome},
    compare,
    experiment::{Experiment, Place, Results, build_topology},
    fixtures, naming,
    reference::Tensor,
};

/// Returns cases of every kind of operation with many shapes.
pub fn cases() -> Vec<Case> {
    [convolutions(), poolings(), linear_layers(), other_operations(), chains()]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns a case for every distinct layer of the variants at full size, with two images.
pub fn full_size_cases() -> Vec<Case> {
    let mut layers: Vec<(Op, Vec<usize>)> = Vec::new();
    for variant in Variant::ALL {
        let topology = variant.topology(5);
        let shapes = topology.shapes().unwrap_or_default();
        let inputs = std::iter::once(topology.input.to_vec()).chain(shapes);
        for (node, input) in topology.nodes.iter().zip(inputs) {
            let layer = (node.op.clone(), input);
            let exact = matches!(
                node.op,
                Op::Conv2d { .. } | Op::Relu | Op::MaxPool2d { .. } | Op::Linear { .. }
            );
            if exact && !layers.contains(&layer) {
                layers.push(layer);
            }
        }
    }
    let large = Limits { weight: 1, cotangent: 1 };
    let mut cases = Vec::new();
    for (op, input) in layers {
        let (channels, size) = match *input {
            [channels, height, width] => (channels, [height, width]),
            _ => (input[0], [1, 1]),
        };
        if channels == 3 {
            cases.push(case(Place::First, size, 2, std::slice::from_ref(&op), large));
        }
        cases.push(case(Place::Behind(channels), size, 2, &[op], large));
    }
    cases
}

/// The limits of the absolute values of weights and of elements of the cotangent. The outputs of
/// the probe are in -4..=4.
#[derive(Clone, Copy)]
struct Limits {
    weight: i32,
    cotangent: i32,
}

const SMALL: Limits = Limits { weight: 4, cotangent: 4 };

fn case(place: Place, size: [usize; 2], batch: usize, ops: &[Op], limits: Limits) -> Case {
    let topology = build_topology(place, size, ops);
    let name = naming::operations("exact", ops, place, size, batch);
    let key = format!("exact: {ops:?}, {place:?}, {batch}×{size:?}");
    Case::new(name, move |engine| {
        let mut rng = fixtures::rng(&key);
        let classes = topology.classes()?;
        let state = fixtures::state(&topology, |parameter| {
            // The weights of the probe are -1, 0 or 1.
            let probe = place != Place::First && parameter.node == 0;
            let limit = if probe || parameter.role == Role::Bias { 1 } else { limits.weight };
            fixtures::integers(&mut rng, parameter.elements(), limit)
        });
        let images = fixtures::integer_images(&mut rng, batch, size);
        let cotangent = Logits {
            values: fixtures::integers(&mut rng, batch * classes, limits.cotangent),
            classes,
        };
        check(&Experiment { topology: topology.clone(), state, images, cotangent }, engine)
    })
}

fn check(experiment: &Experiment, engine: &Engine) -> Outcome {
    let results = experiment.run(engine)?;
    let largest = largest_partial_sum(experiment, &results);
    if largest >= 16_777_216.0 {
        return Err(format!("the case is not valid: a partial sum may reach {largest}").into());
    }
    let identical =
        compare::identical("logits", &results.logits.values, &results.trace.logits().values)
            .and_then(|()| {
                compare::gradients(
                    &results.gradients,
                    &results.derivative.parameters,
                    compare::identical,
                )
            });
    if identical.is_err() && !engine.backend.exact_convolutions() && convolves_last(experiment) {
        return real::check_bound(engine, experiment, &results);
    }
    identical
}

/// Whether the tested operation is a single convolution.
fn convolves_last(experiment: &Experiment) -> bool {
    matches!(
        experiment.topology.nodes.as_slice(),
        [.., Node { op: Op::Conv2d { .. }, .. }, Node { op: Op::Flatten, .. }]
    )
}

/// Returns an upper bound of all partial sums of all convolutions and linear layers, forward and
/// backward, in any order.
fn largest_partial_sum(experiment: &Experiment, results: &Results) -> f64 {
    let mut largest = 0.0f64;
    for (index, node) in experiment.topology.nodes.iter().enumerate() {
        let groups = match node.op {
            Op::Conv2d { groups, .. } => groups,
            Op::Linear { .. } => 1,
            _ => continue,
        };
        let weight = &results.network.parameters()[&format!("{}.weight", node.name)];
        let bias = &results.network.parameters()[&format!("{}.bias", node.name)];
        let x = results.trace.input_of(index);
        let dy = experiment.output_gradient(&results.derivative, index);
        let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
        let window: usize = weight.shape[2..].iter().product();
        let mut into = vec![0.0; outputs];
        let mut out_of = vec![0.0; inputs * groups];
        for (i, w) in weight.values.iter().enumerate() {
            let (o, input) = (i / (inputs * window), i / window % inputs);
            into[o] += w.abs();
            out_of[o / (outputs / groups) * inputs + input] += w.abs();
        }
        let plane: usize = dy.shape[2..].iter().product();
        let mut reaching = vec![0.0; outputs];
        for (i, dy) in dy.values.iter().enumerate() {
            reaching[i / plane % outputs] += dy.abs();
        }
        let max_abs = |values: &[f64]| values.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        let largest_of = |tensor: &Tensor| max_abs(&tensor.values);
        largest = largest
            .max(max_abs(&into) * largest_of(x) + largest_of(bias))
            .max(max_abs(&out_of) * largest_of(&dy))
            .max(max_abs(&reaching) * largest_of(x).max(1.0));
    }
    largest
}

const BATCHES: [usize; 5] = [1, 2, 3, 5, 7];

fn convolutions() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut rng = fixtures::rng("shapes of convolutions");
    for kernel in [1usize, 2, 3, 5, 7, 11] {
        for stride in 1..=4 {
            for padding in 0..=3 {
                for groups in 1..=3 {
                    let inputs = groups * rng.random_range(1..=4);
                    let outputs = groups * rng.random_range(1..=5);
                    let mut extent =
                        || kernel.saturating_sub(2 * padding).max(1) + rng.random_range(0..=9);
                    let size = [extent(), extent()];
                    let batch = BATCHES[cases.len() % BATCHES.len()];
                    let conv = Op::Conv2d { inputs, outputs, kernel, stride, padding, groups };
                    cases.push(case(Place::Behind(inputs), size, batch, &[conv], SMALL));
                    // Two groups do not divide the three channels of an image.
                    if groups != 2 {
                        let conv = Op::Conv2d {
                            inputs: 3,
                            outputs: 3 * groups,
                            kernel,
                            stride,
                            padding,
                            groups,
                        };
                        cases.push(case(Place::First, size, batch, &[conv], SMALL));
                    }
                }
            }
        }
    }
    // Wide enough for full and partial blocks in the blocking of any engine.
    for (inputs, outputs, size, groups) in
        [(67, 131, [9, 14], 1), (96, 64, [13, 13], 2), (33, 99, [6, 35], 3)]
    {
        let conv = Op::Conv2d { inputs, outputs, kernel: 3, stride: 1, padding: 1, groups };
        cases.push(case(Place::Behind(inputs), size, 3, &[conv], SMALL));
    }
    cases
}

fn poolings() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kernel, stride) in [(2, 2), (3, 2), (3, 1), (2, 3), (1, 1), (5, 3)] {
        let pool = Op::MaxPool2d { kernel, stride };
        for (i, size) in
            [[5, 5], [6, 9], [13, 13], [14, 11], [55, 27], [8, 33]].into_iter().enumerate()
        {
            let batch = BATCHES[i % BATCHES.len()];
            cases.push(case(Place::Behind(4 + i), size, batch, std::slice::from_ref(&pool), SMALL));
        }
        cases.push(case(Place::First, [12, 15], 2, std::slice::from_ref(&pool), SMALL));
    }
    cases
}

fn linear_layers() -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes = [(1, 1), (3, 5), (17, 4), (64, 33), (255, 7), (513, 129), (31, 1000)];
    for (i, (inputs, outputs)) in shapes.into_iter().enumerate() {
        for batch in [BATCHES[i % 5], BATCHES[(i + 2) % 5]] {
            let linear = Op::Linear { inputs, outputs };
            cases.push(case(Place::Behind(inputs), [1, 1], batch, &[linear], SMALL));
        }
    }
    // With images as input, to test the order of flattening.
    cases.push(case(Place::Behind(5), [4, 3], 3, &[Op::Linear { inputs: 60, outputs: 11 }], SMALL));
    cases.push(case(Place::First, [5, 7], 2, &[Op::Linear { inputs: 105, outputs: 9 }], SMALL));
    cases
}

fn other_operations() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, batch) in BATCHES.into_iter().enumerate() {
        let size = [3 + 2 * i, 11 - i];
        cases.push(case(Place::Behind(3 + i), size, batch, &[Op::Relu], SMALL));
        cases.push(case(Place::Behind(2 + i), size, batch, &[Op::Flatten], SMALL));
        // Dropout does nothing in evaluation mode.
        cases.push(case(Place::Behind(4 + i), size, batch, &[Op::Dropout { p: 0.5 }], SMALL));
    }
    cases.push(case(Place::First, [6, 5], 3, &[Op::Relu], SMALL));
    cases.push(case(Place::First, [6, 5], 3, &[Op::Flatten], SMALL));
    cases
}

/// Returns cases of chains of operations that an engine may fuse.
fn chains() -> Vec<Case> {
    let conv = |inputs, outputs, kernel, stride, padding, groups| Op::Conv2d {
        inputs,
        outputs,
        kernel,
        stride,
        padding,
        groups,
    };
    let pool = |kernel, stride| Op::MaxPool2d { kernel, stride };
    let linear = |inputs, outputs| Op::Linear { inputs, outputs };
    let limits = Limits { weight: 1, cotangent: 2 };
    vec![
        case(Place::First, [23, 19], 3, &[conv(3, 8, 5, 2, 2, 1), Op::Relu, pool(3, 2)], limits),
        case(
            Place::First,
            [11, 14],
            2,
            &[conv(3, 6, 3, 1, 1, 1), Op::Relu, conv(6, 4, 3, 1, 1, 2)],
            limits,
        ),
        case(
            Place::Behind(6),
            [9, 12],
            5,
            &[Op::Relu, conv(6, 9, 3, 2, 1, 3), Op::Relu, pool(2, 2)],
            limits,
        ),
        case(Place::Behind(4), [10, 9], 2, &[pool(3, 2), Op::Relu, conv(4, 8, 2, 1, 0, 2)], limits),
        case(Place::Behind(4), [8, 7], 3, &[pool(3, 1), pool(2, 2), Op::Relu], limits),
        case(
            Place::Behind(7),
            [3, 2],
            3,
            &[linear(42, 20), Op::Relu, linear(20, 6), Op::Relu],
            limits,
        ),
        case(
            Place::Behind(4),
            [5, 4],
            2,
            &[Op::Flatten, Op::Relu, linear(80, 10), Op::Relu, linear(10, 5)],
            limits,
        ),
    ]
}
