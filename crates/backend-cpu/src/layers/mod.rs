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
use crate::{kernels::Isa, optimizer::Update, parameter::ParameterState, tensor::Tensor};

/// A layer with a hand-written backward pass, and its parameters.
pub trait CpuLayer: Backward<Tensor> + Send {
    /// Weight and bias, for the layers that have them.
    fn parameters(&self) -> &[ParameterState] {
        &[]
    }

    /// The same, to update.
    fn parameters_mut(&mut self) -> &mut [ParameterState] {
        &mut []
    }

    /// Whether any of them is trainable.
    fn is_trainable(&self) -> bool {
        self.parameters().iter().any(|parameter| parameter.trainable)
    }

    /// Runs the backward pass and updates all trainable parameters. Also returns the sum of their squared gradients.
    ///
    /// # Errors
    /// As the backward pass.
    fn backward_and_update(&mut self, dy: Tensor, isa: Isa, update: &Update) -> Result<(Tensor, f64)> {
        let dx = self.backward(dy)?;
        let mut square_sum = 0.0;
        if !self.is_trainable() {
            return Ok((dx, square_sum));
        }
        for parameter in self.parameters_mut().iter_mut().filter(|parameter| parameter.trainable) {
            square_sum += parameter.gradient_square_sum(isa);
            parameter.update(isa, update);
        }
        Ok((dx, square_sum))
    }
}

/// Whether a backward pass may follow the forward pass that `mode` describes.
fn needs_backward(mode: Mode) -> bool {
    mode != Mode::Evaluate
}

/// Takes what the forward pass saved for the backward pass.
///
/// # Panics
/// When there was no such forward pass: a mistake in the model.
fn take_saved<T>(saved_for_backward: &mut Option<T>) -> T {
    saved_for_backward.take().expect("backward follows a forward pass that saves for it")
}
