//! The exchange of channels between two ranks, each of which has one half of them (paper, figure 2:
//! where the towers are connected).

use alexnet_core::{Backward, Layer, Mode, Result};
use rayon::prelude::*;

use super::CpuLayer;
use crate::{
    division::LayerRanks,
    parallel::ELEMENTS,
    tensor::{Pool, Tensor},
};

/// From the half of the channels of this rank, `[C/2, H, W]`, to all channels `[C, H, W]`. A later
/// layer computes only the outputs of its rank, so the gradients that it returns are added over the
/// ranks.
pub struct ExchangeChannels {
    /// The ranks, two.
    pub ranks: LayerRanks,
    /// The pool for outputs.
    pub pool: Pool,
}

impl Layer<Tensor> for ExchangeChannels {
    fn forward(&mut self, x: Tensor, _: Mode) -> Result<Tensor> {
        let half = x.item[0];
        let mut other = self.pool.take(x.values().len());
        self.ranks.exchange(x.values(), &mut other)?;
        let (first, second) = match self.ranks.share().rank {
            0 => (x.values(), &other[..]),
            _ => (&other[..], x.values()),
        };
        let mut y = self.pool.tensor(x.batch, &[2 * half, x.item[1], x.item[2]]);
        let pixels = first.par_chunks(half).zip(second.par_chunks(half));
        let pixels = y.values_mut().par_chunks_mut(2 * half).zip(pixels);
        pixels.with_min_len(ELEMENTS / half).for_each(|(y, (first, second))| {
            y[..half].copy_from_slice(first);
            y[half..].copy_from_slice(second);
        });
        Ok(y)
    }
}

impl Backward<Tensor> for ExchangeChannels {
    fn backward(&mut self, dy: Tensor) -> Result<Tensor> {
        let half = dy.item[0] / 2;
        let mut dx = self.pool.tensor(dy.batch, &[half, dy.item[1], dy.item[2]]);
        let mut send = self.pool.take(dx.values().len());
        let is_first = self.ranks.share().rank == 0;
        let pixels = dx.values_mut().par_chunks_mut(half).zip(send.par_chunks_mut(half));
        let pixels = pixels.zip(dy.values().par_chunks(2 * half));
        pixels.with_min_len(ELEMENTS / half).for_each(|((own, other), dy)| {
            let (first, second) = dy.split_at(half);
            let (of_own, of_other) = if is_first { (first, second) } else { (second, first) };
            own.copy_from_slice(of_own);
            other.copy_from_slice(of_other);
        });
        let mut received = self.pool.take(send.len());
        self.ranks.exchange(&send, &mut received)?;
        let pieces = dx.values_mut().par_chunks_mut(ELEMENTS).zip(received.par_chunks(ELEMENTS));
        pieces
            .for_each(|(own, more)| own.iter_mut().zip(more).for_each(|(own, more)| *own += more));
        Ok(dx)
    }
}

impl CpuLayer for ExchangeChannels {}
