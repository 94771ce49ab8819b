//! Linear layers that are divided among ranks: a number of ranks that is a power of two does not
//! change a bit, and what the ranks send.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use alexnet_backend_cpu::{CpuBackend, Division, Kernels};
use alexnet_core::{
    Alone, Array, Backend, Batch, Collective, Error, Model, Node, Op, Options, Precision, State,
    Step, Topology,
    collective::threads,
    init::{Init, initialize},
    sum_order::Share,
    traffic,
    train::{evaluate, train_step},
};

use crate::{
    network::{self, conv},
    steps::{Counting, share, step},
};

/// A network with three linear layers, and dropout before the first and before the second one. The
/// sums over their outputs have parts of 9, 16 and 1 outputs.
fn network() -> Topology {
    let mut network = network::network();
    network.nodes.pop();
    for op in [
        Op::Dropout { p: 0.5 },
        Op::Linear { inputs: 67, outputs: 128 },
        Op::Relu,
        Op::Linear { inputs: 128, outputs: 3 },
    ] {
        network.nodes.push(Node { name: format!("layer.{}", network.nodes.len()), op });
    }
    network
}

/// The results of three steps, as bits.
#[derive(PartialEq)]
struct Bits {
    losses: Vec<u64>,
    /// Of the clipped step, in which it has an influence.
    gradient_norm: u64,
    /// Without moments on other ranks than rank 0.
    state: BTreeMap<String, Vec<u32>>,
    validation_loss: u64,
}

fn compile(
    topology: &Topology,
    state: &State,
    options: &Options,
    precision: Precision,
    linear_ranks: Option<Arc<dyn Collective>>,
) -> Box<dyn Model> {
    let division = linear_ranks.map(Division::Linear);
    let backend = CpuBackend { kernels: Kernels { precision, ..Kernels::default() }, division };
    backend.compile(topology, state.clone(), options).unwrap()
}

fn options(frozen: &[&str]) -> Options {
    let frozen: BTreeSet<String> = frozen.iter().map(|name| (*name).to_owned()).collect();
    Options { frozen, ..Options::default() }
}

/// Returns the model of [`network`] with its initial weights, divided among the ranks.
fn started(frozen: &[&str], precision: Precision, ranks: &Arc<dyn Collective>) -> Box<dyn Model> {
    let start = initialize(&network(), Init::Pytorch, 5).unwrap();
    compile(&network(), &start, &options(frozen), precision, Some(Arc::clone(ranks)))
}

/// Does three steps with `images` images, of which one has no target, and evaluates 3 batches.
fn train(images: usize, frozen: &[&str], precision: Precision, ranks: Arc<dyn Collective>) -> Bits {
    let mut model = started(frozen, precision, &ranks);
    let ranks = ranks.as_ref();
    let mut batch = Batch::random(images, 77, 3);
    batch.targets[..3].fill(0.0);
    let reports: Vec<(f64, f64)> = (1..)
        .zip([None, Some(0.5), None])
        .map(|step_of| {
            batch.images.pixels.rotate_left(1009);
            step(model.as_mut(), &batch, step_of, ranks).unwrap()
        })
        .collect();
    let whole = model.parameters().unwrap();
    let State { parameters, moments, .. } = model.state().unwrap();
    let is_first = ranks.rank() == 0;
    assert_eq!(parameters == whole, is_first, "the other ranks have only their rows");
    let arrays = whole.into_iter().chain(moments.into_iter().filter(|_| is_first));
    let bits = |array: Array| array.values.iter().map(|value| value.to_bits()).collect();
    let state = arrays.map(|(name, array)| (name, bits(array))).collect();
    let batches = [4, 1, 2].map(|n| Ok(Batch::random(n, 77, 3)));
    let own = batches.into_iter().skip(ranks.rank()).step_by(ranks.size());
    Bits {
        losses: reports.iter().map(|(loss, _)| loss.to_bits()).collect(),
        gradient_norm: reports[1].1.to_bits(),
        state,
        validation_loss: evaluate(model.as_mut(), own, ranks).unwrap().loss().to_bits(),
    }
}

/// Panics if the bits differ.
fn assert_equal(found: &Bits, expected: &Bits, what: &str) {
    assert_eq!(found.losses, expected.losses, "losses, {what}");
    assert_eq!(found.gradient_norm, expected.gradient_norm, "gradient norm, {what}");
    for (name, values) in &found.state {
        assert!(expected.state[name] == *values, "{name}, {what}");
    }
    assert_eq!(found.validation_loss, expected.validation_loss, "validation loss, {what}");
}

const NOTHING: &[&str] = &[];
const CONVOLUTIONS: &[&str] = &[
    "layer.0.weight",
    "layer.0.bias",
    "layer.3.weight",
    "layer.3.bias",
    "layer.5.weight",
    "layer.5.bias",
    "layer.7.weight",
    "layer.7.bias",
];
const SOME: &[&str] = &["layer.5.weight", "layer.10.bias", "layer.13.weight"];

