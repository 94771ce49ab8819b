//! Antialiased bilinear resizing of a part of a picture, byte for byte as Pillow's `Image.crop(…).resize(…, BILINEAR)` computes it
//! and torchvision's `resized_crop` and `Resize` use it (`src/libImaging/Resample.c`).
//!
//! Each output position is a weighted mean of the pixels within one output pixel's width (or one input pixel's, when enlarging).
//! Weights are rounded to 22 bits. One direction is resized after the other, with bytes between them; which is the first shows in
//! the roundings, and is Pillow 13's choice.

use std::cell::RefCell;

use image::RgbImage;
use pulp::{Arch, Simd, WithSimd};

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
    assert!(
        crop.left + crop.width <= picture.width() && crop.top + crop.height <= picture.height(),
        "the crop lies inside the picture"
    );
    assert_eq!(pixels.len(), width as usize * height as usize * 3);
    let size = [width, height].map(|side| side as usize);
    BUFFERS.with_borrow_mut(|buffers| Arch::new().dispatch(Job { buffers, picture, crop, size, pixels }));
}

/// A call of [`Buffers::resize`], compiled for each kind of processor. A closure would not do: it is not inlined.
struct Job<'a> {
    buffers: &'a mut Buffers,
    picture: &'a RgbImage,
    crop: Crop,
    size: [usize; 2],
    pixels: &'a mut [u8],
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.buffers.resize(self.picture, self.crop, self.size, self.pixels);
    }
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
    /// Two rows side by side, each pixel's three numbers and a fourth that fills the vector register; before and after.
    pairs: [Vec<[i32; 8]>; 2],
    /// The sums of an output row.
    sums: Vec<i32>,
}

impl Buffers {
    #[inline(always)]
    fn resize(&mut self, picture: &RgbImage, crop: Crop, [width, height]: [usize; 2], pixels: &mut [u8]) {
        let Self { columns, rows, between, pairs, sums } = self;
        let [left, top, crop_width, crop_height] =
            [crop.left, crop.top, crop.width, crop.height].map(|side| side as usize);
        columns.prepare(crop_width, width);
        rows.prepare(crop_height, height);
        let stride = picture.width() as usize * 3;
        let source = &picture.as_raw()[top * stride + left * 3..];
        if rows_first([crop_width, crop_height], [width, height]) {
            between.resize(height * crop_width * 3, 0);
            rows.resize_rows(source, stride, crop_width * 3, sums, between);
            columns.resize_columns(between, crop_width * 3, crop_width, pairs, pixels);
        } else {
            between.resize(crop_height * width * 3, 0);
            columns.resize_columns(source, stride, crop_width, pairs, between);
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

/// For each output position the input positions that count and their weights.
#[derive(Default)]
struct Weights {
    /// Input and output length that this is for.
    lengths: [usize; 2],
    /// First input position and number of them; their weights begin at the position times `most`.
    spans: Vec<[usize; 2]>,
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
        self.spans.clear();
        self.weights.clear();
        for position in 0..output {
            let center = (position as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let triangle = |x: usize| (1.0 - ((x as f64 - center + 0.5) * (1.0 / support)).abs()).max(0.0);
            let sum: f64 = (first..end).map(triangle).sum();
            // All are at least 0, so that adding a half and cutting off rounds.
            let weight = |x| (triangle(x) / sum * f64::from(1 << FRACTION) + 0.5) as i32;
            self.spans.push([first, end - first]);
            self.weights.extend((first..end).map(weight));
            self.weights.resize(self.spans.len() * self.most, 0);
        }
    }

    #[inline(always)]
    fn of(&self, position: usize) -> (usize, &[i32]) {
        let [first, count] = self.spans[position];
        (first, &self.weights[position * self.most..][..count])
    }

    /// Resizes rows of `width` pixels, which begin `stride` bytes apart in `source`, to those that fill `target`.
    #[inline(always)]
    fn resize_columns(
        &self,
        source: &[u8],
        stride: usize,
        width: usize,
        [pair, sums]: &mut [Vec<[i32; 8]>; 2],
        target: &mut [u8],
    ) {
        pair.resize(width, [0; 8]);
        sums.resize(self.lengths[1], [0; 8]);
        let length = self.lengths[1] * 3;
        for (y, targets) in target.chunks_mut(2 * length).enumerate() {
            for half in 0..targets.len() / length {
                let row = &source[(2 * y + half) * stride..][..width * 3];
                for (lanes, pixel) in pair.iter_mut().zip(row.as_chunks::<3>().0) {
                    lanes[4 * half..4 * half + 3].copy_from_slice(&pixel.map(i32::from));
                }
            }
            // All eight sums are kept, although six are wanted: that is what makes vector instructions of the loop.
            for (position, sums) in sums.iter_mut().enumerate() {
                let (first, weights) = self.of(position);
                let mut eight = [HALF; 8];
                for (weight, lanes) in weights.iter().zip(&pair[first..]) {
                    for (sum, number) in eight.iter_mut().zip(lanes) {
                        *sum += weight * number;
                    }
                }
                *sums = eight;
            }
            for (half, target) in targets.chunks_exact_mut(length).enumerate() {
                for (pixel, sums) in target.as_chunks_mut::<3>().0.iter_mut().zip(&*sums) {
                    *pixel = [0, 1, 2].map(|channel| to_byte(sums[4 * half + channel]));
                }
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
        for (y, target) in target.chunks_exact_mut(length).enumerate() {
            let (first, weights) = self.of(y);
            sums.fill(HALF);
            for (weight, y) in weights.iter().zip(first..) {
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
    #[should_panic = "inside the picture"]
    fn a_crop_below_the_picture_is_a_mistake() {
        resize(&RgbImage::new(5, 4), Crop { left: 0, top: 2, width: 5, height: 3 }, 2, 2);
    }

    #[test]
    #[should_panic = "inside the picture"]
    fn a_crop_beside_the_picture_is_a_mistake() {
        resize(&RgbImage::new(5, 4), Crop { left: 3, top: 0, width: 3, height: 2 }, 2, 2);
    }
}
