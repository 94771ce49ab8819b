//! Patches of an image as the columns of a matrix, and back.
//!
//! Row `(c·kh + ky)·kw + kx` of the matrix holds, for each position of the output, the element of channel `c` under
//! element `(ky, kx)` of the kernel; zero where that lies in the padding.

use std::ops::Range;

/// A window that moves over an image.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Channels of the image.
    pub channels: usize,
    /// Rows of the image.
    pub height: usize,
    /// Columns of the image.
    pub width: usize,
    /// Height and width of the window.
    pub kernel: usize,
    /// Distance of two positions.
    pub stride: usize,
    /// Zeros on each side of the image.
    pub padding: usize,
    /// Positions in a row of the output.
    pub columns: usize,
}

impl Window {
    /// Elements under the window: the rows of the matrix, K.
    pub fn depth(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    /// The positions of an output row at which column `kx` of the window lies inside the image.
    fn inside(&self, kx: usize) -> Range<usize> {
        let first = self.padding.saturating_sub(kx).div_ceil(self.stride);
        let last = (self.width + self.padding).saturating_sub(kx).div_ceil(self.stride);
        let last = last.min(self.columns);
        first.min(last)..last
    }

    /// Numbers in a row of a sorted image.
    pub fn sorted_width(&self) -> usize {
        self.width.div_ceil(self.stride) * self.stride
    }

    /// For every row of the matrix and every output row: the matrix row, the column of the kernel, the output row, and the
    /// line under it, counted over the channels, or `None` in the padding.
    fn for_each_line(&self, rows: Range<usize>, mut visit: impl FnMut(usize, usize, usize, Option<usize>)) {
        for c in 0..self.channels {
            for ky in 0..self.kernel {
                for kx in 0..self.kernel {
                    let k = (c * self.kernel + ky) * self.kernel + kx;
                    for row in rows.clone() {
                        let y =
                            (row * self.stride + ky).checked_sub(self.padding).filter(|y| *y < self.height);
                        visit(k, kx, row, y.map(|y| c * self.height + y));
                    }
                }
            }
        }
    }
}

/// Sorts the columns of each row by their remainder modulo the stride: `image [C, H, W]` to `sorted [C, H, s, ⌈W/s⌉]`. What
/// one column of the kernel touches then lies side by side, so that [`im2col`] copies instead of gathering. With stride 1
/// this is the image itself.
pub fn sort_columns(window: &Window, image: &[f32], sorted: &mut [f32]) {
    let Window { width, stride, .. } = *window;
    for (line, sorted) in image.chunks_exact(width).zip(sorted.chunks_exact_mut(window.sorted_width())) {
        for (phase, sorted) in sorted.chunks_exact_mut(width.div_ceil(stride)).enumerate() {
            sorted.iter_mut().zip(line[phase.min(width)..].iter().step_by(stride)).for_each(|(s, x)| *s = *x);
        }
    }
}

/// The columns of output rows `rows`: a [sorted](sort_columns) image to `matrix [K, rows·columns]`.
pub fn im2col(window: &Window, sorted: &[f32], rows: Range<usize>, matrix: &mut [f32]) {
    let Window { width, columns, stride, padding, .. } = *window;
    let positions = rows.len() * columns;
    window.for_each_line(rows.clone(), |k, kx, row, line| {
        let out = &mut matrix[k * positions + (row - rows.start) * columns..][..columns];
        let Some(line) = line else { return out.fill(0.0) };
        let inside = window.inside(kx);
        out[..inside.start].fill(0.0);
        out[inside.end..].fill(0.0);
        if inside.is_empty() {
            return;
        }
        let x = inside.start * stride + kx - padding;
        let start = line * window.sorted_width() + x % stride * width.div_ceil(stride) + x / stride;
        out[inside.clone()].copy_from_slice(&sorted[start..][..inside.len()]);
    });
}

/// Adds the columns of output rows `rows` back to where they came from: the transpose of [`im2col`].
pub fn col2im(window: &Window, matrix: &[f32], rows: Range<usize>, image: &mut [f32]) {
    let Window { columns, stride, padding, .. } = *window;
    let positions = rows.len() * columns;
    window.for_each_line(rows.clone(), |k, kx, row, line| {
        let Some(line) = line else { return };
        let inside = window.inside(kx);
        if inside.is_empty() {
            return;
        }
        let target = line * window.width + inside.start * stride + kx - padding;
        let source = &matrix[k * positions + (row - rows.start) * columns..][..columns][inside];
        if stride == 1 {
            image[target..][..source.len()].iter_mut().zip(source).for_each(|(t, s)| *t += s);
        } else {
            image[target..].iter_mut().step_by(stride).zip(source).for_each(|(t, s)| *t += s);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window { channels: 2, height: 5, width: 6, kernel: 3, stride: 2, padding: 1, columns: 3 }
    }

    fn sorted(window: &Window, image: &[f32]) -> Vec<f32> {
        let mut sorted = vec![0.0; window.channels * window.height * window.sorted_width()];
        sort_columns(window, image, &mut sorted);
        sorted
    }

    #[test]
    fn columns_are_sorted_by_their_remainder() {
        let window =
            Window { channels: 1, height: 2, width: 5, kernel: 3, stride: 3, padding: 0, columns: 1 };
        let image: Vec<f32> = (1..=10).map(|i| i as f32).collect();
        assert_eq!(sorted(&window, &image), [1., 4., 2., 5., 3., 0., 6., 9., 7., 10., 8., 0.]);
        let window = Window { stride: 1, ..window };
        assert_eq!(sorted(&window, &image), image);
    }

    #[test]
    fn each_column_is_a_patch() {
        let window = window();
        let image: Vec<f32> = (1..=60).map(|i| i as f32).collect();
        let sorted = sorted(&window, &image);
        let mut whole = vec![f32::NAN; window.depth() * 9];
        im2col(&window, &sorted, 0..3, &mut whole);
        for k in 0..window.depth() {
            let (c, ky, kx) = (k / 9, k / 3 % 3, k % 3);
            for position in 0..9 {
                let (y, x) = (position / 3 * 2 + ky, position % 3 * 2 + kx);
                let inside = (1..=5).contains(&y) && (1..=6).contains(&x);
                let expected = if inside { image[(c * 5 + y - 1) * 6 + x - 1] } else { 0.0 };
                assert_eq!(whole[k * 9 + position], expected, "{k} {position}");
            }
        }
        let mut strip = vec![f32::NAN; window.depth() * 6];
        im2col(&window, &sorted, 1..3, &mut strip);
        for k in 0..window.depth() {
            assert_eq!(strip[k * 6..][..6], whole[k * 9 + 3..][..6]);
        }
    }

    /// ⟨im2col(x), m⟩ = ⟨x, col2im(m)⟩ for all x and m, here in integers.
    #[test]
    fn col2im_is_the_transpose() {
        let window = window();
        let image: Vec<f32> = (0..60).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
        let matrix: Vec<f32> = (0..window.depth() * 9).map(|i| (i * 5 % 13) as f32 - 6.0).collect();
        let mut columns = vec![0.0; matrix.len()];
        im2col(&window, &sorted(&window, &image), 0..3, &mut columns);
        let mut back = vec![0.0; image.len()];
        let (lower, upper): (Vec<f32>, Vec<f32>) =
            matrix.chunks_exact(9).fold((vec![], vec![]), |(mut a, mut b), row| {
                a.extend(&row[..3]);
                b.extend(&row[3..]);
                (a, b)
            });
        col2im(&window, &lower, 0..1, &mut back);
        col2im(&window, &upper, 1..3, &mut back);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert_eq!(dot(&columns, &matrix), dot(&image, &back));
    }
}
