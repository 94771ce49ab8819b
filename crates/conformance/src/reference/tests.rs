use std::collections::BTreeMap;

use alexnet_core::{
    Array, Batch, Images, Mode, Node, Normalization, Op, Optimizer, Parameters, State, Step,
    Topology, ema::Ema, optimizer::Adam,
};
use serde::Deserialize;

use super::{Network, Tensor, cross_entropy, norm, pooling};

/// Returns pseudorandom numbers. `tests/goldens/reference.py` has the same function.
fn pattern(count: usize, salt: u64, scale: f32) -> Vec<f32> {
    let value = |i: u64| ((i * 7919 + i * i * 31 + salt * 104_729) % 201) as f32 - 100.0;
    (0..count as u64).map(|i| value(i) * (scale / 128.0)).collect()
}

fn topology(input: [usize; 3], ops: &[Op]) -> Topology {
    let nodes = ops
        .iter()
        .enumerate()
        .map(|(i, op)| Node { name: i.to_string(), op: op.clone() })
        .collect();
    Topology { input, nodes }
}

fn patterned_state(topology: &Topology, scale: f32) -> State {
    let parameters = topology.parameters().unwrap().into_iter().enumerate().map(|(salt, p)| {
        let values = pattern(p.elements(), salt as u64, scale);
        (p.name, Array { shape: p.shape, values })
    });
    State { parameters: parameters.collect(), ..State::default() }
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

fn lrn(size: usize, alpha: f32, beta: f32, k: f32) -> Op {
    Op::LocalResponseNorm { size, alpha, beta, k }
}

#[derive(Deserialize)]
struct Golden {
    logits: Vec<f64>,
    loss: f64,
    input_gradient: Vec<f64>,
    gradients: BTreeMap<String, Vec<f64>>,
    gradient_norm: f64,
    adam: Run,
    adamw: Run,
    sgd: Run,
    sgd_clipped: Run,
    average: Vec<f64>,
}

#[derive(Deserialize)]
struct Run {
    losses: Vec<f64>,
    weight: Vec<f64>,
}

fn golden() -> (Golden, Topology, Batch) {
    let topology = topology(
        [3, 15, 12],
        &[
            Op::MaxPool2d { kernel: 2, stride: 1 },
            conv(3, 4, 3, 2, 1, 1),
            Op::Relu,
            lrn(5, 0.1, 0.75, 2.0),
            Op::MaxPool2d { kernel: 3, stride: 2 },
            conv(4, 6, 3, 1, 1, 2),
            Op::Relu,
            lrn(4, 0.3, 0.6, 1.0),
            Op::Flatten,
            Op::Linear { inputs: 36, outputs: 7 },
            Op::Relu,
            Op::Linear { inputs: 7, outputs: 5 },
        ],
    );
    let pixel = |i: usize| [0, 64, 128, 255][(i * 7 + i * i * 3 / 7) % 4];
    let images = Images {
        pixels: (0..2 * 15 * 12 * 3).map(pixel).collect(),
        height: 15,
        width: 12,
        normalization: Normalization::HALF,
    };
    let targets = vec![0.5, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.125, 0.875];
    let golden = serde_json::from_str(include_str!("../../tests/goldens/reference.json")).unwrap();
    (golden, topology, Batch { images, targets })
}

fn assert_close(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= 1e-11 + 1e-9 * expected.abs(),
            "{what}[{i}]: {found}, {expected}"
        );
    }
}

#[test]
fn the_network_equals_pytorch() {
    let (golden, topology, batch) = golden();
    let network =
        Network::new(&topology, &patterned_state(&topology, 0.5), Optimizer::default()).unwrap();
    let trace = network.forward(&batch.images, Mode::Differentiate).unwrap();
    assert_close("logits", &trace.logits().values, &golden.logits);
    let (loss, cotangent) = cross_entropy(trace.logits(), &batch.targets, None);
    assert_close("loss", &[loss], &[golden.loss]);
    let derivative = network.backward(&trace, cotangent, Mode::Differentiate);
    for (name, expected) in &golden.gradients {
        assert_close(name, &derivative.parameters[name].values, expected);
    }
    let first_image = &derivative.inputs[0].values[..golden.input_gradient.len()];
    assert_close("input gradient", first_image, &golden.input_gradient);
    assert_close("gradient norm", &[norm(&derivative.parameters)], &[golden.gradient_norm]);
}

#[test]
fn ten_steps_equal_pytorch() {
    let (golden, topology, batch) = golden();
    let adam = Adam::default();
    let sgd = Optimizer::Sgd { momentum: 0.9, weight_decay: 5e-4 };
    for (name, optimizer, lr, clip_grad_norm, run) in [
        ("adam", Optimizer::Adam { adam, weight_decay: 0.02 }, 0.01, None, golden.adam),
        ("adamw", Optimizer::AdamW { adam, weight_decay: 0.1 }, 0.01, None, golden.adamw),
        ("sgd", sgd, 0.1, None, golden.sgd),
        ("sgd, clipped", sgd, 0.1, Some(0.05), golden.sgd_clipped),
    ] {
        let mut network =
            Network::new(&topology, &patterned_state(&topology, 0.5), optimizer).unwrap();
        let losses: Vec<f64> = (1..=10)
            .map(|number| Step { micro_batch: None, number, seed: 0, lr, clip_grad_norm })
            .map(|step| network.train_step(&batch, &step).unwrap().loss)
            .collect();
        assert_close(name, &losses, &run.losses);
        assert_close(name, &network.parameters()["11.weight"].values, &run.weight);
    }
}

