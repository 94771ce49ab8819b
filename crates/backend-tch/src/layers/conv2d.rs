//! Convolution.

use alexnet_core::{Layer, Mode, Result};
use tch::{Kind, Tensor};

use super::converted;
use crate::error::failed;

/// `torch.nn.functional.conv2d`.
pub struct Conv2d {
    /// `[out, in/groups, kernel, kernel]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
    /// The distance between two positions of the kernel.
    pub stride: i64,
    /// The zeros added on each side.
    pub padding: i64,
    /// The number of groups of channels.
    pub groups: i64,
    /// The type of the factors and of the bias.
    pub factors: Kind,
}

impl Layer<Tensor> for Conv2d {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        let convolve = || {
            let [x, weight, bias] = converted([&x, &self.weight, &self.bias], self.factors)?;
            let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
            let y = x.f_conv2d(&weight, Some(&bias), stride, padding, [1, 1], self.groups)?;
            y.f_to_kind(Kind::Float)
        };
        convolve().map_err(failed)
    }
}
