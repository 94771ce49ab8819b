//! Local response normalization (paper, section 3.3).

use alexnet_core::{Layer, Mode, Result};
use candle_core::{Device, Tensor};

use crate::error::failed;

/// `y[c] = x[c] · s[c]^-beta` with `s[c] = k + alpha · Σ x[j]²`, j in the window around c.
pub struct LocalResponseNorm {
    /// Channels of the window.
    pub size: usize,
    /// The paper's alpha, not divided by `size`.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added to the sum.
    pub k: f32,
}

impl LocalResponseNorm {
    fn normalize(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let squares = x.sqr()?.flatten_to(2)?;
        let sums = squares.matmul(&self.band(x.dim(3)?, x.device())?)?.reshape(x.shape())?;
        x * sums.affine(f64::from(self.alpha), f64::from(self.k))?.powf(-f64::from(self.beta))?
    }

    /// `[C, C]`, 1 where channel j (row) is in the window around channel c (column), else 0: a row of channels times this
    /// is the row of window sums, and candle knows its derivative.
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
