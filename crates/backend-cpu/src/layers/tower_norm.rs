//! Local response normalization over the channels of two ranks, each of which has one half of them.
//! Near the border between the halves, a rank needs channels of the other rank.

use alexnet_core::{Backward, Layer, Mode, Result};
use rayon::prelude::*;

use super::{CpuLayer, LocalResponseNorm, needs_backward};
use crate::{
    division::LayerRanks,
    parallel::ELEMENTS,
    tensor::{Pool, Tensor},
};

/// [`LocalResponseNorm`] of the channels of this rank, `[C/2, H, W]`, with the nearest channels of the
/// other rank beside them.
pub struct TowerNorm {
    norm: LocalResponseNorm,
    /// The number of channels on each side that the window of a channel has.
    reach: usize,
    ranks: LayerRanks,
    pool: Pool,
}

impl TowerNorm {
    /// Creates a layer with the normalization over `size` channels.
    pub fn new(norm: LocalResponseNorm, size: usize, ranks: LayerRanks, pool: Pool) -> Self {
        Self { norm, reach: size / 2, ranks, pool }
    }

    fn is_first(&self) -> bool {
        self.ranks.share().rank == 0
    }

    /// Returns the channels of this rank and, beside them, `added` channels, of which the nearest
    /// `received` are the other rank's and the others are 0.
    fn widened(&self, own: &Tensor, added: usize, received: usize) -> Result<Tensor> {
        let channels = own.item[0];
        let pixels = own.values().len() / channels;
        let mut border = self.pool.take(pixels * received);
        let nearest = if self.is_first() { channels - received } else { 0 };
        let borders = border.par_chunks_mut(received).zip(own.values().par_chunks(channels));
        borders
            .with_min_len(ELEMENTS / channels)
            .for_each(|(border, own)| border.copy_from_slice(&own[nearest..][..received]));
        let mut other = self.pool.take(border.len());
        self.ranks.exchange(&border, &mut other)?;

        let mut wide = self.pool.tensor(own.batch, &[channels + added, own.item[1], own.item[2]]);
        let pixels = own.values().par_chunks(channels).zip(other.par_chunks(received));
        let pixels = wide.values_mut().par_chunks_mut(channels + added).zip(pixels);
        pixels.with_min_len(ELEMENTS / channels).for_each(|(wide, (own, other))| {
            if self.is_first() {
                let (to_own, added) = wide.split_at_mut(channels);
                to_own.copy_from_slice(own);
                added[..received].copy_from_slice(other);
                added[received..].fill(0.0);
            } else {
                let (added_to, to_own) = wide.split_at_mut(added);
                to_own.copy_from_slice(own);
                added_to[added - received..].copy_from_slice(other);
                added_to[..added - received].fill(0.0);
            }
        });
        Ok(wide)
    }

    /// Returns the channels of this rank, out of those of [`TowerNorm::widened`].
    fn own_channels(&self, wide: &Tensor, added: usize) -> Tensor {
        let channels = wide.item[0] - added;
        let start = if self.is_first() { 0 } else { added };
        let mut own = self.pool.tensor(wide.batch, &[channels, wide.item[1], wide.item[2]]);
        let pixels = own.values_mut().par_chunks_mut(channels);
        let pixels = pixels.zip(wide.values().par_chunks(channels + added));
        pixels
            .with_min_len(ELEMENTS / channels)
            .for_each(|(own, wide)| own.copy_from_slice(&wide[start..][..channels]));
        own
    }

    /// The backward pass needs the windows of the other rank's channels whose windows have channels
    /// of this one.
    fn backward_reach(&self) -> usize {
        2 * self.reach
    }
}

impl Layer<Tensor> for TowerNorm {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let added = if needs_backward(mode) { self.backward_reach() } else { self.reach };
        let wide = self.widened(&x, added, added)?;
        let wide = self.norm.forward(wide, mode)?;
        Ok(self.own_channels(&wide, added))
    }
}

impl Backward<Tensor> for TowerNorm {
    fn backward(&mut self, dy: Tensor) -> Result<Tensor> {
        let added = self.backward_reach();
        let wide = self.widened(&dy, added, self.reach)?;
        let wide = self.norm.backward(wide)?;
        Ok(self.own_channels(&wide, added))
    }
}

impl CpuLayer for TowerNorm {}
