//! Antialiased bilinear resizing of a part of a picture, byte for byte as Pillow's `Image.crop(…).resize(…, BILINEAR)` computes it
//! and torchvision's `resized_crop` and `Resize` use it (`src/libImaging/Resample.c`).
//!
//! Each output position is a weighted mean of the pixels within one output pixel's width (or one input pixel's, when enlarging).
//! Weights are rounded to 22 bits. One direction is resized after the other, with bytes between them; which is the first shows in
//! the roundings, and is Pillow 13's choice.

use std::cell::RefCell;

use image::RgbImage;
use pulp::Arch;

/// A part of a picture, in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Columns left of it.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Its width, at least 1.
    pub width: u32,
    /// Its height, at least 1.
    pub height: u32,
}

impl Crop {
    /// All of a picture.
    pub fn whole(picture: &RgbImage) -> Self {
        Self { left: 0, top: 0, width: picture.width(), height: picture.height() }
    }
}

/// Resizes `crop` to `width`×`height` pixels of three bytes, row by row. Pixels outside the crop have no influence.
///
/// # Panics
/// When `crop` is empty or not inside the picture, or when `width` or `height` is 0.
pub fn resize(picture: &RgbImage, crop: Crop, width: u32, height: u32) -> Vec<u8> {
    let mut pixels = vec![0; width as usize * height as usize * 3];
    resize_into(picture, crop, width, height, &mut pixels);
    pixels
}

/// [`resize`] into `width·height·3` bytes.
///
/// # Panics
/// As [`resize`], and when `pixels` is of another length.
pub fn resize_into(picture: &RgbImage, crop: Crop, width: u32, height: u32, pixels: &mut [u8]) {
    assert!(width > 0 && height > 0, "a picture has at least one pixel");
    assert!(crop.width > 0 && crop.height > 0, "a crop has at least one pixel");
    assert_eq!(pixels.len(), width as usize * height as usize * 3);
    BUFFERS.with_borrow_mut(|buffers| {
        Arch::new()
            .dispatch(|| buffers.resize(picture, crop, [width, height].map(|side| side as usize), pixels));
    });
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Fractional bits of a weight: a sum of weighted bytes fits 32 bits.
const FRACTION: u32 = 22;
const HALF: i32 = 1 << (FRACTION - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> FRACTION).min(255) as u8
}

/// What lies between the two passes, kept to be used again.
#[derive(Default)]
struct Buffers {
    columns: Weights,
    rows: Weights,
    /// The picture with one side resized, row by row.
    between: Vec<u8>,
    /// One row, four bytes longer.
    row: Vec<u8>,
    /// The sums of an output row.
    sums: Vec<i32>,
}

impl Buffers {
    #[inline(always)]
    fn resize(&mut self, picture: &RgbImage, crop: Crop, [width, height]: [usize; 2], pixels: &mut [u8]) {
        let Self { columns, rows, between, row, sums } = self;
        let [left, top, crop_width, crop_height] =
            [crop.left, crop.top, crop.width, crop.height].map(|side| side as usize);
        columns.prepare(crop_width, width);
        rows.prepare(crop_height, height);
        let stride = picture.width() as usize * 3;
        let source = &picture.as_raw()[top * stride + left * 3..];
        if rows_first([crop_width, crop_height], [width, height]) {
            between.resize(height * crop_width * 3, 0);
            rows.resize_rows(source, stride, crop_width * 3, sums, between);
            columns.resize_columns(between, crop_width * 3, crop_width, row, pixels);
        } else {
            between.resize(crop_height * width * 3, 0);
            columns.resize_columns(source, stride, crop_width, row, between);
            rows.resize_rows(between, width * 3, width * 3, sums, pixels);
        }
    }
}

/// Whether the number of rows is changed first: when it loses more than twice as many as that of the columns.
fn rows_first([width, height]: [usize; 2], [to_width, to_height]: [usize; 2]) -> bool {
    let lost = |from, to| from as i64 - to as i64;
    let lost_rows = lost(height, to_height);
    lost_rows > 0 && lost_rows > 2 * lost(width, to_width)
}

