//! Convolution as a matrix product (im2col): each position of the window becomes a row of a matrix,
//! for a strip of output rows at a time. It works for any geometry, and is the reference for the
//! tests of the Winograd convolution.

use ndarray::{ArrayView2, ArrayViewMut2, s};

use super::{
    Convolution, Geometry, WeightSums,
    matmul::{Write, matmul},
};
use crate::{
    kernels::{Isa, elementwise::AddBias},
    tensor::Pool,
};

/// The size of the matrix of one strip, in numbers. It fits approximately in the second-level
/// cache.
const STRIP: usize = 160 * 1024;

/// Convolution by im2col and the matrix product of the library `gemm`.
pub struct Im2col {
    geometry: Geometry,
    isa: Isa,
    pool: Pool,
    /// `[kh, kw, in/groups, out]`.
    weight: Vec<f32>,
}

impl Im2col {
    /// Creates a convolution of this geometry. `isa` is used for bias and ReLU; the library chooses
    /// its own instructions.
    pub fn new(geometry: Geometry, isa: Isa, pool: Pool) -> Self {
        Self { geometry, isa, pool, weight: Vec::new() }
    }

    /// Returns the input and output channels of a group.
    fn group(&self) -> (usize, usize) {
        let Geometry { input, output, groups, .. } = self.geometry;
        (input[0] / groups, output[0] / groups)
    }

    /// Returns the numbers of a window, which is the number of columns of the matrix, K.
    fn depth(&self) -> usize {
        self.geometry.kernel * self.geometry.kernel * self.group().0
    }

    /// Returns the number of output rows of one strip.
    fn strip_rows(&self) -> usize {
        let [_, rows, columns] = self.geometry.output;
        (STRIP / (self.depth() * columns)).clamp(1, rows)
    }

    /// Calls `visit` for each output position of rows `first..last` and each pixel of its window,
    /// in the order of the matrix. The argument is the offset of the group's channels of that pixel
    /// in an image `[H, W, C]`, or `None` in the padding.
    fn for_each_pixel(
        &self,
        group: usize,
        first: usize,
        last: usize,
        mut visit: impl FnMut(Option<usize>),
    ) {
        let Geometry { input: [channels, height, width], output, kernel, stride, padding, .. } =
            self.geometry;
        let channel = group * self.group().0;
        for row in first..last {
            for column in 0..output[2] {
                for ky in 0..kernel {
                    let y = (row * stride + ky).checked_sub(padding).filter(|y| *y < height);
                    for kx in 0..kernel {
                        let x = (column * stride + kx).checked_sub(padding).filter(|x| *x < width);
                        visit(y.zip(x).map(|(y, x)| (y * width + x) * channels + channel));
                    }
                }
            }
        }
    }

    /// Writes the windows of output rows `first..last` of an image to `matrix [positions, K]`.
    fn im2col(&self, image: &[f32], group: usize, first: usize, last: usize, matrix: &mut [f32]) {
        let channels = self.group().0;
        let mut pixels = matrix.chunks_exact_mut(channels);
        self.for_each_pixel(group, first, last, |pixel| {
            let row = pixels.next().expect("the matrix has one row of channels per pixel");
            match pixel {
                Some(pixel) => row.copy_from_slice(&image[pixel..][..channels]),
                None => row.fill(0.0),
            }
        });
    }

    /// Adds the windows to their positions in the image: the transpose of [`Self::im2col`].
    fn col2im(&self, matrix: &[f32], group: usize, first: usize, last: usize, image: &mut [f32]) {
        let channels = self.group().0;
        let mut pixels = matrix.chunks_exact(channels);
        self.for_each_pixel(group, first, last, |pixel| {
            let row = pixels.next().expect("the matrix has one row of channels per pixel");
            if let Some(pixel) = pixel {
                image[pixel..][..channels]
                    .iter_mut()
                    .zip(row)
                    .for_each(|(image, value)| *image += value);
            }
        });
    }

    /// Calls `work` with each group and strip of output rows, and a buffer for its matrix
    /// `[positions, K]`.
    fn for_each_strip(&self, mut work: impl FnMut(usize, usize, usize, &mut [f32])) {
        let Geometry { output: [_, rows, columns], groups, .. } = self.geometry;
        let strip = self.strip_rows();
        let mut buffer = self.pool.take(strip * columns * self.depth());
        for group in 0..groups {
            for first in (0..rows).step_by(strip) {
                let last = (first + strip).min(rows);
                work(group, first, last, &mut buffer[..(last - first) * columns * self.depth()]);
            }
        }
    }
}

fn matrix(values: &[f32], columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((values.len() / columns, columns), values)
        .expect("rows × columns numbers")
}

fn matrix_mut(values: &mut [f32], columns: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((values.len() / columns, columns), values)
        .expect("rows × columns numbers")
}

impl Convolution for Im2col {
    fn set_weight(&mut self, weight: &[f32], _: bool) {
        self.weight.clear();
        self.weight.extend_from_slice(weight);
    }