/// The last layer has three outputs, so some ranks have none of its rows. In a step with 5 images,
/// some ranks have no image.
#[test]
fn the_number_of_ranks_does_not_change_a_bit() {
    for (images, frozen, precision) in [
        (20, NOTHING, Precision::F32),
        (5, NOTHING, Precision::F32),
        (9, CONVOLUTIONS, Precision::F32),
        (9, SOME, Precision::F32),
        (20, NOTHING, Precision::Bf16),
        (9, SOME, Precision::Bf16),
    ] {
        let expected = train(images, frozen, precision, Arc::new(Alone));
        for size in [2, 4, 8] {
            let found = threads::run(size, |ranks| train(images, frozen, precision, ranks));
            assert_eq!(found[0].state.len(), expected.state.len());
            for (rank, found) in found.iter().enumerate() {
                let what = format!(
                    "{images} images in {precision}, frozen {frozen:?}, rank {rank} of {size}"
                );
                assert_equal(found, &expected, &what);
            }
        }
    }
}

#[test]
fn other_numbers_of_ranks_differ_by_rounding() {
    let in_f32 = |ranks: Arc<dyn Collective>| train(20, NOTHING, Precision::F32, ranks);
    let expected = in_f32(Arc::new(Alone));
    for size in [3, 5, 6] {
        let found = threads::run(size, |ranks| in_f32(ranks));
        for other in &found[1..] {
            assert_equal(other, &found[0], "ranks of one group");
        }
        for (found, expected) in found[0].losses.iter().zip(&expected.losses) {
            let [found, expected] = [found, expected].map(|bits| f64::from_bits(*bits));
            assert!((found - expected).abs() < 1e-5, "{found} on {size} ranks, alone {expected}");
        }
    }
}

/// Without clipping, the norm is only reported. It is added in another order.
#[test]
fn the_reported_norm_counts_each_gradient_once() {
    let norms = |ranks: Arc<dyn Collective>| -> Vec<f64> {
        let mut model = started(NOTHING, Precision::F32, &ranks);
        let batch = Batch::random(9, 77, 3);
        let steps = [(1, None), (2, Some(0.1)), (3, None)];
        steps.map(|of| step(model.as_mut(), &batch, of, ranks.as_ref()).unwrap().1).to_vec()
    };
    let expected = norms(Arc::new(Alone));
    for found in threads::run(4, |ranks| norms(ranks)) {
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found / expected - 1.0).abs() < 1e-6, "{found}, alone {expected}");
        }
    }
}

#[test]
fn a_step_in_several_micro_batches_and_other_computations_are_refused() {
    let errors = threads::run(2, |ranks| {
        let ranks: Arc<dyn Collective> = ranks;
        let mut model = started(NOTHING, Precision::F32, &ranks);
        let batch = Batch::random(16, 77, 3);
        let own = share(&batch, ranks.as_ref());
        let micro_batch = Some(own.micro_batch(16.0));
        let step = Step { number: 1, seed: 1, micro_batch, lr: 1e-3, clip_grad_norm: None };
        assert!(matches!(model.gradients(&own.batch, &step), Err(Error::Backend { .. })));
        train_step(model.as_mut(), &own.batch, 4, &step, ranks.as_ref()).unwrap_err().to_string()
    });
    for error in errors {
        assert!(error.contains("all images of a step at once"), "{error}");
    }
}

/// A network with the proportions of AlexNet: two convolutions and three linear layers.
fn wide() -> Topology {
    let ops = [
        conv(3, 8, 3, 2, 1, 1),
        Op::Relu,
        conv(8, 16, 3, 2, 1, 1),
        Op::Flatten,
        Op::Linear { inputs: 16 * 8 * 8, outputs: 1024 },
        Op::Relu,
        Op::Dropout { p: 0.5 },
        Op::Linear { inputs: 1024, outputs: 256 },
        Op::Relu,
        Op::Linear { inputs: 256, outputs: 8 },
    ];
    let nodes = ops.into_iter().enumerate().map(|(i, op)| Node { name: format!("layer.{i}"), op });
    Topology { input: [3, 32, 32], nodes: nodes.collect() }
}

#[test]
fn the_bytes_sent_in_a_step_are_as_calculated() {
    const IMAGES: usize = 32;
    let topology = wide();
    for size in [2, 4, 8] {
        for is_hybrid in [false, true] {
            let counted = threads::run(size, |rank| {
                let rank = Arc::new(Counting::new(rank));
                let start = initialize(&topology, Init::Pytorch, 5).unwrap();
                let ranks: Option<Arc<dyn Collective>> = is_hybrid.then(|| Arc::clone(&rank) as _);
                let mut model =
                    compile(&topology, &start, &options(NOTHING), Precision::F32, ranks);
                let batch = Batch::random(IMAGES, 32, 8);
                step(model.as_mut(), &batch, (1, None), rank.as_ref()).unwrap();
                assert!(rank.messages.load(Ordering::Relaxed) < 100, "short messages");
                rank.numbers.load(Ordering::Relaxed)
            });
            let division = if is_hybrid { traffic::hybrid } else { traffic::data };
            for (rank, sent) in counted.into_iter().enumerate() {
                let share = Share { rank, ranks: size };
                let work: traffic::Work =
                    division(&topology, share, IMAGES).unwrap().into_iter().sum();
                assert_eq!(sent as u64, work.sent().bytes(), "{share:?}, hybrid: {is_hybrid}");
            }
        }
    }
}
