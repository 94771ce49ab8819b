//! Overlapping max pooling (paper, section 3.4).

use alexnet_core::{Backward, Layer, Mode, Result};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{CpuLayer, needs_backward, take_saved};
use crate::{
    kernels::{
        Isa,
        vector::{read, read_words, write, write_words},
    },
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

    /// Returns the offset of the first pixel of a window in an image `[H, W, C]`.
    #[inline(always)]
    fn corner(&self, position: usize) -> usize {
        let [channels, _, width] = self.input;
        let (row, column) = (position / self.output[2], position % self.output[2]);
        (row * self.stride * width + column * self.stride) * channels
    }

    /// Returns the pixels of a window in order, each with its index and its offset in an image
    /// `[H, W, C]`.
    #[inline(always)]
    fn window(&self, position: usize) -> impl Iterator<Item = (usize, usize)> {
        let [channels, _, width] = self.input;
        let (corner, kernel) = (self.corner(position), self.kernel);
        (0..kernel)
            .flat_map(move |y| (0..kernel).map(move |x| (y, x)))
            .map(move |(y, x)| (y * kernel + x, corner + (y * width + x) * channels))
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
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { layer, row, x, y, argmax } = self;
        let channels = layer.input[0];
        let positions = y.chunks_exact_mut(channels).zip(argmax.chunks_exact_mut(channels));
        for (column, (y, argmax)) in positions.enumerate() {
            let position = row * layer.output[2] + column;
            for first in (0..channels).step_by(S::F32_LANES) {
                let lanes = first..(first + S::F32_LANES).min(channels);
                let x = |pixel: usize| read(simd, &x[pixel + first..][..lanes.len()]);
                let mut max = x(layer.corner(position));
                let mut index = simd.splat_u32s(0);
                for (i, pixel) in layer.window(position).skip(1) {
                    let x = x(pixel);
                    // Takes x if it is greater, or if it is the first NaN (comparisons with NaN are
                    // false).
                    let is_less_or_equal = simd.less_than_or_equal_f32s(x, max);
                    let is_nan = simd.not_m32s(simd.equal_f32s(max, max));
                    let keep = simd.or_m32s(is_less_or_equal, is_nan);
                    max = simd.select_f32s(keep, max, x);
                    index = simd.select_u32s(keep, index, simd.splat_u32s(i as u32));
                }
                write(simd, &mut y[lanes.clone()], max);
                write_words(simd, &mut argmax[lanes], index);
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
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { layer, dy, argmax, dx } = self;
        let channels = layer.input[0];
        let (x_len, y_len) = layer.lens();
        dx.fill(0.0);
        let images = dx.chunks_exact_mut(x_len).zip(dy.chunks_exact(y_len));
        for ((dx, dy), argmax) in images.zip(argmax.chunks_exact(y_len)) {
            let positions = dy.chunks_exact(channels).zip(argmax.chunks_exact(channels));
            for (position, (dy, argmax)) in positions.enumerate() {
                for first in (0..channels).step_by(S::F32_LANES) {
                    let lanes = first..(first + S::F32_LANES).min(channels);
                    let dy = read(simd, &dy[lanes.clone()]);
                    let argmax = read_words(simd, &argmax[lanes.clone()]);
                    for (i, pixel) in layer.window(position) {
                        let dx = &mut dx[pixel + first..][..lanes.len()];
                        let is_max = simd.equal_u32s(argmax, simd.splat_u32s(i as u32));
                        let change = simd.select_f32s(is_max, dy, simd.splat_f32s(0.0));
                        write(simd, dx, simd.add_f32s(read(simd, dx), change));
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
