//! A window that moves over an image, and its patches.

use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// A window and its positions.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The rows and columns of the image.
    pub input: [usize; 2],
    /// The rows and columns of positions.
    pub output: [usize; 2],
    /// The height and width of the window.
    pub kernel: usize,
    /// The distance between two positions.
    pub stride: usize,
    /// The zeros added on each side of the image.
    pub padding: usize,
}

impl Window {
    /// A single position on an image of a single pixel.
    pub const PIXEL: Self =
        Self { input: [1, 1], output: [1, 1], kernel: 1, stride: 1, padding: 0 };

    /// Whether the padded image has as many rows below the last position as columns to the right of
    /// it.
    #[cfg(any(feature = "cuda", feature = "metal", test))]
    pub fn leaves_equal_margins(&self) -> bool {
        let [rows, columns] =
            self.input.map(|extent| (extent + 2 * self.padding - self.kernel) % self.stride);
        rows == columns
    }

    /// Returns the patches `[N, rows, kernel, columns, kernel, C]` of `x [N, H, W, C]`. Works on
    /// every device.
    pub fn select(&self, x: &Tensor) -> Result<Tensor> {
        let Self { output: [rows, columns], kernel, padding, .. } = *self;
        let (n, _, _, channels) = x.dims4()?;
        let x = x.pad_with_zeros(1, padding, padding)?.pad_with_zeros(2, padding, padding)?;
        let x = x.index_select(&self.lines(rows, &x)?, 1)?;
        let x = x.index_select(&self.lines(columns, &x)?, 2)?;
        x.reshape(&[n, rows, kernel, columns, kernel, channels])
    }

    /// Returns the indices of the padded rows (or columns) in the window at each position,
    /// `[positions · kernel]`.
    fn lines(&self, positions: usize, like: &Tensor) -> Result<Tensor> {
        let under = |position| (0..self.kernel).map(move |k| (position * self.stride + k) as u32);
        let lines: Vec<u32> = (0..positions).flat_map(under).collect();
        Tensor::from_vec(lines, positions * self.kernel, like.device())
    }

    /// Writes the patches `[N, rows, columns, kernel, kernel, C]` of `x [N, H, W, C]`, on the CPU.
    pub fn gather(&self, channels: usize, x: &[f32], patches: &mut [f32]) {
        let [height, width] = self.input;
        let [rows, columns] = self.output;
        let depth = self.kernel * self.kernel * channels;
        patches.par_chunks_mut(columns * depth).enumerate().for_each(|(line, patches)| {
            let (n, row) = (line / rows, line % rows);
            let image = &x[n * height * width * channels..][..height * width * channels];
            for (column, patch) in patches.chunks_exact_mut(depth).enumerate() {
                let (inside, left) = self.inside(column);
                let inside = inside.start * channels..inside.end * channels;
                for (ky, out) in patch.chunks_exact_mut(self.kernel * channels).enumerate() {
                    let y =
                        (row * self.stride + ky).checked_sub(self.padding).filter(|y| *y < height);
                    let Some(y) = y.filter(|_| !inside.is_empty()) else {
                        out.fill(0.0);
                        continue;
                    };
                    out[..inside.start].fill(0.0);
                    out[inside.end..].fill(0.0);
                    out[inside.clone()]
                        .copy_from_slice(&image[(y * width + left) * channels..][..inside.len()]);
                }
            }
        });
    }

    /// Adds the patches to their positions in `x`, on the CPU: the transpose of [`Window::gather`].
    pub fn scatter(&self, channels: usize, patches: &[f32], x: &mut [f32]) {
        let [height, width] = self.input;
        let [rows, columns] = self.output;
        let depth = self.kernel * self.kernel * channels;
        x.par_chunks_mut(width * channels).enumerate().for_each(|(line, x)| {
            let (n, y) = (line / height, line % height);
            for ky in 0..self.kernel {
                let top = (y + self.padding).checked_sub(ky).filter(|top| top % self.stride == 0);
                let Some(row) = top.map(|top| top / self.stride).filter(|row| *row < rows) else {
                    continue;
                };
                let line = &patches[(n * rows + row) * columns * depth..][..columns * depth];
                for (column, patch) in line.chunks_exact(depth).enumerate() {
                    let (inside, left) = self.inside(column);
                    let run = &patch[(ky * self.kernel + inside.start) * channels..]
                        [..inside.len() * channels];
                    if !run.is_empty() {
                        x[left * channels..].iter_mut().zip(run).for_each(|(x, run)| *x += run);
                    }
                }
            }
        });
    }

    /// Returns the columns of the window that are inside the image for position `column`, and the
    /// image's column at the first of them.
    fn inside(&self, column: usize) -> (Range<usize>, usize) {
        let left = column * self.stride;
        let first = self.padding.saturating_sub(left).min(self.kernel);
        let last = (self.input[1] + self.padding).saturating_sub(left).min(self.kernel).max(first);
        (first..last, (left + first).saturating_sub(self.padding))
    }
}
