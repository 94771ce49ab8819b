//! Convolution as im2col and a matrix product, with an optional ReLU on its output. An image is worked on by one core.

use alexnet_core::{Backward, Layer, Mode, Result};
use ndarray::s;
use rayon::prelude::*;

use super::{
    CpuLayer, keeps, kept,
    linear::{matrix, matrix_mut},
    relu::{mask_gradient, relu},
};
use crate::{
    im2col::{Window, col2im, im2col, sort_columns},
    matmul::{Write, matmul},
    parallel::{add_in_order, images_per_sum},
    parameter::Parameter,
    tensor::{Pool, Tensor},
};

/// Numbers of a column matrix that are made before they are multiplied: about what the second-level cache holds.
const STRIP: usize = 160 * 1024;

/// Extents of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// `[C, H, W]` in.
    pub input: [usize; 3],
    /// `[C, H, W]` out.
    pub output: [usize; 3],
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Distance of two positions.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Geometry {
    fn window(&self) -> Window {
        let [channels, height, width] = self.input;
        Window {
            channels: channels / self.groups,
            height,
            width,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            columns: self.output[2],
        }
    }

    /// Output rows of one strip.
    fn strip_rows(&self) -> usize {
        (STRIP / (self.window().depth() * self.output[2])).clamp(1, self.output[1])
    }
}

/// `torch.nn.Conv2d` with bias, then `max(y, 0)` when fused.
pub struct Conv2d {
    geometry: Geometry,
    /// Weight `[out, in/groups, kh, kw]` and bias `[out]`.
    parameters: [Parameter; 2],
    relu: bool,
    /// Whether anything before this layer learns.
    needs_dx: bool,
    pool: Pool,
    kept: Option<Kept>,
}

struct Kept {
    x: Tensor,
    /// Only with a fused ReLU.
    y: Option<Tensor>,
}

impl Conv2d {
    /// A layer over `weight` and `bias`.
    pub fn new(
        geometry: Geometry,
        parameters: [Parameter; 2],
        relu: bool,
        needs_dx: bool,
        pool: Pool,
    ) -> Self {
        Self { geometry, parameters, relu, needs_dx, pool, kept: None }
    }

    /// Calls `work` with the image `x [C, H, W]` as [`im2col`] wants it.
    fn with_sorted<R>(&self, x: &[f32], work: impl FnOnce(&[f32]) -> R) -> R {
        if self.geometry.stride == 1 {
            return work(x);
        }
        let [channels, height, _] = self.geometry.input;
        let window = self.geometry.window();
        let mut sorted = self.pool.take(channels * height * window.sorted_width());
        sort_columns(&window, x, &mut sorted);
        work(&sorted)
    }

    /// One image: `x [C, H, W]`, sorted, to `y [out, P]`, P positions of the output plane.
    fn forward_image(&self, x: &[f32], y: &mut [f32]) {
        let Geometry { output: [outputs, rows, columns], groups, .. } = self.geometry;
        let window = self.geometry.window();
        let depth = window.depth();
        let [weight, bias] = &self.parameters;
        let group_x = x.len() / groups;
        let group_out = outputs / groups;
        let strip = self.geometry.strip_rows();
        let mut buffer = self.pool.take(depth * strip * columns);
        for g in 0..groups {
            let x = &x[g * group_x..][..group_x];
            let weight =
                matrix(&weight.values[g * group_out * depth..][..group_out * depth], group_out, depth);
            let mut y = matrix_mut(
                &mut y[g * group_out * rows * columns..][..group_out * rows * columns],
                group_out,
                rows * columns,
            );
            for first in (0..rows).step_by(strip) {
                let last = (first + strip).min(rows);
                let positions = (last - first) * columns;
                let col = &mut buffer[..depth * positions];
                im2col(&window, x, first..last, col);
                let mut y = y.slice_mut(s![.., first * columns..last * columns]);
                matmul(y.view_mut(), Write::Replace, weight, matrix(col, depth, positions));
                for (mut row, b) in y.rows_mut().into_iter().zip(&bias.values[g * group_out..]) {
                    let row = row.as_slice_mut().expect("positions lie side by side");
                    if self.relu {
                        row.iter_mut().for_each(|y| *y = relu(*y + b));
                    } else {
                        row.iter_mut().for_each(|y| *y += b);
                    }
                }
            }
        }
    }

