//! Linear layers.

use alexnet_core::{Layer, Mode, Result};
use candle_core::Tensor;

use super::seen;
use crate::{
    convolution::{Convolution, Window},
    failed,
};

/// `y = x·Wᵀ + b`, and a ReLU if one follows.
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Tensor,
    /// Whether one follows.
    pub relu: bool,
}

impl Linear {
    fn apply(&self, x: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let (n, features) = x.dims2()?;
        let x = x.reshape((n, 1, 1, features))?;
        let convolution = Convolution { window: Window::PIXEL, relu: self.relu };
        convolution.apply(&x, &seen(&self.weight, mode), &seen(&self.bias, mode))?.flatten_from(1)
    }
}

impl Layer<Tensor> for Linear {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        self.apply(&x, mode).map_err(failed)
    }
}
