//! Linear layers.

use alexnet_core::{Layer, Mode, Result};
use tch::Tensor;

use crate::error::failed;

/// `torch.nn.functional.linear`.
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
}

impl Layer<Tensor> for Linear {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        x.f_linear(&self.weight, Some(&self.bias)).map_err(failed)
    }
}