    fn images_per_task(&self) -> usize {
        1
    }

    fn forward(&self, x: &[f32], _: bool, bias: &[f32], relu: bool, y: &mut [f32]) {
        let [outputs, _, columns] = self.geometry.output;
        let (_, group_outputs) = self.group();
        let images = x
            .chunks_exact(self.geometry.input_len())
            .zip(y.chunks_exact_mut(self.geometry.output_len()));
        for (x, y) in images {
            self.for_each_strip(|group, first, last, windows| {
                self.im2col(x, group, first, last, windows);
                let outs = s![.., group * group_outputs..(group + 1) * group_outputs];
                let mut y = matrix_mut(
                    &mut y[first * columns * outputs..last * columns * outputs],
                    outputs,
                );
                let weight = matrix(&self.weight, outputs);
                matmul(
                    y.slice_mut(outs),
                    Write::Replace,
                    matrix(windows, self.depth()),
                    weight.slice(outs),
                );
            });
            self.isa.run(AddBias { y, bias, relu });
        }
    }

    fn sums_len(&self) -> usize {
        self.weight.len()
    }

    fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        mut weight: Option<WeightSums<'_>>,
        mut dx: Option<&mut [f32]>,
    ) {
        let [outputs, _, columns] = self.geometry.output;
        let (_, group_outputs) = self.group();
        if let Some(dx) = dx.as_deref_mut() {
            dx.fill(0.0);
        }
        let len = self.geometry.input_len();
        for (i, (x, dy)) in
            x.chunks_exact(len).zip(dy.chunks_exact(self.geometry.output_len())).enumerate()
        {
            self.for_each_strip(|group, first_row, last_row, windows| {
                let outs = s![.., group * group_outputs..(group + 1) * group_outputs];
                let dy = matrix(
                    &dy[first_row * columns * outputs..last_row * columns * outputs],
                    outputs,
                );
                let dy = dy.slice(outs);
                if let Some(WeightSums { sums, first, .. }) = &mut weight {
                    self.im2col(x, group, first_row, last_row, windows);
                    let is_first = *first && i == 0 && first_row == 0;
                    let write = if is_first { Write::Replace } else { Write::Add };
                    let mut dw = matrix_mut(sums, outputs);
                    matmul(dw.slice_mut(outs), write, matrix(windows, self.depth()).t(), dy);
                }
                if let Some(dx) = dx.as_deref_mut() {
                    let weight = matrix(&self.weight, outputs);
                    let windows_gradient = matrix_mut(windows, self.depth());
                    matmul(windows_gradient, Write::Replace, dy, weight.slice(outs).t());
                    self.col2im(windows, group, first_row, last_row, &mut dx[i * len..][..len]);
                }
            });
        }
        if let Some(WeightSums { sums, gradient: Some(gradient), .. }) = weight {
            gradient.copy_from_slice(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convolution() -> Im2col {
        let geometry = Geometry {
            input: [2, 5, 6],
            output: [1, 3, 3],
            kernel: 3,
            stride: 2,
            padding: 1,
            groups: 1,
        };
        Im2col::new(geometry, Isa::Portable, Pool::default())
    }

    #[test]
    fn each_row_is_a_window() {
        let image: Vec<f32> = (1..=60).map(|i| i as f32).collect();
        let mut full = vec![f32::NAN; 9 * 18];
        convolution().im2col(&image, 0, 0, 3, &mut full);
        for (i, value) in full.iter().enumerate() {
            let (position, ky, kx, c) = (i / 18, i / 6 % 3, i / 2 % 3, i % 2);
            let (y, x) = (position / 3 * 2 + ky, position % 3 * 2 + kx);
            let inside = (1..=5).contains(&y) && (1..=6).contains(&x);
            let expected = if inside { image[((y - 1) * 6 + x - 1) * 2 + c] } else { 0.0 };
            assert_eq!(*value, expected, "{position} {ky} {kx} {c}");
        }
        let mut strip = vec![f32::NAN; 6 * 18];
        convolution().im2col(&image, 0, 1, 3, &mut strip);
        assert_eq!(strip, full[3 * 18..]);
    }

    /// ⟨im2col(x), m⟩ = ⟨x, col2im(m)⟩ for all x and m. The test uses integers.
    #[test]
    fn col2im_is_the_transpose() {
        let image: Vec<f32> = (0..60).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
        let matrix: Vec<f32> = (0..9 * 18).map(|i| (i * 5 % 13) as f32 - 6.0).collect();
        let (mut windows, mut back) = (vec![0.0; matrix.len()], vec![0.0; image.len()]);
        convolution().im2col(&image, 0, 0, 3, &mut windows);
        convolution().col2im(&matrix[..3 * 18], 0, 0, 1, &mut back);
        convolution().col2im(&matrix[3 * 18..], 0, 1, 3, &mut back);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert_eq!(dot(&windows, &matrix), dot(&image, &back));
    }
}
