//! Corruptions of images at three severities, to measure how accuracy falls under shift (Hendrycks
//! and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations",
//! 2019). Noise, blur, brightness, contrast and JPEG have the strengths of severities 1, 3 and 5 of
//! ImageNet-C.

mod blur;

use alexnet_core::rng::{Purpose, generator};
use image::RgbImage;
use libjpeg_turbo_rs::{Encoder, PixelFormat};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::{
    Error, Result,
    decode::{Options, decode_bytes},
    resize::{Crop, resize, resize_into},
};

/// A corruption at a severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// Its kind.
    pub kind: Kind,
    /// Its severity, an index of [`Kind::strengths`].
    pub severity: usize,
}

/// The kinds of corruptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// Gaussian noise on each color of each pixel.
    GaussianNoise,
    /// A Gaussian blur.
    GaussianBlur,
    /// The value of HSV is increased.
    Brightness,
    /// The difference to the mean color is reduced.
    Contrast,
    /// The image is compressed as JPEG.
    Jpeg,
    /// The middle of the image is enlarged.
    ScaleUp,
    /// The image is made smaller; the pixels of its border are repeated.
    ScaleDown,
    /// The image is moved in a random direction; the pixels of its border are repeated.
    Shift,
}

/// The number of severities of a kind.
pub const SEVERITIES: usize = 3;

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::GaussianNoise,
        Self::GaussianBlur,
        Self::Brightness,
        Self::Contrast,
        Self::Jpeg,
        Self::ScaleUp,
        Self::ScaleDown,
        Self::Shift,
    ];

    /// Returns its name, such as `gaussian-noise`.
    pub fn name(self) -> &'static str {
        match self {
            Self::GaussianNoise => "gaussian-noise",
            Self::GaussianBlur => "gaussian-blur",
            Self::Brightness => "brightness",
            Self::Contrast => "contrast",
            Self::Jpeg => "jpeg",
            Self::ScaleUp => "scale-up",
            Self::ScaleDown => "scale-down",
            Self::Shift => "shift",
        }
    }

    /// Returns the strengths of the severities: for noise the standard deviation and for brightness
    /// the increase, of colors between 0 and 1; for blur the standard deviation in pixels; for
    /// contrast the remaining share; for JPEG the quality; for scale the factor; for shift the share
    /// of the side.
    pub fn strengths(self) -> [f64; SEVERITIES] {
        match self {
            Self::GaussianNoise => [0.08, 0.18, 0.38],
            Self::GaussianBlur => [1.0, 3.0, 6.0],
            Self::Brightness => [0.1, 0.3, 0.5],
            Self::Contrast => [0.4, 0.2, 0.05],
            Self::Jpeg => [25.0, 15.0, 7.0],
            Self::ScaleUp | Self::ScaleDown => [1.2, 1.5, 2.0],
            Self::Shift => [0.0625, 0.125, 0.25],
        }
    }
}

impl Corruption {
    /// Changes an image of `size`×`size` pixels of three bytes. Random values depend on the
    /// corruption and `item` only.
    ///
    /// # Errors
    /// [`Error::Image`] if the image cannot be compressed.
    pub fn apply(self, pixels: &mut Vec<u8>, size: usize, item: usize) -> Result<()> {
        let strength = self.kind.strengths()[self.severity];
        let position = (self.kind as u64) << 32 | self.severity as u64;
        let rng = &mut generator(0, Purpose::Corruption, position, item as u64);
        match self.kind {
            Kind::GaussianNoise => pixels.iter_mut().for_each(|byte| {
                let noise: f64 = StandardNormal.sample(rng);
                *byte = rounded(f64::from(*byte) + 255.0 * strength * noise);
            }),
            Kind::GaussianBlur => blur::gaussian(pixels, size, strength),
            Kind::Brightness => pixels.as_chunks_mut().0.iter_mut().for_each(|pixel| {
                *pixel = brighter(*pixel, 255.0 * strength);
            }),
            Kind::Contrast => reduce_contrast(pixels, strength),
            Kind::Jpeg => *pixels = compressed(pixels, size, strength as u8)?,
            Kind::ScaleUp => enlarge(pixels, size, strength),
            Kind::ScaleDown => shrink(pixels, size, strength),
            Kind::Shift => {
                let angle = rng.random_range(0.0..std::f64::consts::TAU);
                let by = |direction: f64| (strength * size as f64 * direction).round() as isize;
                shift(pixels, size, by(angle.cos()), by(angle.sin()));
            }
        }
        Ok(())
    }
}

fn rounded(value: f64) -> u8 {
    value.round_ties_even() as u8
}

/// Increases the value of HSV, which is the largest color, and keeps hue and saturation.
fn brighter(pixel: [u8; 3], by: f64) -> [u8; 3] {
    let value = f64::from(pixel.into_iter().fold(0, u8::max));
    let increased = (value + by).min(255.0);
    match value > 0.0 {
        true => pixel.map(|byte| rounded(f64::from(byte) * increased / value)),
        false => [rounded(increased); 3],
    }
}

