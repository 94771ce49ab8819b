//! Local response normalization (paper, section 3.3).

use alexnet_core::{Layer, Mode, Result};
use candle_core::{Device, Tensor};

use crate::error::failed;

/// `y[c] = x[c] · s[c]^-beta` with `s[c] = k + alpha · Σ x[j]²`, where j runs over the window
/// around c.
pub struct LocalResponseNorm {
    /// The number of channels of the window.
    pub size: usize,
    /// The factor of the sum, as in the paper (not divided by `size`).
    pub alpha: f32,
    /// The exponent.
    pub beta: f32,
    /// The number added to the sum.
    pub k: f32,
}

impl LocalResponseNorm {
    fn normalize(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let squares = x.sqr()?.flatten_to(2)?;
        let sums = squares.matmul(&self.band(x.dim(3)?, x.device())?)?.reshape(x.shape())?;
        x * sums.affine(f64::from(self.alpha), f64::from(self.k))?.powf(-f64::from(self.beta))?
    }

    /// Returns a matrix `[C, C]` that is 1 where channel j (row) is in the window around channel c
    /// (column), else 0. A row of channels multiplied by it is the row of window sums, and candle
    /// can differentiate the product.
    fn band(&self, channels: usize, device: &Device) -> candle_core::Result<Tensor> {
        let in_window = |j: usize, c: usize| j + self.size / 2 >= c && j <= c + (self.size - 1) / 2;
        let pairs = (0..channels).flat_map(|j| (0..channels).map(move |c| (j, c)));
        let band: Vec<f32> = pairs.map(|(j, c)| if in_window(j, c) { 1.0 } else { 0.0 }).collect();
        Tensor::from_vec(band, (channels, channels), device)
    }
}

impl Layer<Tensor> for LocalResponseNorm {
    fn forward(&mut self, x: Tensor, _: Mode) -> Result<Tensor> {
        self.normalize(&x).map_err(failed)
    }
}
