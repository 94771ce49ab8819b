//! The seven operations as calls of libtorch. Tensors are `[N, C, H, W]` in `channels_last` order, or `[N, features]`.

use alexnet_core::{Layer, Mode, Result, rng::dropout_scale};
use rayon::prelude::*;
use tch::{Device, TchError, Tensor};

use crate::failed;

/// `torch.nn.functional.conv2d`.
pub struct Conv2d {
    /// `[out, in/groups, kernel, kernel]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
    /// Distance of two positions.
    pub stride: i64,
    /// Zeros on each side.
    pub padding: i64,
    /// Groups of channels.
    pub groups: i64,
}

impl Layer<Tensor> for Conv2d {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        x.f_conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], self.groups).map_err(failed)
    }
}

/// `torch.nn.functional.linear`.
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
}

impl Layer<Tensor> for Linear {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        x.f_linear(&self.weight, Some(&self.bias)).map_err(failed)
    }
}

/// `torch.nn.functional.relu`.
pub struct Relu {
    /// Whether the input may be overwritten: nobody needs it for a gradient.
    pub in_place: bool,
}

impl Layer<Tensor> for Relu {
    fn forward(&mut self, mut x: Tensor, _mode: Mode) -> Result<Tensor> {
        if self.in_place { x.f_relu_() } else { x.f_relu() }.map_err(failed)
    }
}

/// `torch.nn.functional.max_pool2d`; the first of equals wins there too.
pub struct MaxPool2d {
    /// Height and width of the window.
    pub kernel: i64,
    /// Distance of two windows.
    pub stride: i64,
}

impl Layer<Tensor> for MaxPool2d {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        x.f_max_pool2d([self.kernel; 2], [self.stride; 2], [0, 0], [1, 1], false).map_err(failed)
    }
}

/// `x · (k + alpha · Σ x²)^-beta` over a window of channels (paper, section 3.3), composed: libtorch has no such operation.
pub struct LocalResponseNorm {
    /// Channels of the window.
    pub size: i64,
    /// The paper's alpha, not divided by `size`.
    pub alpha: f64,
    /// Exponent.
    pub beta: f64,
    /// Added to the sum.
    pub k: f64,
}

impl LocalResponseNorm {
    fn normalised(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let channels = x.size()[1];
        // The last two numbers pad dimension 1 before and after.
        let padded = x.f_square()?.f_constant_pad_nd([0, 0, 0, 0, self.size / 2, (self.size - 1) / 2])?;
        let mut sum = padded.f_narrow(1, 0, channels)?;
        for shift in 1..self.size {
            sum = sum.f_add(&padded.f_narrow(1, shift, channels)?)?;
        }
        let denominator = sum.f_mul_scalar(self.alpha)?.f_add_scalar(self.k)?;
        x.f_mul(&denominator.f_pow_tensor_scalar(-self.beta)?)
    }
}

impl Layer<Tensor> for LocalResponseNorm {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        self.normalised(&x).map_err(failed)
    }
}

/// `torch.flatten` of all but the first dimension, in the order `[C, H, W]`.
pub struct Flatten;

impl Layer<Tensor> for Flatten {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        x.f_flatten(1, -1).map_err(failed)
    }
}

/// Inverted dropout with core's masks.
pub struct Dropout {
    /// Probability of dropping.
    pub p: f32,
    /// Index in the topology, part of the mask's key.
    pub node: usize,
    /// Where the input is.
    pub device: Device,
}

impl Layer<Tensor> for Dropout {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let Mode::Train { seed, step, sample_offset } = mode else { return Ok(x) };
        let size = x.size();
        // Masks are in the order `[C, H, W]` of one picture.
        let item = size[1..].iter().product::<i64>() as usize;
        let mut scale = vec![0.0; size[0] as usize * item];
        scale
            .par_chunks_exact_mut(item)
            .enumerate()
            .for_each(|(i, scale)| dropout_scale(seed, step, self.node, sample_offset + i, self.p, scale));
        let multiplied = || {
            let scale = Tensor::f_from_slice(&scale)?.f_view(size.as_slice())?.f_to_device(self.device)?;
            x.f_mul(&scale)
        };
        multiplied().map_err(failed)
    }
}
