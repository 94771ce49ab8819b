//! Results are bitwise equal for any number of micro-batches (gradient accumulation) and for any
//! number of ranks that is a power of two, which the conformance suite tests with a tolerance only.

mod network;

use std::collections::BTreeMap;

use alexnet_backend_cpu::{CpuBackend, Kernels};
use alexnet_core::{
    Alone, Array, Backend, Batch, Collective, Options, Precision, State, Step,
    collective::threads,
    init::{Init, initialize},
    sum_order::Share,
    train::{StepBatch, train_step},
};

use crate::network::network;

/// Does three steps with `images` images, of which the third and the last but one have no target.
/// Returns the state and the losses, as bits.
fn train(images: usize, batch_size: usize, kernels: Kernels, ranks: &dyn Collective) -> Bits {
    let state = initialize(&network(), Init::Pytorch, 5).unwrap();
    let backend = CpuBackend { kernels, ..CpuBackend::default() };
    let mut model = backend.compile(&network(), state, &Options::default()).unwrap();
    let mut batch = Batch::random(images, 77, 3);
    batch.targets[3 * 2..3 * 3].fill(0.0);
    batch.targets[3 * (images - 2)..3 * (images - 1)].fill(0.0);
    let weights: Vec<f32> = (0..images)
        .zip(batch.targets.chunks_exact_mut(3))
        .map(|(image, targets)| {
            let weight = [0.3, 1.7, 0.9][image % 3];
            targets.iter_mut().for_each(|target| *target *= weight);
            if targets.iter().any(|target| *target != 0.0) { weight } else { 0.0 }
        })
        .collect();
    let own = Share { rank: ranks.rank(), ranks: ranks.size() }.of(images);
    let steps = (1..).zip([None, Some(0.5), None]).map(|(number, clip_grad_norm)| {
        batch.images.pixels.rotate_left(1009);
        let step_batch = match own.is_empty() {
            false => StepBatch {
                batch: batch.slice(own.clone()),
                first: own.start,
                images_per_step: images,
                weights: Some(weights[own.clone()].to_vec()),
            },
            true => StepBatch {
                batch: blank(&batch),
                first: images,
                images_per_step: images,
                weights: Some(vec![]),
            },
        };
        let micro_batch = Some(step_batch.micro_batch(step_batch.total(ranks).unwrap().1));
        let step = Step { number, seed: 1, micro_batch, lr: 1e-3, clip_grad_norm };
        train_step(model.as_mut(), &step_batch.batch, batch_size, &step, ranks).unwrap().loss
    });
    let losses = steps.map(f64::to_bits).collect();
    let State { parameters, moments, .. } = model.state().unwrap();
    let arrays = parameters.into_iter().chain(moments);
    let bits = |array: Array| array.values.iter().map(|value| value.to_bits()).collect();
    Bits { losses, state: arrays.map(|(name, array)| (name, bits(array))).collect() }
}

fn blank(batch: &Batch) -> Batch {
    let mut blank = batch.slice(0..1);
    blank.images.pixels.fill(0);
    blank.targets.fill(0.0);
    blank
}

#[derive(PartialEq)]
struct Bits {
    losses: Vec<u64>,
    state: BTreeMap<String, Vec<u32>>,
}

/// All kinds of kernels: Winograd convolution, plain sums, and products in bf16.
fn all_kernels() -> [Kernels; 3] {
    let plain = Kernels { exact: true, ..Kernels::default() };
    [Kernels::default(), plain, Kernels { precision: Precision::Bf16, ..Kernels::default() }]
}

/// Panics if the bits differ.
fn assert_equal(found: &Bits, expected: &Bits, what: &str) {
    assert_eq!(found.losses, expected.losses, "losses, {what}");
    for (name, values) in &expected.state {
        assert!(found.state[name] == *values, "{name}, {what}");
    }
}

#[test]
fn the_size_of_micro_batches_does_not_change_a_bit() {
    for (images, sizes) in
        [(32, &[16, 12, 8, 4][..]), (20, &[16, 10, 3]), (7, &[4, 1]), (81, &[80, 33, 5])]
    {
        for kernels in all_kernels() {
            let expected = train(images, images, kernels, &Alone);
            for batch_size in sizes {
                let found = train(images, *batch_size, kernels, &Alone);
                let what = format!("{images} images, {batch_size} at a time, {kernels:?}");
                assert_equal(&found, &expected, &what);
            }
        }
    }
}

#[test]
fn the_number_of_ranks_does_not_change_a_bit() {
    let [winograd, _, bf16] = all_kernels();
    for (images, batch_size, kernels) in [
        (32, 32, winograd),
        (20, 20, winograd),
        (20, 3, winograd),
        (7, 7, winograd),
        (81, 81, winograd),
        (20, 3, bf16),
        (17, 17, bf16),
    ] {
        let expected = train(images, images, kernels, &Alone);
        for size in [2, 4, 8, 16] {
            for (rank, found) in
                threads::run(size, |ranks| train(images, batch_size, kernels, &*ranks))
                    .iter()
                    .enumerate()
            {
                let what = format!(
                    "{images} images, {batch_size} at a time, rank {rank} of {size}, {kernels:?}"
                );
                assert_equal(found, &expected, &what);
            }
        }
    }
}

/// With other numbers of ranks the sums are added in another order, but it is the same on all ranks.
#[test]
fn other_numbers_of_ranks_differ_by_rounding() {
    let expected = train(20, 20, Kernels::default(), &Alone);
    for size in [3, 5, 6] {
        let found = threads::run(size, |ranks| train(20, 20, Kernels::default(), &*ranks));
        for other in &found[1..] {
            assert_equal(other, &found[0], "ranks of one group");
        }
        for (found, expected) in found[0].losses.iter().zip(&expected.losses) {
            let [found, expected] = [found, expected].map(|bits| f64::from_bits(*bits));
            assert!((found - expected).abs() < 1e-5, "{found} on {size} ranks, alone {expected}");
        }
    }
}