fn reduce_contrast(pixels: &mut [u8], share: f64) {
    let mut sums = [0.0; 3];
    for pixel in pixels.as_chunks::<3>().0 {
        sums.iter_mut().zip(pixel).for_each(|(sum, byte)| *sum += f64::from(*byte));
    }
    let means = sums.map(|sum| sum / (pixels.len() / 3) as f64);
    for pixel in pixels.as_chunks_mut::<3>().0 {
        for (byte, mean) in pixel.iter_mut().zip(means) {
            *byte = rounded(mean + share * (f64::from(*byte) - mean));
        }
    }
}

fn compressed(pixels: &[u8], size: usize, quality: u8) -> Result<Vec<u8>> {
    let encoder = Encoder::new(pixels, size, size, PixelFormat::Rgb).quality(quality);
    let refuse = |error: String| Error::Image {
        path: "-".into(),
        reason: format!("it cannot be compressed as JPEG: {error}"),
    };
    let file = encoder.encode().map_err(|error| refuse(error.to_string()))?;
    Ok(decode_bytes("-", &file, Options::default())?.image.into_raw())
}

/// Returns the square in the middle whose side is `1 / factor` of that of the image.
fn middle(side: u32, factor: f64) -> Crop {
    let part = (f64::from(side) / factor).round().max(1.0) as u32;
    let start = (side - part) / 2;
    Crop { left: start, top: start, width: part, height: part }
}

/// Resizes the [`middle`] of the image to the whole.
fn enlarge(pixels: &mut Vec<u8>, size: usize, factor: f64) {
    let side = size as u32;
    let crop = middle(side, factor);
    let Some(image) = RgbImage::from_raw(side, side, std::mem::take(pixels)) else { return };
    pixels.resize(image.as_raw().len(), 0);
    resize_into(&image, crop, false, side, side, pixels);
}

/// Resizes the image to its [`middle`].
fn shrink(pixels: &mut Vec<u8>, size: usize, factor: f64) {
    let side = size as u32;
    let Crop { left, width, .. } = middle(side, factor);
    let Some(image) = RgbImage::from_raw(side, side, std::mem::take(pixels)) else { return };
    let small = resize(&image, Crop::whole(side, side), width, width);
    let from = |to: u32| to.saturating_sub(left).min(width - 1) as usize;
    pixels.extend((0..side * side).flat_map(|at| {
        small.as_chunks::<3>().0[from(at / side) * width as usize + from(at % side)]
    }));
}

/// Moves the image to the right and down.
fn shift(pixels: &mut [u8], size: usize, right: isize, down: isize) {
    let source = pixels.to_vec();
    let from = |to: usize, by: isize| to.saturating_add_signed(-by).min(size - 1);
    for (y, row) in pixels.chunks_exact_mut(3 * size).enumerate() {
        let row_start = from(y, down) * size;
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = source.as_chunks().0[row_start + from(x, right)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(kind: Kind, severity: usize, pixels: &[u8], size: usize, item: usize) -> Vec<u8> {
        let mut pixels = pixels.to_vec();
        Corruption { kind, severity }.apply(&mut pixels, size, item).unwrap();
        pixels
    }

    #[test]
    fn noise_has_its_standard_deviation() {
        let gray = vec![128; 100 * 100 * 3];
        // Less of the noise of severity 3 remains, because colors are clipped.
        for (severity, expected) in [(0, 0.08), (1, 0.18)] {
            let noisy = apply(Kind::GaussianNoise, severity, &gray, 100, 3);
            let mean = |of: &dyn Fn(f64) -> f64| {
                noisy.iter().map(|byte| of(f64::from(*byte) - 128.0)).sum::<f64>() / 3e4
            };
            assert!(mean(&|error| error).abs() < 0.6);
            let deviation = mean(&|error| error * error).sqrt() / 255.0;
            assert!((deviation / expected - 1.0).abs() < 0.02, "{deviation}");
        }
    }

    #[test]
    fn random_values_depend_on_item_and_severity() {
        let image: Vec<u8> = (0..64 * 64 * 3).map(|i| (i * i / 7) as u8).collect();
        for kind in [Kind::GaussianNoise, Kind::Shift] {
            let first = apply(kind, 1, &image, 64, 0);
            assert_eq!(first, apply(kind, 1, &image, 64, 0));
            assert_ne!(first, apply(kind, 1, &image, 64, 1));
            assert_ne!(first, apply(kind, 2, &image, 64, 0));
        }
    }

    #[test]
    fn a_shift_has_its_length_in_each_direction() {
        let image: Vec<u8> =
            (0..64 * 64).flat_map(|i| [(i % 64) as u8, (i / 64) as u8, 0]).collect();
        let mut quadrants = [0; 4];
        for item in 0..100 {
            let moved = apply(Kind::Shift, 2, &image, 64, item);
            let [x, y, _] = moved.as_chunks::<3>().0[32 * 64 + 32];
            let (right, down) = (32 - i32::from(x), 32 - i32::from(y));
            assert!((f64::from(right).hypot(f64::from(down)) - 16.0).abs() < 1.0);
            quadrants[usize::from(right > 0) + 2 * usize::from(down > 0)] += 1;
        }
        assert!(quadrants.iter().all(|count| *count > 10), "{quadrants:?}");
    }
}
