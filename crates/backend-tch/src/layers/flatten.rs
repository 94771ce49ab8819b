//! `[N, C, H, W]` to `[N, C·H·W]`.

use alexnet_core::{Layer, Mode, Result};
use tch::Tensor;

use crate::error::failed;

/// `torch.flatten` of all but the first dimension, in the order `[C, H, W]`.
pub struct Flatten;

impl Layer<Tensor> for Flatten {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        x.f_flatten(1, -1).map_err(failed)
    }
}
