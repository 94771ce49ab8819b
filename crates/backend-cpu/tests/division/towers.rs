use std::sync::{Arc, atomic::Ordering};

use alexnet_backend_cpu::{CpuBackend, Division};
use alexnet_core::{
    Alone, Array, Backend, Batch, Collective, Model, Node, Op, Options, Parameters, State,
    Topology,
    collective::threads,
    init::{Init, initialize},
    sum_order::Share,
    traffic,
    train::evaluate,
};

use crate::{
    network::conv,
    steps::{Counting, step},
};

const CLASSES: usize = 5;
const SIZE: usize = 67;

/// A small network with the structure of the paper's: normalization, convolutions of two groups, and
/// one of one group between them.
fn network(norm_first: bool) -> Topology {
    let pool = Op::MaxPool2d { kernel: 3, stride: 2 };
    // Strong enough for an error at the border between the towers to be seen.
    let norm = Op::LocalResponseNorm { size: 5, alpha: 0.5, beta: 0.75, k: 1.0 };
    let reduce = if norm_first { [norm, pool.clone()] } else { [pool.clone(), norm] };
    let linear = |inputs, outputs| Op::Linear { inputs, outputs };
    let ops = [
        &[conv(3, 32, 11, 4, 0, 1), Op::Relu][..],
        &reduce,
        &[conv(32, 64, 5, 1, 2, 2), Op::Relu],
        &reduce,
        &[conv(64, 96, 3, 1, 1, 1), Op::Relu, conv(96, 96, 3, 1, 1, 2), Op::Relu],
        &[conv(96, 64, 3, 1, 1, 2), Op::Relu, Op::MaxPool2d { kernel: 2, stride: 1 }],
        &[Op::Flatten, linear(64 * 2 * 2, 48), Op::Relu, Op::Dropout { p: 0.5 }],
        &[linear(48, 40), Op::Relu, Op::Dropout { p: 0.5 }, linear(40, CLASSES)],
    ];
    let nodes = ops.concat().into_iter().enumerate();
    let nodes = nodes.map(|(i, op)| Node { name: format!("layer.{i}"), op });
    Topology { input: [3, SIZE, SIZE], nodes: nodes.collect() }
}

fn compile(topology: &Topology, ranks: Arc<dyn Collective>, frozen: &[&str]) -> Box<dyn Model> {
    let backend = CpuBackend { division: Some(Division::Towers(ranks)), ..CpuBackend::default() };
    let frozen = frozen.iter().map(|name| (*name).to_owned()).collect();
    let state = initialize(topology, Init::Pytorch, 5).unwrap();
    backend.compile(topology, state, &Options { frozen, ..Options::default() }).unwrap()
}

/// The results of three steps and an evaluation.
struct Results {
    losses: Vec<f64>,
    norms: Vec<f64>,
    parameters: Parameters,
    /// On rank 0, of the whole network.
    state: State,
    validation_loss: f64,
}

fn train(
    topology: &Topology,
    images: usize,
    frozen: &[&str],
    ranks: Arc<dyn Collective>,
) -> Results {
    let mut model = compile(topology, Arc::clone(&ranks), frozen);
    let ranks = ranks.as_ref();
    let mut batch = Batch::random(images, SIZE, CLASSES);
    let steps = (1..).zip([None, Some(0.5), None]);
    let (losses, norms) = steps
        .map(|step_of| {
            batch.images.pixels.rotate_left(1009);
            step(model.as_mut(), &batch, step_of, ranks).unwrap()
        })
        .unzip();
    let batches = [4, 1, 2].map(|n| Ok(Batch::random(n, SIZE, CLASSES)));
    let own = batches.into_iter().skip(ranks.rank()).step_by(ranks.size());
    let validation_loss = evaluate(model.as_mut(), own, ranks).unwrap().loss();
    let (parameters, state) = (model.parameters().unwrap(), model.state().unwrap());
    Results { losses, norms, parameters, state, validation_loss }
}

/// Returns the largest difference relative to the largest magnitude.
fn difference(found: &Array, expected: &Array) -> f32 {
    let largest = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).fold(0.0, f32::max);
    let pairs = found.values.iter().zip(&expected.values);
    largest(&mut pairs.map(|(found, expected)| found - expected))
        / largest(&mut expected.values.iter().copied()).max(1e-20)
}

/// In a step with one image, the second rank has no image.
#[test]
fn two_towers_train_as_one_process() {
    let frozen = ["layer.0.weight", "layer.0.bias", "layer.4.weight", "layer.4.bias"];
    for (norm_first, images, frozen) in [
        (false, 12, &[][..]),
        (true, 12, &[]),
        (false, 1, &[]),
        (false, 9, &frozen),
        (false, 9, &["layer.8.weight", "layer.16.bias"]),
    ] {
        let what = format!("norm first: {norm_first}, {images} images, frozen {frozen:?}");
        let topology = network(norm_first);
        let expected = train(&topology, images, frozen, Arc::new(Alone));
        let found = threads::run(2, |ranks| train(&topology, images, frozen, ranks));
        assert_eq!(found[0].losses, found[1].losses, "{what}");
        assert_eq!(found[0].norms, found[1].norms, "{what}");
        assert!(found.iter().all(|of| of.parameters == found[0].state.parameters), "{what}");
        let [found, _] = &found[..] else { panic!("two ranks") };
        let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 2e-5;
        for (found, expected) in found.losses.iter().zip(&expected.losses) {
            assert!(close(*found, *expected), "loss {found}, alone {expected}, {what}");
        }
        for (found, expected) in found.norms.iter().zip(&expected.norms) {
            assert!(close(*found, *expected), "norm {found}, alone {expected}, {what}");
        }
        let (found_loss, expected_loss) = (found.validation_loss, expected.validation_loss);
        assert!(close(found_loss, expected_loss), "{found_loss}, alone {expected_loss}, {what}");
        for (found, expected) in [
            (&found.state.parameters, &expected.state.parameters),
            (&found.state.moments, &expected.state.moments),
        ] {
            assert!(found.keys().eq(expected.keys()), "{what}");
            for (name, array) in expected {
                let difference = difference(&found[name], array);
                assert_eq!(found[name].shape, array.shape);
                assert!(difference < 2e-3, "{name}: {difference}, {what}");
            }
        }
    }
}

#[test]
fn the_bytes_sent_in_a_step_are_as_calculated() {
    const IMAGES: usize = 12;
    for norm_first in [false, true] {
        let topology = network(norm_first);
        let counted = threads::run(2, |rank| {
            let rank = Arc::new(Counting::new(rank));
            let mut model = compile(&topology, Arc::clone(&rank) as _, &[]);
            let batch = Batch::random(IMAGES, SIZE, CLASSES);
            step(model.as_mut(), &batch, (1, None), rank.as_ref()).unwrap();
            [&rank.numbers, &rank.messages].map(|sent| sent.load(Ordering::Relaxed) as u64)
        });
        for (rank, [numbers, messages]) in counted.into_iter().enumerate() {
            let share = Share { rank, ranks: 2 };
            let works = traffic::towers(&topology, share, IMAGES).unwrap();
            let expected: u64 = works.iter().map(|work| work.sent().bytes()).sum();
            let images = (share.of(IMAGES).len() * 3 * SIZE * SIZE) as u64;
            assert!(numbers.abs_diff(expected - images) < 4, "{numbers} and {images}: {expected}");
            assert!((images..images + 500).contains(&messages), "{messages}");
        }
    }
}
