//! Overlapping max pooling (paper, section 3.4).

use alexnet_core::{Backward, Layer, Mode, Result};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{CpuLayer, needs_backward, take_saved};
use crate::{
    kernels::Isa,
    tensor::{Pool, Tensor},
};

/// Largest value of each window; the first of equals in row-major order. A NaN wins, as in PyTorch.
pub struct MaxPool2d {
    kernel: usize,
    stride: usize,
    /// `[C, H, W]` in.
    input: [usize; 3],
    /// `[C, H, W]` out.
    pub output: [usize; 3],
    isa: Isa,
    pool: Pool,
    /// For each output which number of its window was the largest.
    largest: Vec<u32>,
    /// The size of the batch; the positions are in `largest`.
    saved_for_backward: Option<usize>,
}

impl MaxPool2d {
    /// A layer from `input` to `output`, both `[C, H, W]`.
    pub fn new(
        kernel: usize,
        stride: usize,
        input: [usize; 3],
        output: [usize; 3],
        isa: Isa,
        pool: Pool,
    ) -> Self {
        Self { kernel, stride, input, output, isa, pool, largest: Vec::new(), saved_for_backward: None }
    }

    /// Images `x [N, H, W, C]` to the largest of each window, `y [N, h, w, C]`, and which of the window it was.
    pub fn gather(&self, x: &[f32], y: &mut [f32], largest: &mut [u32]) {
        let [channels, rows, columns] = self.output;
        let row = columns * channels;
        y.par_chunks_mut(row).zip(largest.par_chunks_mut(row)).enumerate().for_each(|(i, (y, largest))| {
            let x = &x[i / rows * self.lens().0..][..self.lens().0];
            self.isa.run(Gather { layer: self, row: i % rows, x, y, largest });
        });
    }

    /// The way back: `dy [N, h, w, C]` to `dx [N, H, W, C]`, which is overwritten.
    pub fn scatter(&self, dy: &[f32], largest: &[u32], dx: &mut [f32]) {
        self.isa.run(Scatter { layer: self, dy, largest, dx });
    }

    /// Where the pixels of a window begin in an image `[H, W, C]`, in order.
    #[inline(always)]
    fn window(&self, position: usize) -> impl Iterator<Item = usize> {
        let [channels, _, width] = self.input;
        let (row, column) = (position / self.output[2], position % self.output[2]);
        let corner = (row * self.stride * width + column * self.stride) * channels;
        let kernel = self.kernel;
        (0..kernel * kernel).map(move |i| corner + (i / kernel * width + i % kernel) * channels)
    }

    /// Numbers of an image, in and out.
    fn lens(&self) -> (usize, usize) {
        (self.input.iter().product(), self.output.iter().product())
    }
}

/// One row of the output of one image.
struct Gather<'a> {
    layer: &'a MaxPool2d,
    row: usize,
    x: &'a [f32],
    y: &'a mut [f32],
    largest: &'a mut [u32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { layer, row, x, y, largest } = self;
        let channels = layer.input[0];
        let positions = y.chunks_exact_mut(channels).zip(largest.chunks_exact_mut(channels));
        for (column, (y, largest)) in positions.enumerate() {
            for (i, pixel) in layer.window(row * layer.output[2] + column).enumerate() {
                let x = &x[pixel..][..channels];
                if i == 0 {
                    y.copy_from_slice(x);
                    largest.fill(0);
                    continue;
                }
                for ((y, largest), x) in y.iter_mut().zip(&mut *largest).zip(x) {
                    // Greater, or a NaN that meets none: a comparison with NaN is false.
                    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN is taken")]
                    let take = !(*x <= *y) & !y.is_nan();
                    *y = if take { *x } else { *y };
                    *largest = if take { i as u32 } else { *largest };
                }
            }
        }
    }
}

struct Scatter<'a> {
    layer: &'a MaxPool2d,
    dy: &'a [f32],
    largest: &'a [u32],
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
        for ((dx, dy), largest) in images.zip(self.largest.chunks_exact(y_len)) {
            let positions = dy.chunks_exact(channels).zip(largest.chunks_exact(channels));
            for (position, (dy, largest)) in positions.enumerate() {
                for (i, pixel) in self.layer.window(position).enumerate() {
                    let dx = &mut dx[pixel..][..channels];
                    for ((dx, dy), largest) in dx.iter_mut().zip(dy).zip(largest) {
                        *dx += if *largest == i as u32 { *dy } else { 0.0 };
                    }
                }
            }
        }
    }
}

impl Layer<Tensor> for MaxPool2d {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let mut y = self.pool.tensor(x.batch, &self.output);
        let mut largest = std::mem::take(&mut self.largest);
        largest.resize(y.values().len(), 0);
        self.gather(x.values(), y.values_mut(), &mut largest);
        self.largest = largest;
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
            .zip(self.largest.par_chunks(y_len))
            .for_each(|((dx, dy), largest)| self.scatter(dy, largest, dx));
        Ok(dx)
    }
}

impl CpuLayer for MaxPool2d {}
