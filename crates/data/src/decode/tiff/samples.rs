//! Reads the samples from the bytes of a row.

use super::{directory::Directory, tag};

/// Limit of the samples per pixel.
pub const MAX_CHANNELS: usize = 16;

/// The number format of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Unsigned,
    Signed,
    Float,
}

/// The prediction that was subtracted before compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predictor {
    None,
    /// The sample to the left.
    Horizontal,
    /// The byte to the left. The bytes of floats are stored by significance: first the highest
    /// bytes of all samples.
    Float,
}

pub struct Samples {
    pub bits: usize,
    pub format: Format,
    /// Number of samples per pixel in the same plane.
    together: usize,
    little_endian: bool,
}

impl Samples {
    pub fn read(directory: &Directory, channels: usize, planes: usize) -> Result<Self, String> {
        let bits = directory.numbers(tag::BITS_PER_SAMPLE, channels).unwrap_or_else(|| vec![1]);
        if bits.iter().any(|other| *other != bits[0]) {
            return Err("TIFF with samples of different bits is not supported: convert it".into());
        }
        if bits.len() > 1 && bits.len() < channels {
            return Err("the number of bits of some samples is missing".into());
        }
        let format = match directory.number(tag::SAMPLE_FORMAT).unwrap_or(1) {
            1 => Format::Unsigned,
            2 => Format::Signed,
            3 => Format::Float,
            other => {
                return Err(format!(
                    "TIFF with samples of the format {other} is not supported: convert it"
                ));
            }
        };
        let bits = bits[0] as usize;
        if !matches!((bits, format), (1 | 2 | 4 | 8 | 12 | 16 | 32, Format::Unsigned))
            && !matches!((bits, format), (8 | 16 | 32, Format::Signed) | (32, Format::Float))
        {
            let kind = format!("{format:?}").to_lowercase();
            return Err(format!(
                "TIFF with {kind} samples of {bits} bits is not supported: convert it"
            ));
        }
        Ok(Self {
            bits,
            format,
            together: channels / planes,
            little_endian: directory.little_endian,
        })
    }

    /// Returns the size in bytes of a row of `pixels` pixels in a block.
    pub fn row_bytes(&self, pixels: usize) -> usize {
        (pixels * self.together * self.bits).div_ceil(8)
    }

    /// Writes the samples of a row to `numbers`: integers, or the bits of floats. `row` is changed
    /// by the predictor `Float`.
    pub fn unpack<'n>(
        &self,
        row: &mut [u8],
        predictor: Predictor,
        numbers: impl Iterator<Item = &'n mut u32>,
    ) {
        let mut little_endian = self.little_endian;
        let sorted;
        let mut row: &[u8] = if predictor == Predictor::Float {
            for at in self.together..row.len() {
                row[at] = row[at].wrapping_add(row[at - self.together]);
            }
            little_endian = false;
            let count = row.len() / 4;
            sorted = (0..count)
                .flat_map(|at| [0, 1, 2, 3].map(|weight| row[weight * count + at]))
                .collect::<Vec<u8>>();
            &sorted
        } else {
            row
        };
        let (mut buffer, mut buffered_bits) = (0_u32, 0);
        let mut next = || match self.bits {
            8 => row.split_off_first().map_or(0, |byte| (*byte).into()),
            16 => row.split_off(..2).map_or(0, |bytes| {
                let bytes = [bytes[0], bytes[1]];
                u32::from(if little_endian {
                    u16::from_le_bytes(bytes)
                } else {
                    u16::from_be_bytes(bytes)
                })
            }),
            32 => row.split_off(..4).map_or(0, |bytes| {
                let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
                if little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
            }),
            bits => {
                while buffered_bits < bits {
                    buffer = buffer << 8 | row.split_off_first().map_or(0, |byte| (*byte).into());
                    buffered_bits += 8;
                }
                buffered_bits -= bits;
                buffer >> buffered_bits & ((1 << bits) - 1)
            }
        };
        if predictor == Predictor::Horizontal {
            let mask = u32::MAX >> (32 - self.bits);
            let mut left = [0_u32; MAX_CHANNELS];
            for (index, number) in numbers.enumerate() {
                let left = &mut left[index % self.together];
                *left = left.wrapping_add(next()) & mask;
                *number = *left;
            }
        } else {
            for number in numbers {
                *number = next();
            }
        }
    }
}
