//! Converts samples to the colour of a pixel.

use super::{
    directory::Directory,
    samples::{Format, Samples},
    tag,
    video::Video,
};
use crate::decode::cmyk;

pub struct Color {
    pub photometric: u64,
    meaning: Meaning,
    /// The channel of premultiplied alpha, and the shift to its high byte.
    alpha: Option<(usize, u32)>,
}

enum Meaning {
    /// Of 1, 2, 4 or 8 bits, and the factor to 255.
    Grey {
        factor: u32,
        inverted: bool,
    },
    /// Of 12 or 16 bits: their high byte.
    DeepGrey {
        shift: u32,
        inverted: bool,
    },
    /// Cut off at 0 and 255.
    Signed {
        bits: usize,
    },
    /// Cut off at 0 and 255.
    Float,
    Palette(Vec<[u8; 3]>),
    /// Of 8 bits, or the high byte of 16.
    Rgb {
        shift: u32,
    },
    Cmyk {
        shift: u32,
    },
    Video(Box<Video>),
}

pub const WHITE_IS_ZERO: u64 = 0;
pub const BLACK_IS_ZERO: u64 = 1;
pub const RGB: u64 = 2;
pub const PALETTE: u64 = 3;
pub const SEPARATED: u64 = 5;
pub const YCBCR: u64 = 6;

/// JPEG that is not of the old kind.
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
        let (needed, meaning) = match (photometric, bits, format) {
            (WHITE_IS_ZERO | BLACK_IS_ZERO, 1 | 2 | 4 | 8, Format::Unsigned)
            | (BLACK_IS_ZERO, 8, Format::Signed) => {
                (1, Meaning::Grey { factor: 255 / ((1 << bits) - 1), inverted })
            }
            (WHITE_IS_ZERO | BLACK_IS_ZERO, 12 | 16, Format::Unsigned) => {
                (1, Meaning::DeepGrey { shift, inverted })
            }
            (BLACK_IS_ZERO, 16 | 32, Format::Signed) | (BLACK_IS_ZERO, 32, Format::Unsigned) => {
                (1, Meaning::Signed { bits })
            }
            (WHITE_IS_ZERO | BLACK_IS_ZERO, 32, Format::Float) => (1, Meaning::Float),
            (PALETTE, 1 | 2 | 4 | 8, Format::Unsigned) => (1, Meaning::Palette(palette(directory, bits)?)),
            (RGB, 8 | 16, Format::Unsigned) => (3, Meaning::Rgb { shift }),
            (SEPARATED, 8 | 16, Format::Unsigned) => (4, Meaning::Cmyk { shift }),
            (YCBCR, 8, Format::Unsigned) if channels == 1 => {
                (1, Meaning::Grey { factor: 1, inverted: false })
            }
            // The decoder of JPEG has made red, green and blue of them.
            (YCBCR, 8, Format::Unsigned) if compression == JPEG && together => (3, Meaning::Rgb { shift }),
            (YCBCR, 8, Format::Unsigned) => (3, Meaning::Video(Video::read(directory, compression)?.into())),
            (8..=10, ..) => return Err("TIFF with CIELAB colours is not supported: convert it".into()),
            _ => {
                return Err(format!(
                    "TIFF with samples of {bits} bits and the photometric interpretation {photometric} is not \
                     supported: convert it"
                ));
            }
        };
        if channels < needed {
            return Err(format!("it has {channels} samples a pixel, and its colours need {needed}"));
        }
        let extra = directory.numbers(tag::EXTRA_SAMPLES, channels).unwrap_or_default();
        // Some programs do not say that a fourth sample beside colours is alpha.
        let unsaid = photometric == RGB && channels == 4 && extra.is_empty();
        if channels != needed + extra.len() && !unsaid {
            return Err(format!(
                "it has {channels} samples a pixel and says the meaning of {}",
                needed + extra.len()
            ));
        }
        let alpha = (extra.first() == Some(&1)).then_some((needed, shift));
        Ok(Self { photometric, meaning, alpha })
    }

    /// Red, green and blue of a pixel.
    pub fn rgb(&self, samples: &[u32]) -> [u8; 3] {
        let color = match &self.meaning {
            Meaning::Grey { factor, inverted } => {
                let grey = (samples[0] * factor) as u8;
                [if *inverted { 255 - grey } else { grey }; 3]
            }
            Meaning::DeepGrey { shift, inverted } => {
                let grey = (samples[0] >> shift) as u8;
                [if *inverted { 255 - grey } else { grey }; 3]
            }
            Meaning::Signed { bits } => {
                let value = if *bits == 16 { i32::from(samples[0] as i16) } else { samples[0] as i32 };
                [value.clamp(0, 255) as u8; 3]
            }
            Meaning::Float => [f32::from_bits(samples[0]) as u8; 3],
            Meaning::Palette(colors) => colors.get(samples[0] as usize).copied().unwrap_or_default(),
            Meaning::Rgb { shift } => [0, 1, 2].map(|channel| (samples[channel] >> shift) as u8),
            Meaning::Cmyk { shift } => {
                cmyk::to_rgb([0, 1, 2, 3].map(|channel| (samples[channel] >> shift) as u8))
            }
            Meaning::Video(video) => video.rgb([0, 1, 2].map(|channel| samples[channel] as u8)),
        };
        match self.alpha {
            Some((alpha, shift)) => color.map(|part| divided(part, samples[alpha] >> shift)),
            None => color,
        }
    }
}

fn divided(part: u8, alpha: u32) -> u8 {
    (u32::from(part) * 255).checked_div(alpha).unwrap_or(0).min(255) as u8
}

/// High bytes of the red, then of the green, then of the blue of all colours.
fn palette(directory: &Directory, bits: usize) -> Result<Vec<[u8; 3]>, String> {
    let map = directory.numbers(tag::COLOR_MAP, 3 << bits).ok_or("it lacks its palette")?;
    let count = map.len() / 3;
    let high = |index: usize| (map[index] >> 8) as u8;
    Ok((0..count).map(|index| [0, 1, 2].map(|channel| high(channel * count + index))).collect())
}