/// For each output position the first input position and the weights from there on.
#[derive(Default)]
struct Weights {
    /// Input and output length that this is for.
    lengths: [usize; 2],
    first: Vec<usize>,
    /// `most` for each position, the last of them 0 where fewer count.
    weights: Vec<i32>,
    most: usize,
}

impl Weights {
    fn prepare(&mut self, input: usize, output: usize) {
        if self.lengths == [input, output] {
            return;
        }
        let scale = input as f64 / output as f64;
        // Half the width of the triangle; never below a pixel, or enlarging would leave gaps.
        let support = scale.max(1.0);
        self.lengths = [input, output];
        self.most = support.ceil() as usize * 2 + 1;
        self.first.clear();
        self.weights.clear();
        for position in 0..output {
            let center = (position as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let triangle = |x: usize| (1.0 - ((x as f64 - center + 0.5) * (1.0 / support)).abs()).max(0.0);
            let sum: f64 = (first..end).map(triangle).sum();
            self.first.push(first);
            // All are at least 0, so that adding a half and cutting off rounds.
            let weight = |x| (triangle(x) / sum * f64::from(1 << FRACTION) + 0.5) as i32;
            self.weights.extend((first..end).map(weight));
            self.weights.resize(self.first.len() * self.most, 0);
        }
    }

    #[inline(always)]
    fn of(&self, position: usize) -> (usize, &[i32]) {
        (self.first[position], &self.weights[position * self.most..][..self.most])
    }

    /// Resizes rows of `width` pixels, which begin `stride` bytes apart in `source`, to those that fill `target`.
    #[inline(always)]
    fn resize_columns(
        &self,
        source: &[u8],
        stride: usize,
        width: usize,
        row: &mut Vec<u8>,
        target: &mut [u8],
    ) {
        row.resize(width * 3 + 4, 0);
        let [_, to_width] = self.lengths;
        for (y, target) in target.chunks_exact_mut(to_width * 3).enumerate() {
            // A copy, so that four bytes can be read where three are meant.
            row[..width * 3].copy_from_slice(&source[y * stride..][..width * 3]);
            for (position, pixel) in target.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let (first, weights) = self.of(position);
                // Four sums fill a vector register; the last is thrown away.
                let mut sums = [HALF; 4];
                for (weight, at) in weights.iter().zip((first * 3..=width * 3).step_by(3)) {
                    let bytes = [row[at], row[at + 1], row[at + 2], row[at + 3]];
                    for (sum, byte) in sums.iter_mut().zip(bytes) {
                        *sum += weight * i32::from(byte);
                    }
                }
                *pixel = [to_byte(sums[0]), to_byte(sums[1]), to_byte(sums[2])];
            }
        }
    }

    /// Resizes to the rows of `length` bytes that fill `target`; those of `source` begin `stride` bytes apart.
    #[inline(always)]
    fn resize_rows(
        &self,
        source: &[u8],
        stride: usize,
        length: usize,
        sums: &mut Vec<i32>,
        target: &mut [u8],
    ) {
        sums.resize(length, 0);
        let [height, _] = self.lengths;
        for (y, target) in target.chunks_exact_mut(length).enumerate() {
            let (first, weights) = self.of(y);
            sums.fill(HALF);
            for (weight, y) in weights.iter().zip(first..height) {
                for (sum, byte) in sums.iter_mut().zip(&source[y * stride..][..length]) {
                    *sum += weight * i32::from(*byte);
                }
            }
            for (byte, sum) in target.iter_mut().zip(&*sums) {
                *byte = to_byte(*sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_pillows() {
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
    #[should_panic = "range"]
    fn a_crop_beyond_the_picture_is_a_mistake() {
        resize(&RgbImage::new(5, 4), Crop { left: 0, top: 2, width: 5, height: 3 }, 2, 2);
    }
}
