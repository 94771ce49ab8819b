//! Tests of training with Winograd convolution. The small networks of the conformance suite have
//! too few channels to use it. The optimizer is SGD. (The step of Adam is as large for a gradient
//! of 1e-9 as for one of 1. If a gradient is a sum of zeros, plain sums do not change the weight,
//! but the rounding errors of Winograd convolution do.)

mod network;

use std::collections::BTreeSet;

use alexnet_backend_cpu::{CpuBackend, Kernels};
use alexnet_core::{
    Backend, Batch, Model, Optimizer, Options, State, Step,
    init::{Init, initialize},
};

use crate::network::network;

const SGD: Optimizer = Optimizer::Sgd { momentum: 0.9, weight_decay: 0.01 };

fn start() -> State {
    initialize(&network(), Init::Pytorch, 5).unwrap()
}

fn compile(state: &State, frozen: &BTreeSet<String>, exact: bool) -> Box<dyn Model> {
    let kernels = Kernels { exact, ..Kernels::default() };
    let backend = CpuBackend { kernels, ..CpuBackend::default() };
    let options = Options { optimizer: SGD, frozen: frozen.clone(), ..Options::default() };
    backend.compile(&network(), state.clone(), &options).unwrap()
}

/// Does the steps `numbers` with batches of different sizes. Every second step is clipped.
fn train(model: &mut dyn Model, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let step = Step {
            micro_batch: None,
            number,
            seed: 1,
            lr: 0.02,
            clip_grad_norm: (number % 2 == 0).then_some(0.5),
        };
        model.train_step(&Batch::random([5, 9, 1][number as usize % 3], 77, 3), &step).unwrap();
    }
}

/// Returns the largest difference between two parameters, divided by the largest absolute value of
/// the second one.
fn distance(a: &State, b: &State) -> f32 {
    let mut worst = 0.0f32;
    for (name, a) in &a.parameters {
        let b = &b.parameters[name].values;
        // The maximum of a number and NaN is the number.
        assert!(a.values.iter().all(|a| a.is_finite()), "{name} is not finite");
        let largest = b.iter().fold(0.0f32, |largest, b| largest.max(b.abs()));
        let difference = a.values.iter().zip(b).fold(0.0f32, |d, (a, b)| d.max((a - b).abs()));
        worst = worst.max(difference / largest);
    }
    worst
}

#[test]
fn training_equals_plain_sums_with_any_frozen_parameters() {
    let names =
        |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    for frozen in [
        names(&[]),
        names(&["layer.0.weight", "layer.0.bias", "layer.3.weight", "layer.3.bias"]),
        names(&["layer.5.weight", "layer.10.bias"]),
        names(&["layer.3.bias", "layer.10.weight"]),
    ] {
        let ends = [false, true].map(|exact| {
            let mut model = compile(&start(), &frozen, exact);
            train(model.as_mut(), 1..=6);
            model.state().unwrap()
        });
        let distance = distance(&ends[0], &ends[1]);
        assert!(distance < 1e-4, "{frozen:?}: {distance:e}");
        assert!(distance > 0.0, "the network must use Winograd convolution");
        for name in &frozen {
            assert_eq!(ends[0].parameters[name], start().parameters[name], "{name}");
        }
    }
}

#[test]
fn a_run_resumed_from_its_state_has_the_same_bits() {
    let mut uninterrupted = compile(&start(), &BTreeSet::new(), false);
    train(uninterrupted.as_mut(), 1..=6);
    let mut first = compile(&start(), &BTreeSet::new(), false);
    train(first.as_mut(), 1..=3);
    // An evaluation in between uses the weights before they change.
    first.logits(&Batch::random(4, 77, 3).images).unwrap();
    let mut second = compile(&first.state().unwrap(), &BTreeSet::new(), false);
    for model in [&mut first, &mut second] {
        train(model.as_mut(), 4..=6);
        assert!(model.state().unwrap() == uninterrupted.state().unwrap());
        let images = Batch::random(7, 77, 3).images;
        assert_eq!(model.logits(&images).unwrap(), uninterrupted.logits(&images).unwrap());
    }
}

#[test]
fn an_image_has_the_same_logits_alone_and_in_a_batch() {
    let mut model = compile(&start(), &BTreeSet::new(), false);
    let images = Batch::random(9, 77, 3).images;
    let together = model.logits(&images).unwrap();
    for (i, row) in together.rows().enumerate() {
        let mut alone = images.clone();
        alone.pixels = images.pixels[i * 77 * 77 * 3..][..77 * 77 * 3].to_vec();
        assert_eq!(model.logits(&alone).unwrap().values, row, "image {i}");
    }
}
