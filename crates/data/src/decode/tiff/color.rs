//! Converts samples to the color of a pixel.

use super::{
    directory::Directory,
    samples::{Format, Samples},
    tag,
    ycbcr::YCbCr,
};
use crate::decode::cmyk;

pub struct Color {
    pub photometric: u64,
    kind: Kind,
    /// The channel of premultiplied alpha, and the shift to its high byte.
    alpha: Option<(usize, u32)>,
}

enum Kind {
    /// Gray of 1, 2, 4 or 8 bits. `factor` scales the largest value to 255.
    Gray {
        factor: u32,
        inverted: bool,
    },
    /// Gray of 12 or 16 bits, reduced to the high byte.
    DeepGray {
        shift: u32,
        inverted: bool,
    },
    /// Gray, clipped to 0 to 255.
    Signed {
        bits: usize,
    },
    /// Gray, clipped to 0 to 255.
    Float,
    Palette(Vec<[u8; 3]>),
    /// Samples of 8 bits, or the high byte of 16 bits.
    Rgb {
        shift: u32,
    },
    Cmyk {
        shift: u32,
    },
    YCbCr(Box<YCbCr>),
}

pub const WHITE_IS_ZERO: u64 = 0;
pub const BLACK_IS_ZERO: u64 = 1;
pub const RGB: u64 = 2;
pub const PALETTE: u64 = 3;
pub const SEPARATED: u64 = 5;
pub const YCBCR: u64 = 6;

/// JPEG compression, not old-style JPEG.
pub const JPEG: u64 = 7;

impl Color {
    pub fn read(
        directory: &Directory,
        channels: usize,
        samples: &Samples,
        compression: u64,
    ) -> Result<Self, String> {
        let photometric = directory.number(tag::PHOTOMETRIC).unwrap_or(WHITE_IS_ZERO);
        let (bits, format) = (samples.bits, samples.format);
        let inverted = photometric == WHITE_IS_ZERO;
        let shift = bits.saturating_sub(8) as u32;
        let together = directory.number(tag::PLANAR_CONFIGURATION) != Some(2);
        let (needed, kind) = match (photometric, bits, format) {
            (WHITE_IS_ZERO | BLACK_IS_ZERO, 1 | 2 | 4 | 8, Format::Unsigned)
            | (BLACK_IS_ZERO, 8, Format::Signed) => {
                (1, Kind::Gray { factor: 255 / ((1 << bits) - 1), inverted })
            }
            (WHITE_IS_ZERO | BLACK_IS_ZERO, 12 | 16, Format::Unsigned) => {
                (1, Kind::DeepGray { shift, inverted })
            }
            (BLACK_IS_ZERO, 16 | 32, Format::Signed) | (BLACK_IS_ZERO, 32, Format::Unsigned) => {
                (1, Kind::Signed { bits })
            }
            (WHITE_IS_ZERO | BLACK_IS_ZERO, 32, Format::Float) => (1, Kind::Float),
            (PALETTE, 1 | 2 | 4 | 8, Format::Unsigned) => {
                (1, Kind::Palette(palette(directory, bits)?))
            }
            (RGB, 8 | 16, Format::Unsigned) => (3, Kind::Rgb { shift }),
            (SEPARATED, 8 | 16, Format::Unsigned) => (4, Kind::Cmyk { shift }),
            (YCBCR, 8, Format::Unsigned) if channels == 1 => {
                (1, Kind::Gray { factor: 1, inverted: false })
            }
            // The JPEG decoder has already converted them to RGB.
            (YCBCR, 8, Format::Unsigned) if compression == JPEG && together => {
                (3, Kind::Rgb { shift })
            }
            (YCBCR, 8, Format::Unsigned) => {
                (3, Kind::YCbCr(YCbCr::read(directory, compression)?.into()))
            }
            (8..=10, ..) => {
                return Err("TIFF with CIELAB colors is not supported: convert it".into());
            }
            _ => {
                return Err(format!(
                    "TIFF with samples of {bits} bits and the photometric interpretation {photometric} is not \
                     supported: convert it"
                ));
            }
        };
        if channels < needed {
            return Err(format!(
                "it has {channels} samples per pixel, but its colors need {needed}"
            ));
        }
        let extra = directory.numbers(tag::EXTRA_SAMPLES, channels).unwrap_or_default();
        // Some programs do not declare that a fourth sample is alpha.
        let undeclared = photometric == RGB && channels == 4 && extra.is_empty();
        if channels != needed + extra.len() && !undeclared {
            return Err(format!(
                "it has {channels} samples per pixel, but declares the meaning of {}",
                needed + extra.len()
            ));
        }
        let alpha = (extra.first() == Some(&1)).then_some((needed, shift));
        Ok(Self { photometric, kind, alpha })
    }

    /// Converts the samples of a pixel to red, green and blue.
    pub fn rgb(&self, samples: &[u32]) -> [u8; 3] {
        let color = match &self.kind {
            Kind::Gray { factor, inverted } => {
                let gray = (samples[0] * factor) as u8;
                [if *inverted { 255 - gray } else { gray }; 3]
            }
            Kind::DeepGray { shift, inverted } => {
                let gray = (samples[0] >> shift) as u8;
                [if *inverted { 255 - gray } else { gray }; 3]
            }
            Kind::Signed { bits } => {
                let value =
                    if *bits == 16 { i32::from(samples[0] as i16) } else { samples[0] as i32 };
                [value.clamp(0, 255) as u8; 3]
            }
            Kind::Float => [f32::from_bits(samples[0]) as u8; 3],
            Kind::Palette(colors) => colors.get(samples[0] as usize).copied().unwrap_or_default(),
            Kind::Rgb { shift } => [0, 1, 2].map(|channel| (samples[channel] >> shift) as u8),
            Kind::Cmyk { shift } => {
                cmyk::to_rgb([0, 1, 2, 3].map(|channel| (samples[channel] >> shift) as u8))
            }
            Kind::YCbCr(ycbcr) => ycbcr.rgb([0, 1, 2].map(|channel| samples[channel] as u8)),
        };
        match self.alpha {
            Some((alpha, shift)) => color.map(|value| unmultiplied(value, samples[alpha] >> shift)),
            None => color,
        }
    }
}

/// Divides a color value by alpha.
fn unmultiplied(value: u8, alpha: u32) -> u8 {
    (u32::from(value) * 255).checked_div(alpha).unwrap_or(0).min(255) as u8
}

/// Reads the palette. The file stores all red values, then all green values, then all blue values;
/// their high bytes are used.
fn palette(directory: &Directory, bits: usize) -> Result<Vec<[u8; 3]>, String> {
    let map = directory.numbers(tag::COLOR_MAP, 3 << bits).ok_or("its palette is missing")?;
    let count = map.len() / 3;
    let high = |index: usize| (map[index] >> 8) as u8;
    Ok((0..count).map(|index| [0, 1, 2].map(|channel| high(channel * count + index))).collect())
}
