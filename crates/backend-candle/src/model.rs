//! The operations of candle for [`alexnet_core::autodiff::AutodiffModel`].

use alexnet_core::{
    Array, Error, Images, Optimizer, Result, Step,
    autodiff::{Autodiff, ParameterState},
};
use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;

use crate::{
    error::{NAME, failed},
    optimizer::{square_sum, update},
    parameter::{to_array, to_tensor},
};

/// candle on a device.
pub struct Candle {
    /// The device.
    pub device: Device,
}

impl Autodiff for Candle {
    type Tensor = Tensor;

    /// Returns `[N, H, W, 3]`, in the order of the bytes.
    fn normalize(&self, images: &Images) -> Result<Tensor> {
        let table = images.normalization.table();
        let mut values = vec![0.0; images.pixels.len()];
        let rows =
            values.par_chunks_mut(3 * images.width).zip(images.pixels.par_chunks(3 * images.width));
        rows.for_each(|(values, pixels)| {
            for (values, pixel) in values.chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
                for c in 0..3 {
                    values[c] = table[c][usize::from(pixel[c])];
                }
            }
        });
        Tensor::from_vec(values, (images.len(), images.height, images.width, 3), &self.device)
            .map_err(failed)
    }

    fn to_tensor(&self, array: &Array) -> Result<Tensor> {
        to_tensor(array, &self.device).map_err(failed)
    }

    fn to_array(&self, tensor: &Tensor) -> Result<Array> {
        to_array(tensor).map_err(failed)
    }

    fn leaf(&self, values: Tensor) -> Result<Tensor> {
        Ok(Var::from_tensor(&values).map_err(failed)?.into_inner())
    }

    fn zeros_like(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.zeros_like().map_err(failed)
    }

    fn share(&self, tensor: &Tensor) -> Tensor {
        tensor.clone()
    }

    fn detach(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.detach())
    }

    fn positive_part(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.relu().map_err(failed)
    }

    fn backward(&self, y: &Tensor, dy: &Tensor, leaves: &[&Tensor]) -> Result<Vec<Tensor>> {
        let mut gradients =
            (y * dy).and_then(|product| product.sum_all()?.backward()).map_err(failed)?;
        let gradient = |leaf: &&Tensor| {
            gradients.remove(leaf).ok_or_else(|| Error::Backend {
                backend: NAME,
                message: format!("a tensor of shape {:?} has no gradient", leaf.dims()),
            })
        };
        leaves.iter().map(gradient).collect()
    }

    fn square_sum(&self, gradient: &Tensor) -> Result<f64> {
        square_sum(gradient).map_err(failed)
    }

    fn update(
        &self,
        parameter: &mut ParameterState<Tensor>,
        gradient: &Tensor,
        optimizer: &Optimizer,
        step: &Step,
        scale: f64,
    ) -> Result<()> {
        update(parameter, gradient, optimizer, step, scale as f32).map_err(failed)
    }
}
