//! The forward and backward pass of one operation.

use alexnet_core::{Mode, Op, rng::dropout_scale};

use super::{convolution, linear, local_response_norm, pooling, tensor::Tensor};

/// A node with everything that its operation depends on, except its input.
#[derive(Clone, Copy)]
pub(crate) struct NodeView<'a> {
    pub op: &'a Op,
    /// The index in `Topology::nodes`, which is part of the key of the dropout masks.
    pub index: usize,
    pub mode: Mode,
    /// Weight and bias.
    pub parameters: Option<(&'a Tensor, &'a Tensor)>,
}

impl NodeView<'_> {
    fn weight_and_bias(&self) -> (&Tensor, &Tensor) {
        // `State::check` has checked that every convolution and linear layer has both.
        self.parameters.expect("a checked state has the parameters of each node")
    }
}

/// Computes the output `[N, …]` of one node.
pub(crate) fn forward(node: &NodeView, x: &Tensor) -> Tensor {
    match node.op {
        Op::Conv2d { .. } => {
            let (weight, bias) = node.weight_and_bias();
            convolution::forward(node.op, x, weight, bias)
        }
        Op::Relu => x.map(|v| if v <= 0.0 { 0.0 } else { v }),
        Op::MaxPool2d { kernel, stride } => pooling::forward(*kernel, *stride, x),
        Op::LocalResponseNorm { .. } => local_response_norm::forward(node.op, x),
        Op::Flatten => flatten(x),
        Op::Linear { .. } => {
            let (weight, bias) = node.weight_and_bias();
            linear::forward(x, weight, bias)
        }
        Op::Dropout { p } => dropout(node, *p, x),
    }
}

/// Computes the gradients of the input and of weight and bias of one node, from its input `x` and
/// the gradient `dy` of its output.
pub(crate) fn backward(node: &NodeView, x: &Tensor, dy: &Tensor) -> (Tensor, Option<[Tensor; 2]>) {
    match node.op {
        Op::Conv2d { .. } => {
            let (weight, _) = node.weight_and_bias();
            let (dx, gradients) = convolution::backward(node.op, x, weight, dy);
            (dx, Some(gradients))
        }
        Op::Relu => {
            let values =
                x.values.iter().zip(&dy.values).map(|(x, dy)| if *x > 0.0 { *dy } else { 0.0 });
            (Tensor { shape: x.shape.clone(), values: values.collect() }, None)
        }
        Op::MaxPool2d { kernel, stride } => (pooling::backward(*kernel, *stride, x, dy), None),
        Op::LocalResponseNorm { .. } => (local_response_norm::backward(node.op, x, dy), None),
        Op::Flatten => (Tensor { shape: x.shape.clone(), values: dy.values.clone() }, None),
        Op::Linear { .. } => {
            let (weight, _) = node.weight_and_bias();
            let (dx, gradients) = linear::backward(x, weight, dy);
            (dx, Some(gradients))
        }
        // Dropout is linear, so its backward pass multiplies by the same masks.
        Op::Dropout { p } => (dropout(node, *p, dy), None),
    }
}

fn flatten(x: &Tensor) -> Tensor {
    Tensor { shape: vec![x.shape[0], x.shape[1..].iter().product()], values: x.values.clone() }
}

fn dropout(node: &NodeView, p: f32, x: &Tensor) -> Tensor {
    let Mode::Train { seed, step, .. } = node.mode else { return x.clone() };
    let first = node.mode.first_image();
    let mut y = x.clone();
    let features = x.shape[1..].iter().product();
    let mut scale = vec![0.0; features];
    for (item, row) in y.values.chunks_exact_mut(features).enumerate() {
        dropout_scale(seed, step, node.index, first + item, p, &mut scale);
        for (value, scale) in row.iter_mut().zip(&scale) {
            *value *= f64::from(*scale);
        }
    }
    y
}
