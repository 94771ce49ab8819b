//! Overlapping max pooling (paper, section 3.4).

use alexnet_core::{Layer, Mode, Result};
use tch::Tensor;

use crate::error::failed;

/// `torch.nn.functional.max_pool2d`; the first of equals wins there too.
pub struct MaxPool2d {
    /// Height and width of the window.
    pub kernel: i64,
    /// Distance of two windows.
    pub stride: i64,
}

impl Layer<Tensor> for MaxPool2d {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        x.f_max_pool2d([self.kernel; 2], [self.stride; 2], [0, 0], [1, 1], false).map_err(failed)
    }
}
