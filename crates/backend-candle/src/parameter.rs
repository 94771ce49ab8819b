//! A parameter with its moments, and its way between the host and the device.

use alexnet_core::{Array, Options, State};
use candle_core::{Device, Result, Tensor, Var};

/// A parameter of a layer. It and its moments are in this engine's layout: the weight of a convolution is
/// `[outputs, kernel, kernel, inputs/groups]`, in the order of a patch; all else is as in PyTorch.
pub struct Parameter {
    /// `features.0.weight`.
    pub name: String,
    /// Shares its storage with the layer's.
    pub values: Var,
    /// Whether it learns; if not, it is outside of all graphs and has no moments.
    pub learns: bool,
    /// In the order of [`alexnet_core::Optimizer::moments`].
    pub moments: Vec<Tensor>,
}

impl Parameter {
    /// The parameter `name` of `state`, with its moments or zeros.
    ///
    /// # Errors
    /// candle's, when the device is full.
    pub fn load(name: &str, state: &State, options: &Options, device: &Device) -> Result<Self> {
        let learns = !options.frozen.contains(name);
        let values = Var::from_tensor(&to_tensor(&state.parameters[name], device)?)?;
        let moment = |moment: &&str| match state.moments.get(&format!("{name}.{moment}")) {
            Some(saved) => to_tensor(saved, device),
            None => values.zeros_like(),
        };
        let names = if learns { options.optimizer.moments() } else { &[] };
        let moments = names.iter().map(moment).collect::<Result<_>>()?;
        Ok(Self { name: name.to_owned(), values, learns, moments })
    }

    /// Its shape as PyTorch has it.
    pub fn shape(&self) -> Vec<usize> {
        match *self.values.dims() {
            [outputs, height, width, inputs] => vec![outputs, inputs, height, width],
            ref dims => dims.to_vec(),
        }
    }

    /// What a layer computes with: a leaf of its graph when it learns.
    pub fn tensor(&self) -> Tensor {
        if self.learns { self.values.as_tensor().clone() } else { self.values.as_detached_tensor() }
    }
}

/// From PyTorch's layout to this engine's.
///
/// # Errors
/// candle's, when the device is full.
pub fn to_tensor(array: &Array, device: &Device) -> Result<Tensor> {
    let tensor = Tensor::from_slice(&array.values, array.shape.as_slice(), device)?;
    if tensor.rank() == 4 { tensor.permute((0, 2, 3, 1))?.contiguous() } else { Ok(tensor) }
}

/// A parameter, a moment or a gradient in PyTorch's layout, on the host.
///
/// # Errors
/// candle's.
pub fn to_array(tensor: &Tensor) -> Result<Array> {
    let tensor = if tensor.rank() == 4 { tensor.permute((0, 3, 1, 2))? } else { tensor.clone() };
    Ok(Array { shape: tensor.dims().to_vec(), values: tensor.flatten_all()?.to_vec1()? })
}
