//! Inverted dropout with the masks of [`alexnet_core::rng`].

use alexnet_core::{Backward, Layer, Mode, Result, rng::dropout_scale};
use rayon::prelude::*;

use super::CpuLayer;
use crate::tensor::{Pool, Tensor, channels_last};

/// Multiplies by 0 or 1/(1-p) in training.
pub struct Dropout {
    /// The probability of dropping an element.
    pub p: f32,
    /// The index of the node in the topology, which is part of the mask's key.
    pub node: usize,
    /// The pool for the masks.
    pub pool: Pool,
    /// The factors of the forward pass.
    saved_for_backward: Option<Tensor>,
}

impl Dropout {
    /// Creates the layer for node `node` of the topology.
    pub fn new(p: f32, node: usize, pool: Pool) -> Self {
        Self { p, node, pool, saved_for_backward: None }
    }
}

fn multiply(x: &mut Tensor, scale: &Tensor) {
    let len = x.item_len();
    x.values_mut()
        .par_chunks_mut(len)
        .zip(scale.values().par_chunks(len))
        .for_each(|(x, scale)| x.iter_mut().zip(scale).for_each(|(x, s)| *x *= s));
}

impl Layer<Tensor> for Dropout {
    fn forward(&mut self, mut x: Tensor, mode: Mode) -> Result<Tensor> {
        self.saved_for_backward = None;
        if let Mode::Train { seed, step, .. } = mode {
            let first = mode.first_image();
            let mut scale = self.pool.tensor(x.batch, &x.item);
            let len = x.item_len();
            scale.values_mut().par_chunks_mut(len).enumerate().for_each(|(index, scale)| {
                let item = first + index;
                if x.item.len() == 1 {
                    return dropout_scale(seed, step, self.node, item, self.p, scale);
                }
                // Masks are drawn in PyTorch's order of elements.
                let mut drawn = self.pool.take(len);
                dropout_scale(seed, step, self.node, item, self.p, &mut drawn);
                channels_last(&x.item, &drawn, scale);
            });
            multiply(&mut x, &scale);
            self.saved_for_backward = Some(scale);
        }
        Ok(x)
    }
}

impl Backward<Tensor> for Dropout {
    fn backward(&mut self, mut dy: Tensor) -> Result<Tensor> {
        if let Some(scale) = self.saved_for_backward.take() {
            multiply(&mut dy, &scale);
        }
        Ok(dy)
    }
}

impl CpuLayer for Dropout {}
