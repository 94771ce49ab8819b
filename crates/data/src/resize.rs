//! Resizes a crop of an image with antialiased bilinear interpolation. The result is that of
//! Pillow's `Image.crop(…).resize(…, BILINEAR)` byte for byte (`src/libImaging/Resample.c`), which
//! torchvision's `resized_crop` and `Resize` use.
//!
//! Each output pixel is a weighted mean of the input pixels within the width of one output pixel
//! (of one input pixel, when enlarging). Weights are rounded to 22 fractional bits. Rows and
//! columns are resized one after the other, with results rounded to bytes in between. The order
//! affects the rounding and is that of Pillow 13.

use std::cell::RefCell;

use image::RgbImage;
use pulp::{Arch, Simd, WithSimd};

/// A rectangle of an image, in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Number of columns to the left of it.
    pub left: u32,
    /// Number of rows above it.
    pub top: u32,
    /// Its width, at least 1.
    pub width: u32,
    /// Its height, at least 1.
    pub height: u32,
}

impl Crop {
    /// Returns the crop of a whole image of `width`×`height` pixels.
    pub fn whole(width: u32, height: u32) -> Self {
        Self { left: 0, top: 0, width, height }
    }
}

/// Resizes `crop` to `width`×`height` pixels of three bytes, row by row. Pixels outside the crop
/// are not used.
///
/// # Panics
/// If `crop` is empty or not inside the image, or if `width` or `height` is 0.
pub fn resize(image: &RgbImage, crop: Crop, width: u32, height: u32) -> Vec<u8> {
    let mut pixels = vec![0; width as usize * height as usize * 3];
    resize_into(image, crop, false, width, height, &mut pixels);
    pixels
}

/// Does the same as [`resize`], but writes to `pixels`, `width·height·3` bytes. With `flip`, the
/// result is mirrored horizontally.
///
/// # Panics
/// In the cases of [`resize`], and if `pixels` has another length.
pub fn resize_into(
    image: &RgbImage,
    crop: Crop,
    flip: bool,
    width: u32,
    height: u32,
    pixels: &mut [u8],
) {
    resize_part_into(image, crop, flip, [width, height], Crop::whole(width, height), pixels);
}

/// Does the same as [`resize_into`] for a crop that is resized to `size` (width and height), but
/// computes only the pixels in `part` of the result.
///
/// # Panics
/// In the cases of [`resize_into`], and if `part` is not inside the result.
pub fn resize_part_into(
    image: &RgbImage,
    crop: Crop,
    flip: bool,
    size: [u32; 2],
    part: Crop,
    pixels: &mut [u8],
) {
    assert!(part.width > 0 && part.height > 0, "an image has at least one pixel");
    assert!(
        part.left + part.width <= size[0] && part.top + part.height <= size[1],
        "the part is inside the result"
    );
    assert!(crop.width > 0 && crop.height > 0, "a crop has at least one pixel");
    assert!(
        crop.left + crop.width <= image.width() && crop.top + crop.height <= image.height(),
        "the crop is inside the image"
    );
    assert_eq!(pixels.len(), part.width as usize * part.height as usize * 3);
    BUFFERS.with_borrow_mut(|buffers| {
        Arch::new().dispatch(Job { buffers, image, crop, flip, size, part, pixels })
    });
}

/// A call of [`Buffers::resize`], compiled for each instruction set. A closure cannot be used
/// because it is not inlined.
struct Job<'a> {
    buffers: &'a mut Buffers,
    image: &'a RgbImage,
    crop: Crop,
    flip: bool,
    size: [u32; 2],
    part: Crop,
    pixels: &'a mut [u8],
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { buffers, image, crop, flip, size: [width, height], part, pixels } = self;
        buffers.columns.prepare([crop.width, width, part.left, part.width], flip);
        buffers.rows.prepare([crop.height, height, part.top, part.height], false);
        let rows_first = rows_first([crop.width, crop.height], [width, height]);
        buffers.resize(image, crop, rows_first, pixels);
    }
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Fractional bits of a weight: a sum of weighted bytes fits 32 bits.
const FRACTION: u32 = 22;
const HALF: i32 = 1 << (FRACTION - 1);

