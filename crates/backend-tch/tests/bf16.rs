//! Tests of bf16, on the device in `ALEXNET_TEST_DEVICE` or on the CPU. Results of convolutions and
//! linear layers are rounded, which the conformance suite does not expect.

use std::env;

use alexnet_backend_tch::TchBackend;
use alexnet_core::{
    Backend, Batch, Device, Model, Node, Op, Options, Precision, State, Step, Topology,
    init::{Init, initialize},
};

const CLASSES: usize = 5;

fn network(ops: Vec<Op>) -> Topology {
    let nodes = ops.into_iter().enumerate().map(|(i, op)| Node { name: format!("layer.{i}"), op });
    Topology { input: [3, 13, 13], nodes: nodes.collect() }
}

fn conv(inputs: usize, outputs: usize, kernel: usize, groups: usize) -> Op {
    Op::Conv2d { inputs, outputs, kernel, stride: 1, padding: 0, groups }
}

fn compile(precision: Precision, topology: &Topology, state: &State) -> Box<dyn Model> {
    let device = env::var("ALEXNET_TEST_DEVICE").map_or(Device::Cpu, |name| name.parse().unwrap());
    let options = Options { device, ..Options::default() };
    TchBackend { precision }.compile(topology, state.clone(), &options).unwrap()
}

/// The factors, the bias and the result change by up to u = 2⁻⁹ each when they are rounded.
#[test]
fn factors_and_results_are_rounded() {
    let linear = Op::Linear { inputs: 3 * 13 * 13, outputs: CLASSES };
    let convolution = [conv(3, 6, 4, 3), Op::Flatten];
    for ops in [vec![Op::Flatten, linear], convolution.to_vec()] {
        let topology = network(ops);
        let state = initialize(&topology, Init::Pytorch, 5).unwrap();
        // Inputs from 0 to 1, so that absolute weights give the sums of the absolute products.
        let mut images = Batch::random(3, 13, CLASSES).images;
        images.pixels.iter_mut().for_each(|pixel| *pixel |= 128);
        let mut magnitudes = state.clone();
        let arrays = magnitudes.parameters.values_mut();
        arrays.flat_map(|array| &mut array.values).for_each(|value| *value = value.abs());

        let logits =
            |precision, state| compile(precision, &topology, state).logits(&images).unwrap().values;
        let [found, truth] = [Precision::Bf16, Precision::F32].map(|p| logits(p, &state));
        let largest = logits(Precision::F32, &magnitudes);
        for ((found, truth), largest) in found.iter().zip(&truth).zip(largest) {
            assert_eq!(found.to_bits() & 0xFFFF, 0, "{found}");
            assert!((found - truth).abs() <= 3.01 / 512.0 * largest, "{found} {truth} {largest}");
        }
        assert_ne!(found, truth);
    }
}

#[test]
fn training_follows_training_in_f32() {
    let topology = network(vec![
        conv(3, 16, 4, 1),
        Op::Relu,
        Op::MaxPool2d { kernel: 2, stride: 2 },
        conv(16, 16, 3, 2),
        Op::Flatten,
        Op::Dropout { p: 0.5 },
        Op::Linear { inputs: 16 * 3 * 3, outputs: CLASSES },
    ]);
    let state = initialize(&topology, Init::Pytorch, 5).unwrap();
    let train = |precision| {
        let mut model = compile(precision, &topology, &state);
        let losses = (1..=6).map(|number| {
            let step =
                Step { micro_batch: None, number, seed: 1, lr: 1e-3, clip_grad_norm: Some(1.0) };
            model.train_step(&Batch::random(8, 13, CLASSES), &step).unwrap().loss
        });
        (losses.collect::<Vec<f64>>(), model.state().unwrap())
    };
    let [(losses, state), (in_f32, _)] = [Precision::Bf16, Precision::F32].map(train);
    assert_ne!(losses, in_f32);
    // Three layers have products. Each rounding changes a number by at most 2⁻⁹, mostly in random
    // directions.
    for (found, expected) in losses.iter().zip(&in_f32) {
        assert!((found / expected - 1.0).abs() < 0.02, "{losses:?} {in_f32:?}");
    }
    // The weights that are trained are in f32.
    let weights = state.parameters.values().flat_map(|array| &array.values);
    assert!(weights.filter(|weight| weight.to_bits() & 0xFFFF != 0).count() > 1000);
}
