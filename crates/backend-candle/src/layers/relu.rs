//! The ReLU as a separate layer. A ReLU after a convolution or a linear layer is fused into that
//! layer.

use alexnet_core::{Layer, Mode, Result};
use candle_core::Tensor;

use crate::{convolution::relu, error::failed};

/// `max(x, 0)`.
pub struct Relu;

impl Layer<Tensor> for Relu {
    fn forward(&mut self, x: Tensor, _: Mode) -> Result<Tensor> {
        relu(&x).map_err(failed)
    }
}
