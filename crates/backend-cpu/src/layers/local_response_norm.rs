//! Local response normalisation (paper, section 3.3).

use std::ops::Range;

use alexnet_core::{Backward, Layer, Mode, Result};
use rayon::prelude::*;

use super::{CpuLayer, keeps, kept};
use crate::tensor::{Pool, Tensor};

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
    pool: Pool,
    x: Option<Tensor>,
}

impl LocalResponseNorm {
    /// A layer with these constants.
    pub fn new(size: usize, alpha: f32, beta: f32, k: f32, pool: Pool) -> Self {
        Self { size, alpha, beta, k, pool, x: None }
    }

    /// The channels that channel `c` of `channels` is normalised over.
    fn window(&self, c: usize, channels: usize) -> Range<usize> {
        c.saturating_sub(self.size / 2)..(c + self.size.div_ceil(2)).min(channels)
    }

    /// The channels whose windows hold channel `c`.
    fn seen_by(&self, c: usize, channels: usize) -> Range<usize> {
        c.saturating_sub((self.size - 1) / 2)..(c + self.size / 2 + 1).min(channels)
    }

    /// `s` of channel `c` of one image, `[H·W]`.
    fn denominator(&self, x: &[f32], c: usize, plane: usize, s: &mut [f32]) {
        s.fill(0.0);
        for j in self.window(c, x.len() / plane) {
            s.iter_mut().zip(&x[j * plane..][..plane]).for_each(|(s, x)| *s += x * x);
        }
        s.iter_mut().for_each(|s| *s = self.k + self.alpha * *s);
    }
}

impl Layer<Tensor> for LocalResponseNorm {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let len = x.item_len();
        let plane = len / x.item[0];
        let mut y = self.pool.tensor(x.batch, &x.item);
        y.values_mut().par_chunks_mut(len).zip(x.values().par_chunks(len)).for_each(|(y, x)| {
            for (c, (y, own)) in y.chunks_exact_mut(plane).zip(x.chunks_exact(plane)).enumerate() {
                self.denominator(x, c, plane, y);
                y.iter_mut().zip(own).for_each(|(y, x)| *y = x * y.powf(-self.beta));
            }
        });
        self.x = keeps(mode).then_some(x);
        Ok(y)
    }
}

impl Backward<Tensor> for LocalResponseNorm {
    /// `dx[c] = dy[c]·s[c]^-beta - 2·alpha·beta·x[c] · Σ dy[j]·x[j]·s[j]^(-beta-1)`, j over the channels whose windows
    /// hold c.
    fn backward(&mut self, dy: Tensor) -> Result<Tensor> {
        let x = kept(&mut self.x);
        let len = x.item_len();
        let channels = x.item[0];
        let plane = len / channels;
        let mut dx = self.pool.tensor(x.batch, &x.item);
        let images = dx.values_mut().par_chunks_mut(len).zip(x.values().par_chunks(len));
        images.zip(dy.values().par_chunks(len)).for_each(|((dx, x), dy)| {
            // through[j] = dy[j]·x[j]·s[j]^(-beta-1), what channel j's denominator hands on.
            let mut through = self.pool.take(len);
            for j in 0..channels {
                let own = j * plane..(j + 1) * plane;
                let through = &mut through[own.clone()];
                self.denominator(x, j, plane, through);
                for (((dx, t), x), dy) in
                    dx[own.clone()].iter_mut().zip(through).zip(&x[own.clone()]).zip(&dy[own])
                {
                    let power = t.powf(-self.beta);
                    *dx = dy * power;
                    *t = dy * x * power / *t;
                }
            }
            let factor = 2.0 * self.alpha * self.beta;
            let mut sum = self.pool.take(plane);
            for c in 0..channels {
                sum.fill(0.0);
                for j in self.seen_by(c, channels) {
                    sum.iter_mut().zip(&through[j * plane..][..plane]).for_each(|(s, t)| *s += t);
                }
                let own = c * plane..(c + 1) * plane;
                for ((dx, x), s) in dx[own.clone()].iter_mut().zip(&x[own]).zip(sum.iter()) {
                    *dx -= factor * x * s;
                }
            }
        });
        Ok(dx)
    }
}

impl CpuLayer for LocalResponseNorm {}
