//! Inverted dropout with the masks of [`alexnet_core::rng`].

use alexnet_core::{Layer, Mode, Result, rng::dropout_scale};
use candle_core::Tensor;
use rayon::prelude::*;

use crate::error::failed;

/// Multiplies by 0 or 1/(1-p) in training.
pub struct Dropout {
    /// The probability of dropping an element.
    pub p: f32,
    /// The index of the node in the topology, which is part of the mask's key.
    pub node: usize,
}

impl Dropout {
    /// Returns the factors of step `step` for the images from index `first`, in the layout of `x`.
    fn scale(&self, x: &Tensor, seed: u64, step: u64, first: usize) -> candle_core::Result<Tensor> {
        let mut scale = vec![0.0; x.elem_count()];
        let features = x.dims()[1..].iter().product();
        scale.par_chunks_mut(features).enumerate().for_each(|(item, scale)| {
            dropout_scale(seed, step, self.node, first + item, self.p, scale)
        });
        match *x.dims() {
            // Masks are drawn in PyTorch's order of elements, channels first.
            [n, h, w, c] => {
                Tensor::from_vec(scale, (n, c, h, w), x.device())?.permute((0, 2, 3, 1))
            }
            _ => Tensor::from_vec(scale, x.shape(), x.device()),
        }
    }
}

impl Layer<Tensor> for Dropout {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let Mode::Train { seed, step, .. } = mode else { return Ok(x) };
        let scale = self.scale(&x, seed, step, mode.first_image());
        scale.and_then(|scale| x * scale).map_err(failed)
    }
}