    /// One image, sorted: adds to (or begins) `dw [out, K]` and writes `dx [C, H, W]`, each when it is wanted.
    fn backward_image(
        &self,
        x: &[f32],
        dy: &[f32],
        mut dw: Option<&mut [f32]>,
        write: Write,
        mut dx: Option<&mut [f32]>,
    ) {
        let Geometry { input, output: [outputs, rows, columns], groups, .. } = self.geometry;
        let window = self.geometry.window();
        let depth = window.depth();
        let group_x = x.len() / groups;
        let group_dx = input.iter().product::<usize>() / groups;
        let group_out = outputs / groups;
        let strip = self.geometry.strip_rows();
        let mut buffer = self.pool.take(depth * strip * columns);
        if let Some(dx) = dx.as_deref_mut() {
            dx.fill(0.0);
        }
        for g in 0..groups {
            let x = &x[g * group_x..][..group_x];
            let weights = g * group_out * depth..(g + 1) * group_out * depth;
            let weight = matrix(&self.parameters[0].values[weights.clone()], group_out, depth);
            let dy = matrix(
                &dy[g * group_out * rows * columns..][..group_out * rows * columns],
                group_out,
                rows * columns,
            );
            for first in (0..rows).step_by(strip) {
                let last = (first + strip).min(rows);
                let positions = (last - first) * columns;
                let col = &mut buffer[..depth * positions];
                let dy = dy.slice(s![.., first * columns..last * columns]);

                if let Some(dw) = dw.as_deref_mut() {
                    im2col(&window, x, first..last, col);
                    let write = if first == 0 { write } else { Write::Add };
                    let dw = matrix_mut(&mut dw[weights.clone()], group_out, depth);
                    matmul(dw, write, dy, matrix(col, depth, positions).reversed_axes());
                }

                if let Some(dx) = dx.as_deref_mut() {
                    matmul(matrix_mut(col, depth, positions), Write::Replace, weight.t(), dy);
                    col2im(&window, col, first..last, &mut dx[g * group_dx..][..group_dx]);
                }
            }
        }
    }
}

/// `count` pieces of `len` numbers, the last of which may be shorter, or as many times nothing.
fn chunks(values: Option<&mut [f32]>, len: usize, count: usize) -> Vec<Option<&mut [f32]>> {
    match values {
        Some(values) => values.chunks_mut(len).map(Some).collect(),
        None => (0..count).map(|_| None).collect(),
    }
}

impl Layer<Tensor> for Conv2d {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let mut y = self.pool.tensor(x.batch, &self.geometry.output);
        let len = y.item_len();
        y.values_mut()
            .par_chunks_mut(len)
            .zip(x.values().par_chunks(x.item_len()))
            .for_each(|(y, x)| self.with_sorted(x, |x| self.forward_image(x, y)));
        self.kept = keeps(mode).then(|| Kept { x, y: self.relu.then(|| y.clone()) });
        Ok(y)
    }
}

impl Backward<Tensor> for Conv2d {
    fn backward(&mut self, mut dy: Tensor) -> Result<Tensor> {
        let Kept { x, y } = kept(&mut self.kept);
        let [outputs, rows, columns] = self.geometry.output;
        let (x_len, y_len) = (x.item_len(), dy.item_len());
        let weights = self.parameters[0].values.len();
        let images = images_per_sum(x.batch);
        let sums = x.batch.div_ceil(images);
        // Partial sums, one a chunk of images: of the weight gradient [G, out, K] and of the bias gradient [G, out].
        let [learns_weight, learns_bias] = self.parameters.each_ref().map(|parameter| parameter.learns);
        let mut dw = learns_weight.then(|| self.pool.take(sums * weights));
        let mut db = learns_bias.then(|| self.pool.take(sums * outputs));
        let mut dx = self.needs_dx.then(|| self.pool.tensor(x.batch, &x.item));
        let layer = &*self;
        (
            chunks(dw.as_deref_mut(), weights, sums),
            chunks(db.as_deref_mut(), outputs, sums),
            dy.values_mut().par_chunks_mut(images * y_len),
            x.values().par_chunks(images * x_len),
            chunks(dx.as_mut().map(Tensor::values_mut), images * x_len, sums),
        )
            .into_par_iter()
            .enumerate()
            .for_each(|(chunk, (mut dw, mut db, dy, x, mut dx))| {
                if let Some(db) = db.as_deref_mut() {
                    db.fill(0.0);
                }
                for (i, (dy, x)) in dy.chunks_exact_mut(y_len).zip(x.chunks_exact(x_len)).enumerate() {
                    if let Some(y) = &y {
                        mask_gradient(dy, &y.values()[(chunk * images + i) * y_len..][..y_len]);
                    }
                    let bias = db.iter_mut().flat_map(|db| db.iter_mut());
                    for (db, dy) in bias.zip(dy.chunks_exact(rows * columns)) {
                        *db += dy.iter().sum::<f32>();
                    }
                    let write = if i == 0 { Write::Replace } else { Write::Add };
                    let dx = dx.as_deref_mut().map(|dx| &mut dx[i * x_len..][..x_len]);
                    layer.with_sorted(x, |x| layer.backward_image(x, dy, dw.as_deref_mut(), write, dx));
                }
            });
        for (parameter, sums) in self.parameters.iter_mut().zip([dw, db]) {
            if let Some(sums) = sums {
                add_in_order(&sums, &mut parameter.gradient);
            }
        }
        Ok(dx.unwrap_or(dy))
    }
}

impl CpuLayer for Conv2d {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }
}
