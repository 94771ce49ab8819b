//! Linear layers.

use alexnet_core::{Layer, Mode, Result};
use candle_core::Tensor;

use super::for_mode;
#[cfg(any(feature = "cuda", feature = "metal", test))]
use super::gpu::Implementation;
use crate::{
    convolution::{Convolution, Window},
    failed,
};

/// `y = x·Wᵀ + b` with an optional fused ReLU.
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Tensor,
    /// Whether a ReLU is fused.
    pub relu: bool,
}

impl Linear {
    /// Computes the output `[N, outputs]` from `x [N, inputs]`.
    fn apply(&self, x: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let (weight, bias) = (for_mode(&self.weight, mode), for_mode(&self.bias, mode));
        #[cfg(any(feature = "cuda", feature = "metal", test))]
        if Implementation::of_linear(x.device().location()) == Implementation::CandleNn {
            return self.candle_nn(x, &weight, &bias);
        }
        self.patches(x, &weight, &bias)
    }

    /// Computes it with the convolution of this engine, for a single pixel.
    pub fn patches(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        let (n, features) = x.dims2()?;
        let x = x.reshape((n, 1, 1, features))?;
        let convolution = Convolution { window: Window::PIXEL, relu: self.relu };
        convolution.apply(&x, weight, bias)?.flatten_from(1)
    }
}

impl Layer<Tensor> for Linear {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        self.apply(&x, mode).map_err(failed)
    }
}
