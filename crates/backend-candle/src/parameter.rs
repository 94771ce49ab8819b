//! Parameters, moments and gradients between the host and the device. On the device the weight of a convolution is
//! `[outputs, kernel, kernel, inputs/groups]`, in the order of a patch; all else is as in PyTorch.

use alexnet_core::Array;
use candle_core::{Device, Result, Tensor};

/// From PyTorch's layout to this engine's.
///
/// # Errors
/// candle's, when the device is full.
pub fn to_tensor(array: &Array, device: &Device) -> Result<Tensor> {
    let tensor = Tensor::from_slice(&array.values, array.shape.as_slice(), device)?;
    if tensor.rank() == 4 { tensor.permute((0, 2, 3, 1))?.contiguous() } else { Ok(tensor) }
}

/// From this engine's layout to PyTorch's, on the host.
///
/// # Errors
/// candle's.
pub fn to_array(tensor: &Tensor) -> Result<Array> {
    let tensor = if tensor.rank() == 4 { tensor.permute((0, 3, 1, 2))? } else { tensor.clone() };
    Ok(Array { shape: tensor.dims().to_vec(), values: tensor.flatten_all()?.to_vec1()? })
}
