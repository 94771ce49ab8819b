//! `[C, H, W]` to `[C·H·W]`; nothing moves.

use alexnet_core::{Backward, Layer, Mode, Result};

use super::CpuLayer;
use crate::tensor::Tensor;

/// Flattens items of this shape.
pub struct Flatten {
    /// `[C, H, W]`.
    pub item: Vec<usize>,
}

impl Layer<Tensor> for Flatten {
    fn forward(&mut self, x: Tensor, _: Mode) -> Result<Tensor> {
        let len = x.item_len();
        Ok(x.reshaped(&[len]))
    }
}

impl Backward<Tensor> for Flatten {
    fn backward(&mut self, dy: Tensor) -> Result<Tensor> {
        Ok(dy.reshaped(&self.item))
    }
}

impl CpuLayer for Flatten {}
