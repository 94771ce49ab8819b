//! Convolution.

use alexnet_core::{Layer, Mode, Result};
use tch::Tensor;

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
}

impl Layer<Tensor> for Conv2d {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        x.f_conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], self.groups)
            .map_err(failed)
    }
}
