//! Random brightness, contrast and saturation: `torchvision.transforms.ColorJitter(s, s, s)`, which
//! is timm's `color_jitter`, on bytes as Pillow computes it.

use rand::{RngExt, seq::SliceRandom};

/// Changes of brightness, contrast and saturation, each once, in any order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorJitter {
    /// The adjustments in their order, each with its factor; 1 changes nothing.
    pub adjustments: [(Adjustment, f32); 3],
}

/// A property of an image that a factor scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// Difference to black (`PIL.ImageEnhance.Brightness`).
    Brightness,
    /// Difference to the mean gray (`PIL.ImageEnhance.Contrast`).
    Contrast,
    /// Difference to the gray image (`PIL.ImageEnhance.Color`).
    Saturation,
}

impl ColorJitter {
    /// Draws factors uniform in `[1-strength, 1+strength]`, not below 0, in random order.
    pub fn random(strength: f64, rng: &mut impl RngExt) -> Self {
        use Adjustment::{Brightness, Contrast, Saturation};
        let lowest = (1.0 - strength).max(0.0);
        let mut adjustments = [Brightness, Contrast, Saturation]
            .map(|adjustment| (adjustment, rng.random_range(lowest..=1.0 + strength) as f32));
        adjustments.shuffle(rng);
        Self { adjustments }
    }

    /// Changes an image of any size, three bytes per pixel.
    pub fn apply(&self, pixels: &mut [u8]) {
        for (adjustment, factor) in self.adjustments {
            adjustment.apply(factor, pixels);
        }
    }
}

impl Adjustment {
    /// Changes an image of any size, three bytes per pixel, by a factor of at least 0.
    pub fn apply(self, factor: f32, pixels: &mut [u8]) {
        match self {
            Self::Brightness => blend_all(0, factor, pixels),
            Self::Contrast => {
                let grays = pixels.as_chunks().0.iter().map(|pixel| u64::from(gray(*pixel)));
                let (sum, n) = (grays.sum::<u64>(), (pixels.len() / 3).max(1));
                blend_all((sum as f64 / n as f64 + 0.5) as u8, factor, pixels);
            }
            Self::Saturation => {
                for pixel in pixels.as_chunks_mut().0 {
                    let gray = gray(*pixel);
                    *pixel = pixel.map(|byte| blend(gray, byte, factor));
                }
            }
        }
    }
}

/// Converts an RGB pixel to gray like Pillow's mode `L`: ITU-R 601-2 luma with 16 fractional bits.
fn gray([r, g, b]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16) as u8
}

fn blend_all(from: u8, factor: f32, pixels: &mut [u8]) {
    let table: [u8; 256] = std::array::from_fn(|byte| blend(from, byte as u8, factor));
    pixels.iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]);
}

/// Computes `from + factor·(to - from)`, clipped to a byte and truncated, as `PIL.Image.blend`
/// does.
pub(super) fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}
