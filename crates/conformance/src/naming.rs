//! The names of the cases: paths as Rust's own tests have them, with nothing that a shell would want quoted.

use alexnet_core::Op;

use crate::experiment::Place;

/// Words with underscores between them, in lower case: `Adam with decay` is `adam_with_decay`.
pub fn slug(words: &str) -> String {
    words.to_lowercase().replace([' ', '-'], "_")
}

/// The name of a check of operations in their place: operation, check, settings, and the shape that the first of the
/// operations works on.
pub fn operations(
    check: &str,
    ops: &[Op],
    place: Place,
    [height, width]: [usize; 2],
    batch: usize,
) -> String {
    let input = match place {
        Place::Behind(channels) => format!("on_probe_{batch}x{channels}x{height}x{width}"),
        Place::First => format!("on_images_{batch}x3x{height}x{width}"),
    };
    if let [op] = ops {
        return format!("{}::{check}::{}{input}", operation(op), settings(op));
    }
    let chain: Vec<&str> = ops.iter().map(operation).collect();
    format!("chain::{check}::{}_{input}", chain.join("_"))
}

/// The name of an operation.
fn operation(op: &Op) -> &'static str {
    match op {
        Op::Conv2d { .. } => "conv2d",
        Op::Relu => "relu",
        Op::MaxPool2d { .. } => "max_pool2d",
        Op::LocalResponseNorm { .. } => "local_response_norm",
        Op::Flatten => "flatten",
        Op::Linear { .. } => "linear",
        Op::Dropout { .. } => "dropout",
    }
}

/// What the input does not say about an operation.
fn settings(op: &Op) -> String {
    match op {
        Op::Conv2d { inputs: _, outputs, kernel, stride, padding, groups } => {
            format!("outputs{outputs}_kernel{kernel}_stride{stride}_padding{padding}_groups{groups}_")
        }
        Op::MaxPool2d { kernel, stride } => format!("kernel{kernel}_stride{stride}_"),
        Op::LocalResponseNorm { size, alpha, beta, k } => format!("size{size}_alpha{alpha}_beta{beta}_k{k}_"),
        Op::Linear { inputs: _, outputs } => format!("outputs{outputs}_"),
        Op::Dropout { p } => format!("p{p}_"),
        Op::Relu | Op::Flatten => String::new(),
    }
}
