//! `[N, H, W, C]` to `[N, C·H·W]`.

use alexnet_core::{Layer, Mode, Result};
use candle_core::Tensor;

use crate::error::failed;

/// In PyTorch's order of features, so the channels come first.
pub struct Flatten;

impl Layer<Tensor> for Flatten {
    fn forward(&mut self, x: Tensor, _: Mode) -> Result<Tensor> {
        match x.rank() {
            4 => x.permute((0, 3, 1, 2)).and_then(|x| x.flatten_from(1)).map_err(failed),
            _ => Ok(x),
        }
    }
}
