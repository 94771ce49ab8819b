//! The seven operations with their forward and backward passes, and two that exchange channels
//! between ranks, one per file.

mod conv2d;
mod dropout;
mod exchange_channels;
mod flatten;
mod linear;
mod local_response_norm;
mod max_pool2d;
mod relu;
mod tower_norm;

use alexnet_core::{Backward, Mode, Result};

pub use self::{
    conv2d::{Conv2d, Fused},
    dropout::Dropout,
    exchange_channels::ExchangeChannels,
    flatten::Flatten,
    linear::{Linear, OutputDivision},
    local_response_norm::{Constants, LocalResponseNorm},
    max_pool2d::MaxPool2d,
    relu::Relu,
    tower_norm::TowerNorm,
};
use crate::{kernels::Isa, optimizer::Update, parameter::ParameterState, tensor::Tensor};

/// A layer with its parameters.
pub trait CpuLayer: Backward<Tensor> + Send {
    /// Returns weight and bias; empty for layers without parameters.
    fn parameters(&self) -> &[ParameterState] {
        &[]
    }

    /// Returns weight and bias for an update.
    fn parameters_mut(&mut self) -> &mut [ParameterState] {
        &mut []
    }

    /// Prepares the weights for the products of the next passes, if they have changed. The layers of
    /// a network are prepared in parallel. `for_backward` is whether a backward pass may follow.
    fn prepare(&mut self, _for_backward: bool) {}

    /// Whether a parameter of the layer is trainable.
    fn is_trainable(&self) -> bool {
        self.parameters().iter().any(|parameter| parameter.trainable)
    }

    /// Whether the weights are divided among ranks.
    fn is_divided(&self) -> bool {
        self.parameters().iter().any(ParameterState::is_divided)
    }

    /// Runs the backward pass and updates all trainable parameters. Returns the gradient of the
    /// input and the sum of the squared gradients of the parameters. If the layer is divided, this is
    /// the share of this rank in the sum.
    ///
    /// # Errors
    /// Those of the backward pass.
    fn backward_and_update(
        &mut self,
        dy: Tensor,
        isa: Isa,
        update: &Update,
    ) -> Result<(Tensor, f64)> {
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

/// Whether a backward pass may follow a forward pass in this mode.
pub fn needs_backward(mode: Mode) -> bool {
    mode != Mode::Evaluate
}

/// Takes the data that the forward pass saved for the backward pass.
///
/// # Panics
/// When no forward pass has saved data, which is a bug in the model.
fn take_saved<T>(saved_for_backward: &mut Option<T>) -> T {
    saved_for_backward.take().expect("the backward pass needs a forward pass that saves its data")
}
