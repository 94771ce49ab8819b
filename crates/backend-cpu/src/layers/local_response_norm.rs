//! Local response normalization (paper, section 3.3).

use alexnet_core::{Backward, Layer, Mode, Result};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{CpuLayer, needs_backward, take_saved};
use crate::{
    kernels::Isa,
    tensor::{Pool, Tensor},
};

/// `y[c] = x[c] · s[c]^-beta` with `s[c] = k + alpha · Σ x[j]²`, where j runs over the window
/// around c.
pub struct LocalResponseNorm {
    constants: Constants,
    isa: Isa,
    pool: Pool,
    /// The input.
    saved_for_backward: Option<Tensor>,
}

/// The constants of [`alexnet_core::Op::LocalResponseNorm`].
#[derive(Clone, Copy)]
pub struct Constants {
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
    /// Creates a layer with these constants.
    pub fn new(constants: Constants, isa: Isa, pool: Pool) -> Self {
        Self { constants, isa, pool, saved_for_backward: None }
    }
}

impl Constants {
    /// Computes `s` for the channels `x [C]` of one pixel. `squares` is a scratch buffer of `C +
    /// size - 1` numbers with zeros at both ends.
    #[inline(always)]
    fn denominators(&self, x: &[f32], squares: &mut [f32], s: &mut [f32]) {
        squares[self.size / 2..].iter_mut().zip(x).for_each(|(square, x)| *square = x * x);
        window_sums(squares, self.size, s);
        s.iter_mut().for_each(|s| *s = self.k + self.alpha * *s);
    }

    /// Returns `s^-beta`.
    #[inline(always)]
    fn power(&self, s: f32) -> f32 {
        // The exponent of the paper can be computed with square roots, without a logarithm.
        if self.beta == 0.75 { 1.0 / (s.sqrt() * s.sqrt().sqrt()) } else { s.powf(-self.beta) }
    }
}

/// Computes `sums[c] = Σ padded[c..c + size]`.
#[inline(always)]
fn window_sums(padded: &[f32], size: usize, sums: &mut [f32]) {
    sums.fill(0.0);
    for shift in 0..size {
        sums.iter_mut().zip(&padded[shift..]).for_each(|(sum, value)| *sum += value);
    }
}

/// The kernel of the forward pass, from `x [P, C]` to `y [P, C]`.
struct Normalize<'a> {
    constants: Constants,
    channels: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { constants, channels, x, y } = self;
        let mut squares = vec![0.0; channels + constants.size - 1];
        for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            constants.denominators(x, &mut squares, y);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x * constants.power(*y));
        }
    }
}

/// The kernel of the backward pass: `dx[c] = dy[c]·s[c]^-beta - 2·alpha·beta·x[c] · Σ
/// dy[j]·x[j]·s[j]^(-beta-1)`, where j runs over the channels whose windows contain c.
struct NormalizeGradient<'a> {
    constants: Constants,
    channels: usize,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl WithSimd for NormalizeGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { constants, channels, x, dy, dx } = self;
        let Constants { size, alpha, beta, .. } = constants;
        let mut squares = vec![0.0; channels + size - 1];
        // The terms of the denominators, dy[j]·x[j]·s[j]^(-beta-1), with zeros at both ends.
        let mut terms = vec![0.0; channels + size - 1];
        let mut s = vec![0.0; channels];
        let pixels = x.chunks_exact(channels).zip(dy.chunks_exact(channels));
        for ((x, dy), dx) in pixels.zip(dx.chunks_exact_mut(channels)) {
            constants.denominators(x, &mut squares, &mut s);
            let inner = &mut terms[(size - 1) / 2..][..channels];
            for ((((dx, term), x), dy), s) in dx.iter_mut().zip(inner).zip(x).zip(dy).zip(&s) {
                let power = constants.power(*s);
                *dx = dy * power;
                *term = dy * x * power / s;
            }
            window_sums(&terms, size, &mut s);
            let factor = 2.0 * alpha * beta;
            dx.iter_mut().zip(x).zip(&s).for_each(|((dx, x), sum)| *dx -= factor * x * sum);
        }
    }
}

impl Layer<Tensor> for LocalResponseNorm {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let (len, channels, constants) = (x.item_len(), x.item[0], self.constants);
        let mut y = self.pool.tensor(x.batch, &x.item);
        y.values_mut().par_chunks_mut(len).zip(x.values().par_chunks(len)).for_each(|(y, x)| {
            self.isa.run(Normalize { constants, channels, x, y });
        });
        self.saved_for_backward = needs_backward(mode).then_some(x);
        Ok(y)
    }
}

impl Backward<Tensor> for LocalResponseNorm {
    fn backward(&mut self, dy: Tensor) -> Result<Tensor> {
        let x = take_saved(&mut self.saved_for_backward);
        let (len, channels, constants) = (x.item_len(), x.item[0], self.constants);
        let mut dx = self.pool.tensor(x.batch, &x.item);
        let images = dx.values_mut().par_chunks_mut(len).zip(x.values().par_chunks(len));
        images.zip(dy.values().par_chunks(len)).for_each(|((dx, x), dy)| {
            self.isa.run(NormalizeGradient { constants, channels, x, dy, dx });
        });
        Ok(dx)
    }
}

impl CpuLayer for LocalResponseNorm {}