#[test]
fn the_moving_average_equals_pytorch() {
    let (golden, topology, batch) = golden();
    let optimizer = Optimizer::AdamW { adam: Adam::default(), weight_decay: 0.1 };
    let mut network = Network::new(&topology, &patterned_state(&topology, 0.5), optimizer).unwrap();
    let ema = Ema { decay: 0.7, steps: 3 };
    let mut average = Parameters::new();
    for number in 1..=10 {
        let step =
            Step { number, seed: 0, micro_batch: None, lr: 0.01, clip_grad_norm: Some(0.05) };
        network.train_step(&batch, &step).unwrap();
        if number % ema.steps == 0 {
            ema.update(&mut average, network.state().parameters);
        }
    }
    // The average is in f32.
    for (found, expected) in average["11.weight"].values.iter().zip(&golden.average) {
        assert!((f64::from(*found) - expected).abs() < 1e-7, "{found}, {expected}");
    }
}

/// Compares the gradients with central differences of `Σ cotangent · logits` for all parameters and
/// inputs.
fn check_gradients(input: [usize; 3], ops: &[Op]) {
    let topology = topology(input, ops);
    let state = patterned_state(&topology, 1.0);
    let mut network = Network::new(&topology, &state, Optimizer::default()).unwrap();
    let mode = Mode::Train { seed: 5, step: 2, micro_batch: None };
    let batch = 2;
    let [c, h, w] = input;
    // All numbers are different, so the finite differences do not cross a kink or a tie.
    let values = (0..batch * c * h * w).map(|i| ((i * 7919) % 1009) as f64 / 300.0 - 1.68);
    let x = Tensor { shape: vec![batch, c, h, w], values: values.collect() };
    let trace = network.forward_from(x.clone(), mode);
    let cotangent: Vec<f64> =
        pattern(trace.logits().values.len(), 9, 1.0).into_iter().map(f64::from).collect();
    let shape = trace.logits().shape.clone();
    let derivative = network.backward(&trace, Tensor { shape, values: cotangent.clone() }, mode);
    let objective = |network: &Network, x: &Tensor| -> f64 {
        let trace = network.forward_from(x.clone(), mode);
        trace.logits().values.iter().zip(&cotangent).map(|(y, c)| y * c).sum()
    };
    let eps = 1e-6;
    let check = |what: &str, i: usize, up: f64, down: f64, gradient: f64| {
        let slope = (up - down) / (2.0 * eps);
        let tolerance = 1e-5 + 1e-3 * gradient.abs();
        assert!(
            (slope - gradient).abs() < tolerance,
            "{ops:?} {what}[{i}]: {gradient}, slope {slope}"
        );
    };
    for i in 0..x.values.len() {
        let shifted = |by: f64| {
            let mut x = x.clone();
            x.values[i] += by;
            objective(&network, &x)
        };
        check("input", i, shifted(eps), shifted(-eps), derivative.inputs[0].values[i]);
    }
    for (name, gradient) in &derivative.parameters {
        for i in 0..gradient.values.len() {
            let mut shifted = |by: f64| {
                network.parameters.get_mut(name).unwrap().values[i] += by;
                let value = objective(&network, &x);
                network.parameters.get_mut(name).unwrap().values[i] -= by;
                value
            };
            check(name, i, shifted(eps), shifted(-eps), gradient.values[i]);
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for (input, op) in [
        ([4, 7, 6], conv(4, 6, 3, 1, 1, 1)),
        ([4, 7, 6], conv(4, 6, 3, 2, 2, 2)),
        ([3, 9, 8], conv(3, 3, 5, 4, 3, 3)),
        ([2, 4, 5], conv(2, 3, 1, 3, 3, 1)),
        ([3, 5, 4], Op::Relu),
        ([2, 7, 8], Op::MaxPool2d { kernel: 3, stride: 2 }),
        ([2, 6, 5], Op::MaxPool2d { kernel: 2, stride: 3 }),
        ([7, 2, 3], lrn(5, 0.3, 0.75, 2.0)),
        ([7, 2, 3], lrn(4, 0.5, 0.5, 1.0)),
        ([3, 2, 2], lrn(9, 0.1, 1.5, 1.0)),
        ([3, 4, 5], Op::Dropout { p: 0.25 }),
    ] {
        check_gradients(input, &[op, Op::Flatten]);
    }
    check_gradients([2, 3, 4], &[Op::Flatten, Op::Linear { inputs: 24, outputs: 5 }]);
    check_gradients(
        [2, 3, 4],
        &[Op::Flatten, Op::Dropout { p: 0.5 }, Op::Linear { inputs: 24, outputs: 5 }],
    );
}

#[test]
fn the_gradient_of_the_loss_equals_finite_differences() {
    let logits = Tensor { shape: vec![2, 3], values: vec![0.3, -1.2, 2.0, 0.1, 0.7, -0.4] };
    let targets = [0.2, 0.5, 0.3, 0.0, 0.9, 0.1];
    let gradient = cross_entropy(&logits, &targets, None).1;
    for i in 0..6 {
        let shifted = |by: f64| {
            let mut logits = logits.clone();
            logits.values[i] += by;
            cross_entropy(&logits, &targets, None).0
        };
        let slope = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
        assert!((slope - gradient.values[i]).abs() < 1e-9);
    }
}

#[test]
fn ties_go_to_the_first_maximum() {
    let x = Tensor { shape: vec![1, 1, 2, 3], values: vec![1.0, 2.0, 2.0, 2.0, 0.0, 2.0] };
    let dy = Tensor { shape: vec![1, 1, 1, 2], values: vec![3.0, 5.0] };
    assert_eq!(pooling::backward(2, 1, &x, &dy).values, [0.0, 8.0, 0.0, 0.0, 0.0, 0.0]);
}
