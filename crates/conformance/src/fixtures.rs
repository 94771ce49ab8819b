//! Images, weights and targets for the cases. Each is a pure function of the key of its case.

use alexnet_core::{
    Array, Batch, Images, Logits, Node, Normalization, Op, State, Topology,
    rng::{Purpose, generator},
    topology::{Parameter, Role},
};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

/// Converts the bytes 0 and 255 to -1 and 1, 0 and 1, -1 and 0 in the three channels.
pub const INTEGERS: Normalization = Normalization { mean: [0.5, 0.0, 1.0], std: [0.5, 1.0, 1.0] };

/// Returns the random number generator of `key`. A key is independent of the name of its case. It
/// must not change, even if the case is renamed, since it determines the numbers of the case.
pub fn rng(key: &str) -> ChaCha8Rng {
    let seed = key.bytes().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    generator(seed, Purpose::Synthetic, 0, 0)
}

/// Returns `n` integers in `-limit..=limit`.
pub fn integers(rng: &mut impl Rng, n: usize, limit: i32) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-limit..=limit) as f32).collect()
}

/// Returns `n` real numbers in `-limit..limit`.
pub fn reals(rng: &mut impl Rng, n: usize, limit: f32) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-limit..limit)).collect()
}

/// Returns images of bytes 0 and 255 with the normalization [`INTEGERS`].
pub fn integer_images(rng: &mut impl Rng, n: usize, [height, width]: [usize; 2]) -> Images {
    let pixels = (0..n * height * width * 3).map(|_| if rng.random() { 255 } else { 0 }).collect();
    Images { pixels, height, width, normalization: INTEGERS }
}

/// Returns images of random bytes with [`Normalization::HALF`].
pub fn images(rng: &mut impl Rng, n: usize, [height, width]: [usize; 2]) -> Images {
    let pixels = (0..n * height * width * 3).map(|_| rng.random()).collect();
    Images { pixels, height, width, normalization: Normalization::HALF }
}

/// Returns images for `topology` with soft targets.
pub fn batch(rng: &mut impl Rng, n: usize, topology: &Topology) -> Batch {
    let [_, height, width] = topology.input;
    let classes = topology.classes().unwrap_or_default();
    let mut targets = Vec::with_capacity(n * classes);
    for _ in 0..n {
        let (one, other, share) =
            (rng.random_range(0..classes), rng.random_range(0..classes), rng.random::<f32>());
        let smooth = 0.1 / classes as f32;
        let mut row = vec![smooth; classes];
        row[one] += 0.9 * share;
        row[other] += 0.9 * (1.0 - share);
        targets.extend(row);
    }
    Batch { images: images(rng, n, [height, width]), targets }
}

/// Returns a cotangent of real numbers in -1..1.
pub fn cotangent(rng: &mut impl Rng, n: usize, classes: usize) -> Logits {
    Logits { values: reals(rng, n * classes, 1.0), classes }
}

/// Returns parameters with values from `draw`.
pub fn state(topology: &Topology, mut draw: impl FnMut(&Parameter) -> Vec<f32>) -> State {
    let mut state = State::default();
    for parameter in topology.parameters().unwrap_or_default() {
        let values = draw(&parameter);
        state.parameters.insert(parameter.name, Array { shape: parameter.shape, values });
    }
    state
}

/// Returns small biases, and weights that preserve the magnitude of activations, so that the logits
/// depend on the images more than on the biases.
pub fn balanced_state(rng: &mut impl Rng, topology: &Topology) -> State {
    state(topology, |parameter| match parameter.role {
        Role::Bias => reals(rng, parameter.elements(), 0.1),
        Role::Weight => {
            let fan_in: usize = parameter.shape[1..].iter().product();
            reals(rng, parameter.elements(), (6.0 / fan_in as f32).sqrt())
        }
    })
}

/// Returns a network of operations named `layer.0`, `layer.1`, ….
pub fn topology(input: [usize; 3], ops: &[Op]) -> Topology {
    let nodes =
        ops.iter().enumerate().map(|(i, op)| Node { name: format!("layer.{i}"), op: op.clone() });
    Topology { input, nodes: nodes.collect() }
}

/// Returns a small network with all operations (the miniature network), which is fast to compute.
pub fn miniature() -> Topology {
    topology(
        [3, 19, 17],
        &[
            Op::Conv2d { inputs: 3, outputs: 8, kernel: 3, stride: 2, padding: 1, groups: 1 },
            Op::Relu,
            Op::MaxPool2d { kernel: 3, stride: 2 },
            Op::LocalResponseNorm { size: 5, alpha: 0.1, beta: 0.75, k: 2.0 },
            Op::Conv2d { inputs: 8, outputs: 6, kernel: 3, stride: 1, padding: 1, groups: 2 },
            Op::Relu,
            Op::Flatten,
            Op::Dropout { p: 0.5 },
            Op::Linear { inputs: 6 * 4 * 4, outputs: 16 },
            Op::Relu,
            Op::Dropout { p: 0.25 },
            Op::Linear { inputs: 16, outputs: 5 },
        ],
    )
}

/// Returns the network with `1/divisor` of the channels and hidden features, for images of
/// `[height, width]`.
pub fn shrink(topology: &Topology, divisor: usize, [height, width]: [usize; 2]) -> Topology {
    let mut small = Topology { input: [3, height, width], nodes: Vec::new() };
    let last = topology.nodes.len() - 1;
    for (index, Node { name, op }) in topology.nodes.iter().enumerate() {
        let shapes = small.shapes().unwrap_or_default();
        let inputs = shapes.last().map_or(3, |shape| shape[0]);
        let mut op = op.clone();
        match &mut op {
            Op::Conv2d { inputs: i, outputs, .. } | Op::Linear { inputs: i, outputs } => {
                *i = inputs;
                *outputs = if index == last { *outputs } else { *outputs / divisor };
            }
            _ => {}
        }
        small.nodes.push(Node { name: name.clone(), op });
    }
    small
}
