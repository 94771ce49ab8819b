//! Inverted dropout with core's masks.

use alexnet_core::{Layer, Mode, Result, rng::dropout_scale};
use candle_core::Tensor;
use rayon::prelude::*;

use crate::error::failed;

/// Multiplies by 0 or 1/(1-p) in training.
pub struct Dropout {
    /// Probability of dropping.
    pub p: f32,
    /// Index in the topology, part of the mask's key.
    pub node: usize,
}

impl Dropout {
    /// The factors of step `step` for images from `sample_offset` on, in the layout of `x`.
    fn scale(&self, x: &Tensor, seed: u64, step: u64, sample_offset: usize) -> candle_core::Result<Tensor> {
        let mut scale = vec![0.0; x.elem_count()];
        let features = x.dims()[1..].iter().product();
        scale.par_chunks_mut(features).enumerate().for_each(|(item, scale)| {
            dropout_scale(seed, step, self.node, sample_offset + item, self.p, scale)
        });
        match *x.dims() {
            // They are drawn in PyTorch's order, channels first.
            [n, h, w, c] => Tensor::from_vec(scale, (n, c, h, w), x.device())?.permute((0, 2, 3, 1)),
            _ => Tensor::from_vec(scale, x.shape(), x.device()),
        }
    }
}

impl Layer<Tensor> for Dropout {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let Mode::Train { seed, step, sample_offset } = mode else { return Ok(x) };
        self.scale(&x, seed, step, sample_offset).and_then(|scale| x * scale).map_err(failed)
    }
}
