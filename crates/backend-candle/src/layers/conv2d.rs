//! Convolution.

use alexnet_core::{Layer, Mode, Result};
use candle_core::Tensor;

use super::seen;
use crate::{convolution::Convolution, failed};

/// Cross-correlation with bias, and a ReLU if one follows.
pub struct Conv2d {
    /// `[outputs, kernel, kernel, inputs/groups]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Tensor,
    /// Parts of the channels that do not see each other.
    pub groups: usize,
    /// What happens in each part.
    pub convolution: Convolution,
}

impl Conv2d {
    fn apply(&self, x: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let weight = seen(&self.weight, mode).flatten_from(1)?;
        let bias = seen(&self.bias, mode);
        if self.groups == 1 {
            return self.convolution.apply(x, &weight, &bias);
        }
        let parts = |tensor: &Tensor, dim| tensor.chunk(self.groups, dim);
        let (xs, weights, biases) = (parts(x, 3)?, parts(&weight, 0)?, parts(&bias, 0)?);
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
