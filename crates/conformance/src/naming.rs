//! The names of the cases. They are paths like those of Rust's tests, and need no quoting in a
//! shell.

use alexnet_core::Op;

use crate::experiment::Place;

/// Converts words to lower case with underscores: `Adam with decay` becomes `adam_with_decay`.
pub fn slug(words: &str) -> String {
    words.to_lowercase().replace([' ', '-'], "_")
}

/// Returns the name of a check of operations: operation, check, settings, and the shape of the
/// first operation's input.
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

/// Returns the name of an operation.
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

/// Returns the settings of an operation that do not follow from its input.
fn settings(op: &Op) -> String {
    match op {
        Op::Conv2d { inputs: _, outputs, kernel, stride, padding, groups } => {
            format!(
                "outputs{outputs}_kernel{kernel}_stride{stride}_padding{padding}_groups{groups}_"
            )
        }
        Op::MaxPool2d { kernel, stride } => format!("kernel{kernel}_stride{stride}_"),
        Op::LocalResponseNorm { size, alpha, beta, k } => {
            format!("size{size}_alpha{alpha}_beta{beta}_k{k}_")
        }
        Op::Linear { inputs: _, outputs } => format!("outputs{outputs}_"),
        Op::Dropout { p } => format!("p{p}_"),
        Op::Relu | Op::Flatten => String::new(),
    }
}
