//! Complete networks: logits, loss and all gradients, with dropout.
//!
//! The derivative of a ReLU jumps at 0, and that of max pooling jumps where two numbers of a window
//! are equal (kinks). If rounding moves a unit across a kink, its gradient differs by more than the
//! tolerance, although the engine is correct. Therefore each case uses images and parameters for
//! which the distance of all units of the reference from a kink is at least [`MARGIN`].

use alexnet_core::{Batch, Mode, Node, Op, Optimizer, State, Step, Topology, alexnet::Variant};

use crate::{
    case::{Case, Engine, Outcome},
    compare, fixtures,
    naming::slug,
    reference::{Network, Trace, pooling},
};

/// The minimum distance from a kink, in units of the layer's root mean square. It is a few times
/// the error of f32 sums.
const MARGIN: f64 = 2e-6;

/// Returns cases of the variants with an eighth of their width, with small images, some of them not
/// square.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![case("miniature".into(), fixtures::miniature(), 4, 0)];
    for variant in Variant::ALL {
        for (size, batch) in [([99, 99], 3), ([75, 91], 2)] {
            let topology = fixtures::shrink(&variant.topology(5), 8, size);
            cases.push(case(format!("reduced {variant}"), topology, batch, 0));
        }
    }
    cases
}

/// Returns cases of the full-size variants.
pub fn full_size_cases() -> Vec<Case> {
    // With a million units, few draws have all units away from kinks. These are the first such
    // draws.
    [(Variant::Original, 10, 19), (Variant::Torchvision, 10, 5), (Variant::Tutorial, 5, 0)]
        .map(|(variant, classes, draw)| {
            case(format!("whole {variant}"), variant.topology(classes), 2, draw)
        })
        .into()
}

/// `draw` is the first draw of parameters and images to try.
fn case(name: String, topology: Topology, images: usize, draw: u64) -> Case {
    let [_, height, width] = topology.input;
    let key = format!("network: {name}, {images}×[{height}, {width}]");
    let name = format!("network::{}_{images}x3x{height}x{width}", slug(&name));
    Case::new(name, move |engine| {
        let (state, batch) = away_from_kinks(&key, &topology, images, draw, STEP.mode())?;
        check(engine, &topology, &state, &batch)
    })
}

const STEP: Step = Step { micro_batch: None, number: 3, seed: 11, lr: 0.1, clip_grad_norm: None };

/// Returns the parameters and the batch of the first draw from `first` on for which all units are
/// away from kinks in `mode`.
pub fn away_from_kinks(
    key: &str,
    topology: &Topology,
    images: usize,
    first: u64,
    mode: Mode,
) -> Outcome<(State, Batch)> {
    for draw in first..first + 32 {
        let mut rng = fixtures::rng(&format!("{key} {draw}"));
        let state = fixtures::balanced_state(&mut rng, topology);
        let batch = fixtures::batch(&mut rng, images, topology);
        let trace =
            Network::new(topology, &state, Optimizer::default())?.forward(&batch.images, mode)?;
        if distance_from_kinks(topology, &trace) >= MARGIN {
            return Ok((state, batch));
        }
    }
    Err("the case is not valid: every draw has a unit at a kink".into())
}

fn distance_from_kinks(topology: &Topology, trace: &Trace) -> f64 {
    let distance = |(index, node): (usize, &Node)| {
        let x = trace.input_of(index);
        let nearest = match node.op {
            Op::Relu => x.values.iter().fold(f64::INFINITY, |a, v| a.min(v.abs())),
            Op::MaxPool2d { kernel, stride } => pooling::smallest_margin(kernel, stride, x),
            _ => return f64::INFINITY,
        };
        nearest / (x.values.iter().map(|v| v * v).sum::<f64>() / x.values.len() as f64).sqrt()
    };
    topology.nodes.iter().enumerate().map(distance).fold(f64::INFINITY, f64::min)
}

fn check(engine: &Engine, topology: &Topology, state: &State, batch: &Batch) -> Outcome {
    let network = engine.reference(topology, state, Optimizer::default())?;
    let mut model = engine.compile(topology, state, Optimizer::default())?;

    let truth = network.forward(&batch.images, Mode::Evaluate)?;
    let logits = model.logits(&batch.images)?;
    let truth = &truth.logits().values;
    engine.same_outputs("logits", &logits.values, truth)?;
    for (found, truth) in logits.rows().zip(truth.chunks_exact(logits.classes)) {
        same_top1(engine, found, truth)?;
    }

    let (found, found_gradients) = model.gradients(batch, &STEP)?;
    let (report, gradients) = network.gradients(batch, &STEP)?;
    compare::relative("loss", found.loss, report.loss, engine.of_network(1e-5))?;
    let tolerance = engine.of_gradients(1e-4);
    compare::relative("gradient norm", found.gradient_norm, report.gradient_norm, tolerance)?;
    compare::gradients(&found_gradients, &gradients, |name, found, truth| {
        compare::aligned(name, found, truth, engine.of_gradients(1e-4))
    })
}

/// Checks that the top-1 class is the same, unless the margin in the reference is below 1e-4, or below
/// the tolerance of the logits if it is larger.
pub fn same_top1(engine: &Engine, found: &[f32], truth: &[f64]) -> Outcome {
    let top1 = (0..found.len()).max_by(|a, b| found[*a].total_cmp(&found[*b])).unwrap_or_default();
    let gap = truth.iter().fold(f64::NEG_INFINITY, |a, v| a.max(*v)) - truth[top1];
    let largest = truth.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    if gap < 1e-4 || gap < engine.of_network(0.0) * largest {
        Ok(())
    } else {
        Err(format!("the top-1 class is {top1}, whose expected logit is {gap} below the largest")
            .into())
    }
}
