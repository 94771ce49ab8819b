//! Overlapping max pooling (paper, section 3.4).

use alexnet_core::{Backward, Layer, Mode, Result};
use rayon::prelude::*;

use super::{CpuLayer, keeps, kept};
use crate::tensor::{Pool, Tensor};

/// Largest value of each window; the first of equals in row-major order. A NaN wins, as in PyTorch.
pub struct MaxPool2d {
    kernel: usize,
    stride: usize,
    /// `[C, H, W]` in.
    input: [usize; 3],
    /// `[C, H, W]` out.
    output: [usize; 3],
    pool: Pool,
    /// For each output its input's position in the plane, `y·W + x`.
    positions: Vec<u32>,
    kept: Option<usize>,
}

impl MaxPool2d {
    /// A layer from `input` to `output`, both `[C, H, W]`.
    pub fn new(kernel: usize, stride: usize, input: [usize; 3], output: [usize; 3], pool: Pool) -> Self {
        Self { kernel, stride, input, output, pool, positions: Vec::new(), kept: None }
    }

    fn plane(&self, x: &[f32], y: &mut [f32], positions: &mut [u32]) {
        let [_, _, width] = self.input;
        let [_, rows, columns] = self.output;
        for row in 0..rows {
            for column in 0..columns {
                let corner = row * self.stride * width + column * self.stride;
                let (mut position, mut largest) = (corner, x[corner]);
                for line in 0..self.kernel {
                    let start = corner + line * width;
                    for (i, value) in x[start..start + self.kernel].iter().enumerate() {
                        if *value > largest || (value.is_nan() && !largest.is_nan()) {
                            (position, largest) = (start + i, *value);
                        }
                    }
                }
                y[row * columns + column] = largest;
                positions[row * columns + column] = position as u32;
            }
        }
    }
}

impl Layer<Tensor> for MaxPool2d {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let [_, height, width] = self.input;
        let [_, rows, columns] = self.output;
        let mut y = self.pool.tensor(x.batch, &self.output);
        let mut positions = std::mem::take(&mut self.positions);
        positions.resize(y.values().len(), 0);
        y.values_mut()
            .par_chunks_mut(rows * columns)
            .zip(positions.par_chunks_mut(rows * columns))
            .zip(x.values().par_chunks(height * width))
            .for_each(|((y, positions), x)| self.plane(x, y, positions));
        self.positions = positions;
        self.kept = keeps(mode).then_some(x.batch);
        Ok(y)
    }
}

impl Backward<Tensor> for MaxPool2d {
    fn backward(&mut self, dy: Tensor) -> Result<Tensor> {
        let batch = kept(&mut self.kept);
        let [_, height, width] = self.input;
        let [_, rows, columns] = self.output;
        let mut dx = self.pool.tensor(batch, &self.input);
        dx.values_mut()
            .par_chunks_mut(height * width)
            .zip(dy.values().par_chunks(rows * columns))
            .zip(self.positions.par_chunks(rows * columns))
            .for_each(|((dx, dy), positions)| {
                dx.fill(0.0);
                for (dy, position) in dy.iter().zip(positions) {
                    dx[*position as usize] += dy;
                }
            });
        Ok(dx)
    }
}

impl CpuLayer for MaxPool2d {}
