//! The operations of libtorch for [`alexnet_core::autodiff::AutodiffModel`].

use alexnet_core::{
    Array, Images, Optimizer, Precision, Result, Step,
    autodiff::{Autodiff, ParameterState},
};
use rayon::prelude::*;
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    error::failed,
    optimizer::{square_sum, update},
    parameter::{to_array, to_tensor},
};

/// The number of pixels that one task normalizes.
const PIXELS: usize = 1 << 13;

/// libtorch on a device.
pub struct Libtorch {
    /// The device.
    pub device: Device,
    /// The precision of convolutions and linear layers.
    pub precision: Precision,
}

impl Libtorch {
    /// Returns the type of the factors of convolutions and linear layers.
    pub fn factors(&self) -> Kind {
        match self.precision {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        }
    }
}

impl Autodiff for Libtorch {
    type Tensor = Tensor;

    /// Returns `[N, 3, H, W]` in `channels_last` order, which is the order of the bytes.
    fn normalize(&self, images: &Images) -> Result<Tensor> {
        normalize(images, self.device).map_err(failed)
    }

    fn to_tensor(&self, array: &Array) -> Result<Tensor> {
        to_tensor(array, self.device).map_err(failed)
    }

    fn to_array(&self, tensor: &Tensor) -> Result<Array> {
        to_array(tensor).map_err(failed)
    }

    fn leaf(&self, values: Tensor) -> Result<Tensor> {
        values.f_set_requires_grad(true).map_err(failed)
    }

    fn zeros_like(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.f_zeros_like().map_err(failed)
    }

    fn share(&self, tensor: &Tensor) -> Tensor {
        tensor.shallow_clone()
    }

    fn detach(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.f_detach().map_err(failed)
    }

    fn positive_part(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.f_relu().map_err(failed)
    }

    fn backward(&self, y: &Tensor, dy: &Tensor, leaves: &[&Tensor]) -> Result<Vec<Tensor>> {
        // The derivative of this sum with respect to y is dy.
        let gradients = || {
            let sum = y.f_mul(dy)?.f_sum(None)?;
            Tensor::f_run_backward(&[sum], leaves, false, false)
        };
        gradients().map_err(failed)
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
        update(parameter, gradient, optimizer, step, scale).map_err(failed)
    }

    fn without_recording<R>(run: impl FnOnce() -> R) -> R {
        let _guard = tch::no_grad_guard();
        run()
    }
}

fn normalize(images: &Images, device: Device) -> Result<Tensor, TchError> {
    let table = images.normalization.table();
    let size = [images.len() as i64, images.height as i64, images.width as i64, 3];
    let x = Tensor::f_empty(size, (Kind::Float, Device::Cpu))?;
    // In pieces, so that the numbers are still in the cache when libtorch copies them.
    let pieces = x.f_view(-1)?.f_split(3 * PIXELS as i64, 0)?;
    pieces.into_par_iter().zip(images.pixels.par_chunks(3 * PIXELS)).try_for_each(
        |(mut piece, bytes)| {
            let pixels = bytes.as_chunks::<3>().0.iter();
            let numbers: Vec<[f32; 3]> = pixels
                .map(|pixel| std::array::from_fn(|c| table[c][usize::from(pixel[c])]))
                .collect();
            piece.f_copy_(&Tensor::f_from_slice(numbers.as_flattened())?)
        },
    )?;
    x.f_permute([0, 3, 1, 2])?.f_to_device(device)
}
