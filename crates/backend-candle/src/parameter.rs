//! Copies parameters, moments and gradients between the host and the device. On the device, the
//! weight of a convolution is `[outputs, kernel, kernel, inputs/groups]`, in the order of a patch.
//! All other parameters are as in PyTorch.

use alexnet_core::Array;
use candle_core::{Device, Result, Tensor};

/// Copies to the device and converts from PyTorch's layout to that of this engine.
///
/// # Errors
/// Those of candle, when the device is out of memory.
pub fn to_tensor(array: &Array, device: &Device) -> Result<Tensor> {
    let tensor = Tensor::from_slice(&array.values, array.shape.as_slice(), device)?;
    if tensor.rank() == 4 { tensor.permute((0, 2, 3, 1))?.contiguous() } else { Ok(tensor) }
}

/// Copies to the host and converts from the layout of this engine to PyTorch's.
///
/// # Errors
/// Those of candle.
pub fn to_array(tensor: &Tensor) -> Result<Array> {
    let tensor = if tensor.rank() == 4 { tensor.permute((0, 3, 1, 2))? } else { tensor.clone() };
    Ok(Array { shape: tensor.dims().to_vec(), values: tensor.flatten_all()?.to_vec1()? })
}
