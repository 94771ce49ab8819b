//! The seven operations, forward and backward, one a file.

mod conv2d;
mod dropout;
mod flatten;
mod linear;
mod local_response_norm;
mod max_pool2d;
mod relu;

use alexnet_core::{Backward, Mode, Result};

pub use self::{
    conv2d::{Conv2d, Fused},
    dropout::Dropout,
    flatten::Flatten,
    linear::Linear,
    local_response_norm::{Constants, LocalResponseNorm},
    max_pool2d::MaxPool2d,
    relu::Relu,
};
use crate::{
    kernels::{Isa, optimizer::Update},
    parameter::Parameter,
    tensor::Tensor,
};

/// What the model asks of a layer.
pub trait CpuLayer: Backward<Tensor> + Send {
    /// Weight and bias, for the layers that have them.
    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    /// The same, to update.
    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut []
    }

    /// Whether any of them learns.
    fn learns(&self) -> bool {
        self.parameters().iter().any(|parameter| parameter.learns)
    }

    /// The backward pass, then `update` of all parameters that learn. Also the sum of their squared gradients.
    ///
    /// # Errors
    /// As the backward pass.
    fn backward_and_update(&mut self, dy: Tensor, isa: Isa, update: &Update) -> Result<(Tensor, f64)> {
        let dx = self.backward(dy)?;
        let mut square_sum = 0.0;
        if !self.learns() {
            return Ok((dx, square_sum));
        }
        for parameter in self.parameters_mut().iter_mut().filter(|parameter| parameter.learns) {
            square_sum += parameter.gradient_square_sum(isa);
            parameter.update(isa, update);
        }
        Ok((dx, square_sum))
    }
}

/// Whether the pass that `mode` describes is followed by a backward pass.
fn keeps(mode: Mode) -> bool {
    mode != Mode::Evaluate
}

/// What a layer kept in its forward pass for its backward pass.
///
/// # Panics
/// When there was no such forward pass: a mistake in the model.
fn kept<T>(slot: &mut Option<T>) -> T {
    slot.take().expect("backward follows a forward pass that keeps its input")
}
