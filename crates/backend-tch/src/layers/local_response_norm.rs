//! Local response normalization (paper, section 3.3).

use alexnet_core::{Layer, Mode, Result};
use tch::{TchError, Tensor};

use crate::error::failed;

/// `x · (k + alpha · Σ x²)^-beta` over a window of channels. It is composed of several operations,
/// since libtorch has none for it.
pub struct LocalResponseNorm {
    /// The number of channels of the window.
    pub size: i64,
    /// The factor of the sum, as in the paper (not divided by `size`).
    pub alpha: f64,
    /// The exponent.
    pub beta: f64,
    /// The number added to the sum.
    pub k: f64,
}

impl LocalResponseNorm {
    fn normalize(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let channels = x.size()[1];
        // The last two numbers pad dimension 1 before and after.
        let padded =
            x.f_square()?.f_constant_pad_nd([0, 0, 0, 0, self.size / 2, (self.size - 1) / 2])?;
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
        self.normalize(&x).map_err(failed)
    }
}
