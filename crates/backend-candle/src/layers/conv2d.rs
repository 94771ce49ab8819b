//! Convolution.

use alexnet_core::{Layer, Mode, Result};
use candle_core::Tensor;

use super::for_mode;
#[cfg(any(feature = "cuda", feature = "metal", test))]
use super::gpu::Implementation;
use crate::{convolution::Convolution, failed};

/// Cross-correlation with bias and an optional fused ReLU.
pub struct Conv2d {
    /// `[outputs, kernel, kernel, inputs/groups]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Tensor,
    /// The number of groups of channels that are convolved separately.
    pub groups: usize,
    /// The convolution of each group.
    pub convolution: Convolution,
}

impl Conv2d {
    /// Computes the output `[N, rows, columns, outputs]` from `x [N, H, W, C]`.
    fn apply(&self, x: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let (weight, bias) = (for_mode(&self.weight, mode), for_mode(&self.bias, mode));
        #[cfg(any(feature = "cuda", feature = "metal", test))]
        if Implementation::of_convolution(x.device().location(), mode, &self.convolution.window)
            == Implementation::CandleNn
        {
            return self.candle_nn(x, &weight, &bias);
        }
        self.patches(x, &weight, &bias)
    }

    /// Computes it with the convolution of this engine.
    pub fn patches(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        let weight = weight.flatten_from(1)?;
        if self.groups == 1 {
            return self.convolution.apply(x, &weight, bias);
        }
        let parts = |tensor: &Tensor, dim| tensor.chunk(self.groups, dim);
        let (xs, weights, biases) = (parts(x, 3)?, parts(&weight, 0)?, parts(bias, 0)?);
        let groups = xs.iter().zip(&weights).zip(&biases);
        let ys = groups.map(|((x, weight), bias)| self.convolution.apply(&x.contiguous()?, weight, bias));
        Tensor::cat(&ys.collect::<candle_core::Result<Vec<_>>>()?, 3)
    }
}

impl Layer<Tensor> for Conv2d {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        self.apply(&x, mode).map_err(failed)
    }
}
