//! Copies parameters, moments and gradients between the host and the device.

use alexnet_core::Array;
use tch::{Device, TchError, Tensor};

/// Copies to `device`. Tensors of four dimensions get `channels_last` order.
///
/// # Errors
/// Those of libtorch.
pub fn to_tensor(array: &Array, device: Device) -> Result<Tensor, TchError> {
    let shape: Vec<i64> = array.shape.iter().map(|extent| *extent as i64).collect();
    let tensor =
        Tensor::f_from_slice(&array.values)?.f_view(shape.as_slice())?.f_to_device(device)?;
    match shape.len() {
        4 => tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2]),
        _ => Ok(tensor),
    }
}

/// Copies to the host, in row-major order.
///
/// # Errors
/// Those of libtorch.
pub fn to_array(tensor: &Tensor) -> Result<Array, TchError> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut values = vec![0.0; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(Array { shape: tensor.size().into_iter().map(|extent| extent as usize).collect(), values })
}
