//! Element-wise operations. The compiler vectorizes them for each instruction set.

use pulp::{Simd, WithSimd};

/// Returns `max(x, 0)`, or NaN for NaN, as in PyTorch.
#[inline(always)]
pub fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// Adds `bias [C]` to each pixel of `y [P, C]`, then computes `max(y, 0)` if `relu`.
pub struct AddBias<'a> {
    /// `[P, C]`.
    pub y: &'a mut [f32],
    /// `[C]`.
    pub bias: &'a [f32],
    /// Whether a ReLU is fused.
    pub relu: bool,
}

impl WithSimd for AddBias<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for pixel in self.y.chunks_exact_mut(self.bias.len()) {
            if self.relu {
                pixel.iter_mut().zip(self.bias).for_each(|(y, b)| *y = relu(*y + b));
            } else {
                pixel.iter_mut().zip(self.bias).for_each(|(y, b)| *y += b);
            }
        }
    }
}

/// Zeroes the gradient `dy` where the output `y` was not positive.
pub struct MaskGradient<'a> {
    /// The gradient.
    pub dy: &'a mut [f32],
    /// The output of the ReLU, as long.
    pub y: &'a [f32],
}

impl WithSimd for MaskGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (dy, y) in self.dy.iter_mut().zip(self.y) {
            *dy = if *y > 0.0 { *dy } else { 0.0 };
        }
    }
}

/// Adds `more` to `sum`.
pub struct AddTo<'a> {
    /// The sums.
    pub sum: &'a mut [f32],
    /// The numbers to add, as many.
    pub more: &'a [f32],
}

impl WithSimd for AddTo<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.sum.iter_mut().zip(self.more).for_each(|(sum, more)| *sum += more);
    }
}

/// Adds each pixel of `x [P, C]` to `sums [C]`, in order.
pub struct SumPixels<'a> {
    /// `[P, C]`.
    pub x: &'a [f32],
    /// `[C]`.
    pub sums: &'a mut [f32],
}

impl WithSimd for SumPixels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for pixel in self.x.chunks_exact(self.sums.len()) {
            self.sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
        }
    }
}
