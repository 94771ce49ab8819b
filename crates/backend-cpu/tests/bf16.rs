//! Tests of training with products in bf16. The small networks of the conformance suite have too few
//! channels for Winograd convolution.

mod network;

use alexnet_backend_cpu::{CpuBackend, Isa, Kernels};
use alexnet_core::{
    Backend, Batch, Model, Optimizer, Options, Precision, State, Step,
    init::{Init, initialize},
};

use crate::network::network;

fn kernels(isa: Isa) -> Kernels {
    Kernels { isa, precision: Precision::Bf16, ..Kernels::default() }
}

fn compile(kernels: Kernels, state: &State) -> Box<dyn Model> {
    let backend = CpuBackend { kernels, ..CpuBackend::default() };
    let options = Options { optimizer: Optimizer::default(), ..Options::default() };
    backend.compile(&network(), state.clone(), &options).unwrap()
}

fn start() -> State {
    initialize(&network(), Init::Pytorch, 5).unwrap()
}

/// Does the steps `numbers`, of which every second one is clipped. Returns their losses.
fn train(model: &mut dyn Model, numbers: std::ops::RangeInclusive<u64>) -> Vec<f64> {
    numbers
        .map(|number| {
            let step = Step {
                micro_batch: None,
                number,
                seed: 1,
                lr: 1e-3,
                clip_grad_norm: number.is_multiple_of(2).then_some(0.5),
            };
            let batch = Batch::random([5, 9, 17, 1][number as usize % 4], 77, 3);
            model.train_step(&batch, &step).unwrap().loss
        })
        .collect()
}

/// A processor without instructions for bf16 computes the same bits with those for f32, if it can
/// multiply and add with one rounding.
#[test]
fn instruction_sets_give_the_same_bits() {
    let fused = Isa::available().filter(|isa| *isa != Isa::Portable);
    let results: Vec<_> = fused
        .map(|isa| {
            let mut model = compile(kernels(isa), &start());
            let losses = train(model.as_mut(), 1..=6);
            let logits = model.logits(&Batch::random(7, 77, 3).images).unwrap();
            (model.state().unwrap(), losses, logits)
        })
        .collect();
    for pair in results.windows(2) {
        assert!(pair[0] == pair[1], "{:?} and {:?}", pair[0].1, pair[1].1);
    }
}

/// The first pass rounds weights when it uses them, later ones use a copy, and a step updates it.
#[test]
fn passes_without_a_copy_of_the_weights_give_the_same_bits() {
    for isa in Isa::available() {
        for images in [1, 7].map(|batch| Batch::random(batch, 77, 3).images) {
            let mut model = compile(kernels(isa), &start());
            let [first, second] = [(); 2].map(|()| model.logits(&images).unwrap());
            assert!(first == second, "{isa}");
            train(model.as_mut(), 1..=2);
            let trained = model.logits(&images).unwrap();
            let mut loaded = compile(kernels(isa), &model.state().unwrap());
            assert!(loaded.logits(&images).unwrap() == trained, "{isa}");
            assert!(first != trained);
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let results = [1, 2, 3, 4].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut model = compile(kernels(Isa::best()), &start());
            let losses = train(model.as_mut(), 1..=4);
            let logits = model.logits(&Batch::random(7, 77, 3).images).unwrap();
            (model.state().unwrap(), losses, logits)
        })
    });
    for threads in 1..results.len() {
        assert!(results[threads] == results[0], "{} threads", threads + 1);
    }
}

#[test]
fn a_run_resumed_from_its_state_has_the_same_bits() {
    let kernels = kernels(Isa::best());
    let mut uninterrupted = compile(kernels, &start());
    train(uninterrupted.as_mut(), 1..=6);
    let mut first = compile(kernels, &start());
    train(first.as_mut(), 1..=3);
    // An evaluation in between uses the weights before they change.
    first.logits(&Batch::random(4, 77, 3).images).unwrap();
    let mut second = compile(kernels, &first.state().unwrap());
    for model in [&mut first, &mut second] {
        train(model.as_mut(), 4..=6);
        assert!(model.state().unwrap() == uninterrupted.state().unwrap());
        let images = Batch::random(7, 77, 3).images;
        assert_eq!(model.logits(&images).unwrap(), uninterrupted.logits(&images).unwrap());
    }
}

/// The losses differ from those in f32, but only by the rounding of factors to 8 bits.
#[test]
fn training_follows_training_in_f32() {
    let f32 = Kernels::default();
    let bf16 = kernels(Isa::best());
    let plain = Kernels { exact: true, ..bf16 };
    let [in_f32, in_bf16, by_plain_sums] =
        [f32, bf16, plain].map(|kernels| train(compile(kernels, &start()).as_mut(), 1..=6));
    for losses in [&in_bf16, &by_plain_sums] {
        assert!(*losses != in_f32, "the products must be in bf16");
        for (found, expected) in losses.iter().zip(&in_f32) {
            assert!((found / expected - 1.0).abs() < 0.02, "{losses:?} {in_f32:?}");
        }
    }
}
