//! Inverted dropout with the masks of [`alexnet_core::rng`].

use alexnet_core::{Layer, Mode, Result, rng::dropout_scale};
use rayon::prelude::*;
use tch::{Device, Tensor};

use crate::error::failed;

/// Multiplies by 0 or 1/(1-p) in training.
pub struct Dropout {
    /// The probability of dropping an element.
    pub p: f32,
    /// The index of the node in the topology, which is part of the mask's key.
    pub node: usize,
    /// The device of the input.
    pub device: Device,
}

impl Layer<Tensor> for Dropout {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let Mode::Train { seed, step, .. } = mode else { return Ok(x) };
        let first = mode.first_image();
        let size = x.size();
        // The mask of an image has the order `[C, H, W]`.
        let item = size[1..].iter().product::<i64>() as usize;
        let mut scale = vec![0.0; size[0] as usize * item];
        scale
            .par_chunks_exact_mut(item)
            .enumerate()
            .for_each(|(i, scale)| dropout_scale(seed, step, self.node, first + i, self.p, scale));
        let multiplied = || {
            let scale =
                Tensor::f_from_slice(&scale)?.f_view(size.as_slice())?.f_to_device(self.device)?;
            x.f_mul(&scale)
        };
        multiplied().map_err(failed)
    }
}