/// Number of rows whose columns are resized at once. With four bytes per pixel, they fill a vector
/// register of sixteen numbers.
const ROWS: usize = 4;

/// Weights and intermediate results, stored for reuse.
#[derive(Default)]
struct Buffers {
    columns: Weights,
    rows: Weights,
    /// The image after the first pass, row by row.
    intermediate: Vec<u8>,
    /// [`ROWS`] interleaved rows, before and after their columns are resized.
    interleaved: [Vec<[u8; 4 * ROWS]>; 2],
}

impl Buffers {
    #[inline(always)]
    fn resize(&mut self, image: &RgbImage, crop: Crop, rows_first: bool, pixels: &mut [u8]) {
        let Self { columns, rows, intermediate, interleaved } = self;
        let stride = image.width() as usize * 3;
        let [left, top] = [crop.left, crop.top].map(|side| side as usize);
        let ([first_column, from_width], [first_row, from_height]) = (columns.needed, rows.needed);
        let source = &image.as_raw()[(top + first_row) * stride + (left + first_column) * 3..];
        let [width, height] = [columns.spans.len(), rows.spans.len()];
        if rows_first {
            intermediate.resize(height * from_width * 3, 0);
            rows.resize_rows(source, stride, from_width * 3, intermediate);
            columns.resize_columns(intermediate, from_width * 3, from_width, interleaved, pixels);
        } else {
            intermediate.resize(from_height * width * 3, 0);
            columns.resize_columns(source, stride, from_width, interleaved, intermediate);
            rows.resize_rows(intermediate, width * 3, width * 3, pixels);
        }
    }
}

/// Returns whether the number of rows is changed first: if it decreases by more than twice the
/// decrease of the number of columns.
fn rows_first([width, height]: [u32; 2], [to_width, to_height]: [u32; 2]) -> bool {
    let decrease = |from, to| i64::from(from) - i64::from(to);
    let of_rows = decrease(height, to_height);
    of_rows > 0 && of_rows > 2 * decrease(width, to_width)
}

/// The input positions of each output position, with their weights.
#[derive(Default)]
struct Weights {
    /// Input and output length, and the first output position and the number of them that are
    /// computed.
    lengths: [u32; 4],
    /// Whether the output is in reverse order.
    reverse: bool,
    /// The first input position of all, and the number of input positions.
    needed: [usize; 2],
    /// For each output position, the first input position, counted from the first of all, and the
    /// number of input positions.
    spans: Vec<[usize; 2]>,
    /// The weights; those of an output position start at the position times `stride`.
    weights: Vec<i32>,
    stride: usize,
}

impl Weights {
    fn prepare(&mut self, lengths: [u32; 4], reverse: bool) {
        if (self.lengths, self.reverse) == (lengths, reverse) {
            return;
        }
        (self.lengths, self.reverse) = (lengths, reverse);
        let [input, output, start, count] = lengths.map(|length| length as usize);
        let scale = input as f64 / output as f64;
        // Half the width of the triangle filter, at least one pixel: otherwise enlarging would
        // leave gaps.
        let support = scale.max(1.0);
        let center = |position: usize| (position as f64 + 0.5) * scale;
        let first = |position| (center(position) - support + 0.5).max(0.0) as usize;
        let end = |position| ((center(position) + support + 0.5) as usize).min(input);
        let first_of_all = first(start);
        self.needed = [first_of_all, end(start + count - 1) - first_of_all];
        self.stride = support.ceil() as usize * 2 + 1;
        self.spans.clear();
        self.weights.clear();
        for index in 0..count {
            let position = start + if reverse { count - 1 - index } else { index };
            let (center, first, end) = (center(position), first(position), end(position));
            let triangle =
                |x: usize| (1.0 - ((x as f64 - center + 0.5) * (1.0 / support)).abs()).max(0.0);
            let sum: f64 = (first..end).map(triangle).sum();
            // Weights are at least 0, so that adding 0.5 and truncating rounds to the nearest.
            let weight = |x| (triangle(x) / sum * f64::from(1 << FRACTION) + 0.5) as i32;
            self.spans.push([first - first_of_all, end - first]);
            self.weights.extend((first..end).map(weight));
            self.weights.resize(self.spans.len() * self.stride, 0);
        }
    }

