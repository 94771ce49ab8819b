//! Rectified linear units on their own; those that follow a convolution or a linear layer are fused into it.

use alexnet_core::{Backward, Layer, Mode, Result};
use rayon::prelude::*;

use super::{CpuLayer, keeps, kept};
use crate::{parallel::ELEMENTS, tensor::Tensor};

/// `max(x, 0)`.
#[derive(Default)]
pub struct Relu {
    y: Option<Tensor>,
}

/// `max(x, 0)` that hands a NaN on, as PyTorch does.
#[inline(always)]
pub fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// Zeroes the gradient where the output was not positive.
#[inline(always)]
pub fn mask_gradient(dy: &mut [f32], y: &[f32]) {
    for (dy, y) in dy.iter_mut().zip(y) {
        *dy = if *y > 0.0 { *dy } else { 0.0 };
    }
}

impl Layer<Tensor> for Relu {
    fn forward(&mut self, mut x: Tensor, mode: Mode) -> Result<Tensor> {
        x.values_mut()
            .par_chunks_mut(ELEMENTS)
            .for_each(|chunk| chunk.iter_mut().for_each(|x| *x = relu(*x)));
        self.y = keeps(mode).then(|| x.clone());
        Ok(x)
    }
}

impl Backward<Tensor> for Relu {
    fn backward(&mut self, mut dy: Tensor) -> Result<Tensor> {
        let y = kept(&mut self.y);
        let chunks = dy.values_mut().par_chunks_mut(ELEMENTS).zip(y.values().par_chunks(ELEMENTS));
        chunks.for_each(|(dy, y)| mask_gradient(dy, y));
        Ok(dy)
    }
}

impl CpuLayer for Relu {}
