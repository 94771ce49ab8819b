//! The operations of automatic augmentation on bytes: those of `torchvision.transforms.RandAugment`
//! and `TrivialAugmentWide`, with the pixels of Pillow.

use super::{affine, jitter::Adjustment};

/// An operation with its magnitude.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operation {
    /// What is done.
    pub kind: Kind,
    /// How much of it, in the unit of [`Kind`]; without effect for kinds that have none.
    pub magnitude: f64,
}

/// The kinds of operations, with the units of their magnitudes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Identity,
    /// Columns per row.
    ShearX,
    /// Rows per column.
    ShearY,
    /// Columns to the right, rounded towards 0.
    TranslateX,
    /// Rows down, rounded towards 0.
    TranslateY,
    /// Degrees counterclockwise.
    Rotate,
    /// Added to the factor 1 of the difference to black.
    Brightness,
    /// Added to the factor 1 of the difference to the gray image.
    Color,
    /// Added to the factor 1 of the difference to the mean gray.
    Contrast,
    /// Added to the factor 1 of the difference to the smoothed image.
    Sharpness,
    /// Number of bits of a color that are kept.
    Posterize,
    /// Bytes of at least this value are inverted.
    Solarize,
    /// The darkest and brightest byte of each color become 0 and 255.
    AutoContrast,
    /// The histogram of each color becomes uniform.
    Equalize,
}

impl Kind {
    /// All kinds, in the order of torchvision.
    pub const ALL: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// Whether the magnitude has a random sign.
    pub fn is_signed(self) -> bool {
        use Kind::*;
        matches!(
            self,
            ShearX
                | ShearY
                | TranslateX
                | TranslateY
                | Rotate
                | Brightness
                | Color
                | Contrast
                | Sharpness
        )
    }
}

impl Operation {
    /// Changes an image of `width` columns, three bytes per pixel.
    pub fn apply(self, pixels: &mut [u8], width: usize) {
        let Self { kind, magnitude } = self;
        let height = pixels.len() / 3 / width;
        let factor = (1.0 + magnitude) as f32;
        // torchvision converts the shear to an angle and back.
        let shear = magnitude.atan().to_degrees().to_radians().tan();
        let move_by = -magnitude.trunc();
        let mut transform = |matrix| affine::transform(pixels, width, matrix);
        match kind {
            Kind::Identity => {}
            Kind::ShearX => transform([1.0, shear, 0.0, 0.0, 1.0, 0.0]),
            Kind::ShearY => transform([1.0, 0.0, 0.0, shear, 1.0, 0.0]),
            Kind::TranslateX => transform([1.0, 0.0, move_by, 0.0, 1.0, 0.0]),
            Kind::TranslateY => transform([1.0, 0.0, 0.0, 0.0, 1.0, move_by]),
            Kind::Rotate => transform(affine::rotation(magnitude, [width, height])),
            Kind::Brightness => Adjustment::Brightness.apply(factor, pixels),
            Kind::Color => Adjustment::Saturation.apply(factor, pixels),
            Kind::Contrast => Adjustment::Contrast.apply(factor, pixels),
            Kind::Sharpness => sharpen(factor, pixels, width),
            Kind::Posterize => {
                let mask = !(0xff >> magnitude as u32) as u8;
                pixels.iter_mut().for_each(|byte| *byte &= mask);
            }
            Kind::Solarize => {
                let bright = pixels.iter_mut().filter(|byte| f64::from(**byte) >= magnitude);
                bright.for_each(|byte| *byte = 255 - *byte);
            }
            Kind::AutoContrast => map_colors(pixels, stretched),
            Kind::Equalize => map_colors(pixels, equalized),
        }
    }
}

/// Scales the difference to the smoothed image (`PIL.ImageEnhance.Sharpness`). The pixels at the
/// border are not smoothed.
fn sharpen(factor: f32, pixels: &mut [u8], width: usize) {
    let source = pixels.to_vec();
    let stride = 3 * width;
    for at in stride..source.len().saturating_sub(stride) {
        if !(3..stride - 3).contains(&(at % stride)) {
            continue;
        }
        // `PIL.ImageFilter.SMOOTH`: the mean of 3×3 pixels, the middle one with weight 5, rounded.
        let sum: u32 = [at - stride, at, at + stride]
            .into_iter()
            .flat_map(|row| [row - 3, row, row + 3])
            .map(|neighbor| u32::from(source[neighbor]))
            .sum();
        let smooth = (2 * (sum + 4 * u32::from(source[at])) + 13) / 26;
        pixels[at] = super::jitter::blend(smooth as u8, source[at], factor);
    }
}

/// Replaces each byte by the entry of a table, which `table` returns for the histogram of a color.
fn map_colors(pixels: &mut [u8], table: fn(&[u32; 256]) -> Option<[u8; 256]>) {
    let mut histograms = [[0; 256]; 3];
    for pixel in pixels.as_chunks::<3>().0 {
        for (histogram, byte) in histograms.iter_mut().zip(pixel) {
            histogram[usize::from(*byte)] += 1;
        }
    }
    let tables = histograms.map(|histogram| table(&histogram));
    for pixel in pixels.as_chunks_mut::<3>().0 {
        for (table, byte) in tables.iter().zip(pixel) {
            *byte = table.map_or(*byte, |table| table[usize::from(*byte)]);
        }
    }
}

/// The table of `PIL.ImageOps.autocontrast`; `None` for a color with one value.
fn stretched(histogram: &[u32; 256]) -> Option<[u8; 256]> {
    let is_used = |byte: &usize| histogram[*byte] > 0;
    let (low, high) = ((0..256).find(is_used)?, (0..256).rfind(is_used)?);
    if low == high {
        return None;
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    Some(std::array::from_fn(|byte| (byte as f64 * scale + offset) as u8))
}

/// The table of `PIL.ImageOps.equalize`; `None` for a color with one value, or with too few pixels.
fn equalized(histogram: &[u32; 256]) -> Option<[u8; 256]> {
    let brightest = histogram.iter().rfind(|count| **count > 0)?;
    let step = (histogram.iter().sum::<u32>() - brightest) / 255;
    if step == 0 {
        return None;
    }
    let mut before = step / 2;
    Some(histogram.map(|count| {
        let level = (before / step).min(255) as u8;
        before += count;
        level
    }))
}