    #[inline(always)]
    fn of(&self, position: usize) -> (usize, &[i32]) {
        let [first, count] = self.spans[position];
        (first, &self.weights[position * self.stride..][..count])
    }

    /// Changes the number of columns: resizes rows of `width` pixels, which start `stride` bytes
    /// apart in `source`, and fills `target`.
    #[inline(always)]
    fn resize_columns(
        &self,
        source: &[u8],
        stride: usize,
        width: usize,
        [before, after]: &mut [Vec<[u8; 4 * ROWS]>; 2],
        target: &mut [u8],
    ) {
        before.resize(width, [0; 4 * ROWS]);
        after.resize(self.spans.len(), [0; 4 * ROWS]);
        let length = self.spans.len() * 3;
        for (y, targets) in target.chunks_mut(ROWS * length).enumerate() {
            for row in 0..targets.len() / length {
                let bytes = &source[(ROWS * y + row) * stride..][..width * 3];
                for (column, pixel) in before.iter_mut().zip(bytes.as_chunks::<3>().0) {
                    column[4 * row..4 * row + 3].copy_from_slice(pixel);
                }
            }
            for (position, column) in after.iter_mut().enumerate() {
                let (first, weights) = self.of(position);
                *column = weighted_mean(weights.iter().zip(&before[first..]));
            }
            for (row, target) in targets.chunks_exact_mut(length).enumerate() {
                for (pixel, column) in target.as_chunks_mut::<3>().0.iter_mut().zip(&*after) {
                    pixel.copy_from_slice(&column[4 * row..4 * row + 3]);
                }
            }
        }
    }

    /// Changes the number of rows: fills `target` with rows of `length` bytes. The rows of `source`
    /// start `stride` bytes apart.
    #[inline(always)]
    fn resize_rows(&self, source: &[u8], stride: usize, length: usize, target: &mut [u8]) {
        const BLOCK: usize = 32;
        for (y, target) in target.chunks_exact_mut(length).enumerate() {
            let (first, weights) = self.of(y);
            let (blocks, rest) = target.as_chunks_mut::<BLOCK>();
            let rest_start = blocks.len() * BLOCK;
            for (i, block) in blocks.iter_mut().enumerate() {
                let rows =
                    (first..).map(|y| source[y * stride + i * BLOCK..].first_chunk().unwrap());
                *block = weighted_mean(weights.iter().zip(rows));
            }
            for (i, byte) in rest.iter_mut().enumerate() {
                let rows =
                    (first..).map(|y| source[y * stride + rest_start + i..].first_chunk().unwrap());
                [*byte] = weighted_mean(weights.iter().zip(rows));
            }
        }
    }
}

#[inline(always)]
fn weighted_mean<'a, const N: usize>(
    weighted: impl Iterator<Item = (&'a i32, &'a [u8; N])>,
) -> [u8; N] {
    let mut sums = [HALF; N];
    for (weight, bytes) in weighted {
        for (sum, byte) in sums.iter_mut().zip(bytes) {
            *sum += weight * i32::from(*byte);
        }
    }
    let mut mean = [0; N];
    for (byte, sum) in mean.iter_mut().zip(sums) {
        *byte = (sum >> FRACTION).min(255) as u8;
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_pillow() {
        for (from, to, rows) in [
            ([51, 40], [33, 19], false),
            ([27, 59], [10, 14], true),
            ([31, 47], [35, 33], true),
            ([14, 23], [22, 29], false),
            ([40, 50], [35, 40], false),
            ([40, 51], [35, 40], true),
        ] {
            assert_eq!(rows_first(from, to), rows, "{from:?} to {to:?}");
        }
    }

    #[test]
    #[should_panic = "inside the image"]
    fn a_crop_below_the_image_panics() {
        resize(&RgbImage::new(5, 4), Crop { left: 0, top: 2, width: 5, height: 3 }, 2, 2);
    }

    #[test]
    #[should_panic = "inside the image"]
    fn a_crop_right_of_the_image_panics() {
        resize(&RgbImage::new(5, 4), Crop { left: 3, top: 0, width: 3, height: 2 }, 2, 2);
    }
}
