//! Rectified linear units.

use alexnet_core::{Layer, Mode, Result};
use tch::Tensor;

use crate::error::failed;

/// `torch.nn.functional.relu`.
pub struct Relu {
    /// Whether the input may be overwritten: nobody needs it for a gradient.
    pub in_place: bool,
}

impl Layer<Tensor> for Relu {
    fn forward(&mut self, mut x: Tensor, _mode: Mode) -> Result<Tensor> {
        if self.in_place { x.f_relu_() } else { x.f_relu() }.map_err(failed)
    }
}
