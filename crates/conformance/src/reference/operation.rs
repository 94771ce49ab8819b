//! The forward and backward pass of one operation.

use std::borrow::Cow;

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
    /// Whether the factors of products are rounded to bf16.
    pub rounds: bool,
}

impl NodeView<'_> {
    fn weight_and_bias(&self) -> (Cow<'_, Tensor>, &Tensor) {
        // `State::check` has checked that every convolution and linear layer has both.
        let (weight, bias) =
            self.parameters.expect("a checked state has the parameters of each node");
        (self.factor(weight), bias)
    }

    /// Returns a factor of products.
    fn factor<'t>(&self, tensor: &'t Tensor) -> Cow<'t, Tensor> {
        if self.rounds { Cow::Owned(tensor.map(to_bf16)) } else { Cow::Borrowed(tensor) }
    }
}

/// Computes the output `[N, …]` of one node.
pub(crate) fn forward(node: &NodeView, x: &Tensor) -> Tensor {
    match node.op {
        Op::Conv2d { .. } => {
            let (weight, bias) = node.weight_and_bias();
            convolution::forward(node.op, &node.factor(x), &weight, bias)
        }
        Op::Relu => x.map(|v| if v <= 0.0 { 0.0 } else { v }),
        Op::MaxPool2d { kernel, stride } => pooling::forward(*kernel, *stride, x),
        Op::LocalResponseNorm { .. } => local_response_norm::forward(node.op, x),
        Op::Flatten => flatten(x),
        Op::Linear { .. } => {
            let (weight, bias) = node.weight_and_bias();
            linear::forward(&node.factor(x), &weight, bias)
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
            let (dx, [dw, rounded_db]) =
                convolution::backward(node.op, &node.factor(x), &weight, &node.factor(dy));
            let db = if node.rounds { bias_gradient(dy) } else { rounded_db };
            (dx, Some([dw, db]))
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
            let (dx, [dw, rounded_db]) =
                linear::backward(&node.factor(x), &weight, &node.factor(dy));
            let db = if node.rounds { bias_gradient(dy) } else { rounded_db };
            (dx, Some([dw, db]))
        }
        // Dropout is linear, so its backward pass multiplies by the same masks.
        Op::Dropout { p } => (dropout(node, *p, dy), None),
    }
}

/// Returns the gradient of a bias: the sums of `dy [N, O, …]`, which are not products.
fn bias_gradient(dy: &Tensor) -> Tensor {
    let mut db = Tensor::zeros(&dy.shape[1..2]);
    let plane: usize = dy.shape[2..].iter().product();
    for (i, plane) in dy.values.chunks_exact(plane).enumerate() {
        db.values[i % dy.shape[1]] += plane.iter().sum::<f64>();
    }
    db
}

/// Returns the nearest bf16 number of the nearest f32 number, ties to even.
fn to_bf16(value: f64) -> f64 {
    let bits = (value as f32).to_bits();
    let nearest = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
    f64::from(f32::from_bits(nearest))
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
