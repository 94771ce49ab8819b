//! Overlapping max pooling (paper, section 3.4).

use alexnet_core::{Backward, Layer, Mode, Result};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{CpuLayer, needs_backward, take_saved};
use crate::{
    kernels::Isa,
    tensor::{Pool, Tensor},
};

/// The maximum of each window. Of equal numbers the first one in row-major order is taken. NaN
/// counts as the maximum, as in PyTorch.
pub struct MaxPool2d {
    kernel: usize,
    stride: usize,
    /// The input shape `[C, H, W]`.
    input: [usize; 3],
    /// The output shape `[C, H, W]`.
    pub output: [usize; 3],
    isa: Isa,
    pool: Pool,
    /// The index of the maximum in the window of each output.
    argmax: Vec<u32>,
    /// The batch size. The positions of the maxima are in `argmax`.
    saved_for_backward: Option<usize>,
}

impl MaxPool2d {
    /// Creates a layer from `input` to `output`, both `[C, H, W]`.
    pub fn new(
        kernel: usize,
        stride: usize,
        input: [usize; 3],
        output: [usize; 3],
        isa: Isa,
        pool: Pool,
    ) -> Self {
        Self {
            kernel,
            stride,
            input,
            output,
            isa,
            pool,
            argmax: Vec::new(),
            saved_for_backward: None,
        }
    }

    /// Computes the maxima `y [N, h, w, C]` of the windows of `x [N, H, W, C]`, and their indices
    /// in the windows, `argmax`.
    pub fn gather(&self, x: &[f32], y: &mut [f32], argmax: &mut [u32]) {
        let [channels, rows, columns] = self.output;
        let row = columns * channels;
        y.par_chunks_mut(row).zip(argmax.par_chunks_mut(row)).enumerate().for_each(
            |(i, (y, argmax))| {
                let x = &x[i / rows * self.lens().0..][..self.lens().0];
                self.isa.run(Gather { layer: self, row: i % rows, x, y, argmax });
            },
        );
    }

    /// Computes the gradient `dx [N, H, W, C]` from `dy [N, h, w, C]`. `dx` is overwritten.
    pub fn scatter(&self, dy: &[f32], argmax: &[u32], dx: &mut [f32]) {
        self.isa.run(Scatter { layer: self, dy, argmax, dx });
    }

    /// Returns the offsets of the pixels of a window in an image `[H, W, C]`, in order.
    #[inline(always)]
    fn window(&self, position: usize) -> impl Iterator<Item = usize> {
        let [channels, _, width] = self.input;
        let (row, column) = (position / self.output[2], position % self.output[2]);
        let corner = (row * self.stride * width + column * self.stride) * channels;
        let kernel = self.kernel;
        (0..kernel * kernel).map(move |i| corner + (i / kernel * width + i % kernel) * channels)
    }

    /// Returns the sizes of an input and an output image, in numbers.
    fn lens(&self) -> (usize, usize) {
        (self.input.iter().product(), self.output.iter().product())
    }
}

/// The kernel for one row of the output of one image.
struct Gather<'a> {
    layer: &'a MaxPool2d,
    row: usize,
    x: &'a [f32],
    y: &'a mut [f32],
    argmax: &'a mut [u32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { layer, row, x, y, argmax } = self;
        let channels = layer.input[0];
        let positions = y.chunks_exact_mut(channels).zip(argmax.chunks_exact_mut(channels));
        for (column, (y, argmax)) in positions.enumerate() {
            for (i, pixel) in layer.window(row * layer.output[2] + column).enumerate() {
                let x = &x[pixel..][..channels];
                if i == 0 {
                    y.copy_from_slice(x);
                    argmax.fill(0);
                    continue;
                }
                for ((y, argmax), x) in y.iter_mut().zip(&mut *argmax).zip(x) {
                    // Takes x if it is greater, or if it is the first NaN (comparisons with NaN are
                    // false).
                    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN must be taken")]
                    let take = !(*x <= *y) & !y.is_nan();
                    *y = if take { *x } else { *y };
                    *argmax = if take { i as u32 } else { *argmax };
                }
            }
        }
    }
}

struct Scatter<'a> {
    layer: &'a MaxPool2d,
    dy: &'a [f32],
    argmax: &'a [u32],
    dx: &'a mut [f32],
}

impl WithSimd for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.layer.input[0];
        let (x_len, y_len) = self.layer.lens();
        self.dx.fill(0.0);
        let images = self.dx.chunks_exact_mut(x_len).zip(self.dy.chunks_exact(y_len));
        for ((dx, dy), argmax) in images.zip(self.argmax.chunks_exact(y_len)) {
            let positions = dy.chunks_exact(channels).zip(argmax.chunks_exact(channels));
            for (position, (dy, argmax)) in positions.enumerate() {
                for (i, pixel) in self.layer.window(position).enumerate() {
                    let dx = &mut dx[pixel..][..channels];
                    for ((dx, dy), argmax) in dx.iter_mut().zip(dy).zip(argmax) {
                        *dx += if *argmax == i as u32 { *dy } else { 0.0 };
                    }
                }
            }
        }
    }
}

impl Layer<Tensor> for MaxPool2d {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let mut y = self.pool.tensor(x.batch, &self.output);
        let mut argmax = std::mem::take(&mut self.argmax);
        argmax.resize(y.values().len(), 0);
        self.gather(x.values(), y.values_mut(), &mut argmax);
        self.argmax = argmax;
        self.saved_for_backward = needs_backward(mode).then_some(x.batch);
        Ok(y)
    }
}

impl Backward<Tensor> for MaxPool2d {
    fn backward(&mut self, dy: Tensor) -> Result<Tensor> {
        let batch = take_saved(&mut self.saved_for_backward);
        let (x_len, y_len) = self.lens();
        let mut dx = self.pool.tensor(batch, &self.input);
        dx.values_mut()
            .par_chunks_mut(x_len)
            .zip(dy.values().par_chunks(y_len))
            .zip(self.argmax.par_chunks(y_len))
            .for_each(|((dx, dy), argmax)| self.scatter(dy, argmax, dx));
        Ok(dx)
    }
}

impl CpuLayer for MaxPool2d {}
