//! A small network for tests, with enough channels for Winograd convolution.

use alexnet_core::{Node, Op, Topology};

/// A convolution; the arguments are in the order of the fields.
pub fn conv(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    groups: usize,
) -> Op {
    Op::Conv2d { inputs, outputs, kernel, stride, padding, groups }
}

/// A network with a stride, groups, pooling with and without a ReLU, and a last convolution without
/// pooling and ReLU.
pub fn network() -> Topology {
    let ops = [
        conv(3, 32, 6, 4, 1, 1),
        Op::Relu,
        Op::MaxPool2d { kernel: 3, stride: 2 },
        conv(32, 32, 5, 1, 2, 2),
        Op::MaxPool2d { kernel: 2, stride: 1 },
        conv(32, 48, 3, 1, 1, 1),
        Op::Relu,
        conv(48, 16, 3, 1, 1, 1),
        Op::Flatten,
        Op::Dropout { p: 0.5 },
        Op::Linear { inputs: 16 * 8 * 8, outputs: 67 },
        Op::Relu,
        Op::Linear { inputs: 67, outputs: 3 },
    ];
    let nodes = ops.into_iter().enumerate().map(|(i, op)| Node { name: format!("layer.{i}"), op });
    Topology { input: [3, 77, 77], nodes: nodes.collect() }
}
