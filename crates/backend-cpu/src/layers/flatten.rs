//! Flattens images `[C, H, W]` to `[C·H·W]` in PyTorch's order.

use alexnet_core::{Backward, Layer, Mode, Result};
use rayon::prelude::*;

use super::CpuLayer;
use crate::tensor::{Pool, Tensor, channels_first, channels_last};

/// Flattens items of this shape.
pub struct Flatten {
    /// The shape `[C, H, W]`.
    pub item: Vec<usize>,
    /// The pool for the output.
    pub pool: Pool,
}

impl Layer<Tensor> for Flatten {
    fn forward(&mut self, x: Tensor, _: Mode) -> Result<Tensor> {
        let len = x.item_len();
        let mut y = self.pool.tensor(x.batch, &[len]);
        let items = y.values_mut().par_chunks_mut(len).zip(x.values().par_chunks(len));
        items.for_each(|(y, x)| channels_first(&self.item, x, y));
        Ok(y)
    }
}

impl Backward<Tensor> for Flatten {
    fn backward(&mut self, dy: Tensor) -> Result<Tensor> {
        let mut dx = self.pool.tensor(dy.batch, &self.item);
        let len = dy.item_len();
        let items = dx.values_mut().par_chunks_mut(len).zip(dy.values().par_chunks(len));
        items.for_each(|(dx, dy)| channels_last(&self.item, dy, dx));
        Ok(dx)
    }
}

impl CpuLayer for Flatten {}
