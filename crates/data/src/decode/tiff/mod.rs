//! Decodes the first image of a TIFF as Pillow does.
//!
//! The directory, the grid of blocks and the samples are read here, because the `tiff` crate
//! refuses many of these files. Other crates decompress the blocks. Each module of this folder is
//! one step.

mod codec;
mod color;
mod directory;
mod fax;
mod samples;
mod tag;
mod ycbcr;

use std::borrow::Cow;

use image::{RgbImage, metadata::Orientation};

use self::{
    codec::{Codec, Shape, TRUNCATED},
    color::Color,
    directory::Directory,
    samples::{MAX_CHANNELS, Samples},
};
use super::{
    limits::check_size,
    memory_budget::Reservation,
    orientation::{of_xmp, turn},
    stored::StoredImage,
};

/// Limit of a decompressed block: the largest image of four samples of 16 bits in one strip.
const MAX_BLOCK_BYTES: usize = 8 << 26;

/// Limit of the number of blocks: twice that of the largest image in tiles of 16 × 16 with separate
/// planes for eight samples.
const MAX_BLOCKS: usize = 1 << 22;

pub fn decode(bytes: &[u8], memory: &mut Reservation) -> Result<StoredImage, String> {
    let directory = Directory::read(bytes).ok_or("its directory is truncated or damaged")?;
    let side = |tag| directory.number(tag).ok_or("its width or height is missing");
    let (width, height) = (side(tag::WIDTH)?, side(tag::HEIGHT)?);
    check_size(width, height)?;
    let image = Tiff::read(bytes, &directory, width as usize, height as usize)?;
    let block = image.block_bytes();
    if block > MAX_BLOCK_BYTES {
        return Err(format!(
            "its blocks have {} MiB, and the limit is {}",
            block >> 20,
            MAX_BLOCK_BYTES >> 20
        ));
    }
    // The pixels, and those of a rotated copy.
    memory.for_image(width, height, 6)?;
    memory.take(block + image.grid.pixels(image.height) * image.codec.extra_bytes_per_pixel());
    let pixels = image.decode()?;
    let upright = RgbImage::from_raw(width as u32, height as u32, pixels).ok_or(TRUNCATED)?;
    Ok(turned(upright, &directory))
}

/// Applies the orientation regardless of the options, because Pillow does so when it loads a TIFF.
fn turned(image: RgbImage, directory: &Directory) -> StoredImage {
    let xmp = || directory.bytes(tag::XMP).and_then(of_xmp).map(u64::from);
    let value = directory.number(tag::ORIENTATION).or_else(xmp);
    let orientation = value.and_then(|value| Orientation::from_exif(value.try_into().ok()?));
    match orientation {
        None | Some(Orientation::NoTransforms) => image.into(),
        Some(orientation) => StoredImage { turned: true, ..turn(image, orientation).into() },
    }
}

/// The grid of blocks. Strips are blocks as wide as the image.
struct Grid {
    /// Width of a block in pixels.
    across: usize,
    /// Height of a block in pixels.
    down: usize,
    offsets: Vec<u64>,
    /// Empty if the file does not have them.
    lengths: Vec<u64>,
}

struct Tiff<'a> {
    bytes: &'a [u8],
    width: usize,
    height: usize,
    /// Number of samples per pixel.
    channels: usize,
    /// Number of planes: `channels` if each sample has its own blocks, otherwise 1.
    planes: usize,
    samples: Samples,
    color: Color,
    codec: Codec<'a>,
    grid: Grid,
    /// Whether the bits of each byte are in reverse order.
    reversed: bool,
}

impl<'a> Tiff<'a> {
    fn read(
        bytes: &'a [u8],
        directory: &Directory<'a>,
        width: usize,
        height: usize,
    ) -> Result<Self, String> {
        let compression = directory.number(tag::COMPRESSION).unwrap_or(1);
        let channels = directory.number(tag::SAMPLES_PER_PIXEL).unwrap_or(1) as usize;
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(format!(
                "TIFF with {channels} samples per pixel is not supported: convert it"
            ));
        }
        let planar = channels > 1 && directory.number(tag::PLANAR_CONFIGURATION) == Some(2);
        let planes = if planar { channels } else { 1 };
        let samples = Samples::read(directory, channels, planes)?;
        let color = Color::read(directory, channels, &samples, compression)?;
        let shape = Shape {
            channels: channels / planes,
            bits: samples.bits,
            photometric: color.photometric,
        };
        let codec = Codec::read(directory, compression, shape, planar)?;
        let grid = Grid::read(directory, width, height, planes)?;
        let reversed = directory.number(tag::FILL_ORDER) == Some(2) && !codec.is_jpeg();
        Ok(Self { bytes, width, height, channels, planes, samples, color, codec, grid, reversed })
    }

    /// Returns the size in bytes of one decompressed block of each plane.
    fn block_bytes(&self) -> usize {
        self.planes * self.samples.row_bytes(self.grid.across) * self.grid.down.min(self.height)
    }

    fn decode(&self) -> Result<Vec<u8>, String> {
        let Self { width, height, channels, planes, samples, grid, .. } = self;
        let mut pixels = vec![0; width * height * 3];
        let row_bytes = samples.row_bytes(grid.across);
        let (columns, rows) = (width.div_ceil(grid.across), height.div_ceil(grid.down));
        let mut numbers = vec![0; grid.across * channels];
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)))
        {
            let (top, left) = (row * grid.down, column * grid.across);
            let (down, across) = (grid.down.min(height - top), grid.across.min(width - left));
            let block = |plane: usize| {
                let data = self.data((plane * rows + row) * columns + column)?;
                self.codec.unpack(&data, grid.across, grid.down, down, row_bytes)
            };
            let mut blocks = (0..*planes).map(block).collect::<Result<Vec<_>, _>>()?;
            for y in 0..down {
                for (plane, block) in blocks.iter_mut().enumerate() {
                    let row = block.get_mut(y * row_bytes..(y + 1) * row_bytes).ok_or(TRUNCATED)?;
                    let every = numbers.iter_mut().skip(plane).step_by(*planes);
                    samples.unpack(row, self.codec.predictor(), every);
                }
                let start = ((top + y) * width + left) * 3;
                let out = pixels[start..start + across * 3].as_chunks_mut().0;
                for (pixel, samples) in out.iter_mut().zip(numbers.chunks(*channels)) {
                    *pixel = self.color.rgb(samples);
                }
            }
        }
        Ok(pixels)
    }

    /// Returns the compressed bytes of a block.
    fn data(&self, index: usize) -> Result<Cow<'a, [u8]>, String> {
        let offset =
            *self.grid.offsets.get(index).ok_or("the offsets of its pixel data are missing")?;
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..))
            .ok_or(TRUNCATED)?;
        let length = match self.grid.lengths.get(index) {
            // For uncompressed data, the length follows from the size of the block, as in Pillow.
            Some(length) if !self.codec.is_uncompressed() => {
                (*length).min(rest.len() as u64) as usize
            }
            _ => rest.len(),
        };
        let data = &rest[..length];
        Ok(if self.reversed {
            // Copy no more uncompressed data than the block.
            let row_bytes = self.samples.row_bytes(self.grid.across);
            let length = if self.codec.is_uncompressed() {
                length.min(row_bytes * self.grid.down)
            } else {
                length
            };
            data[..length].iter().map(|byte| byte.reverse_bits()).collect()
        } else {
            data.into()
        })
    }
}

impl Grid {
    /// Returns the number of pixels of a block in an image of `height` rows.
    fn pixels(&self, height: usize) -> usize {
        self.across * self.down.min(height)
    }

    fn read(
        directory: &Directory,
        width: usize,
        height: usize,
        planes: usize,
    ) -> Result<Self, String> {
        let positive = |tag| directory.number(tag).filter(|side| *side > 0);
        let strips = directory.numbers(tag::STRIP_OFFSETS, 1).is_some();
        let (across, down, offsets, lengths) = if strips {
            let down = positive(tag::ROWS_PER_STRIP).unwrap_or(u64::MAX).min(height as u64);
            (width as u64, down, tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS)
        } else {
            let side = |tag| positive(tag).ok_or("the offsets of its pixel data are missing");
            (
                side(tag::TILE_WIDTH)?,
                side(tag::TILE_LENGTH)?,
                tag::TILE_OFFSETS,
                tag::TILE_BYTE_COUNTS,
            )
        };
        check_size(across, down.min(height as u64))?;
        let (across, down) = (across as usize, down as usize);
        let blocks = planes * width.div_ceil(across) * height.div_ceil(down);
        if blocks > MAX_BLOCKS {
            return Err(format!("it has {blocks} blocks, and the limit is {MAX_BLOCKS}"));
        }
        let offsets = directory.numbers(offsets, blocks).unwrap_or_default();
        Ok(Self {
            across,
            down,
            offsets,
            lengths: directory.numbers(lengths, blocks).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a little-endian TIFF without pixels.
    fn tiff(tags: &[(u16, u32)]) -> Vec<u8> {
        let mut file = b"II*\0\x08\0\0\0".to_vec();
        file.extend((tags.len() as u16).to_le_bytes());
        for (tag, value) in tags {
            file.extend([tag.to_le_bytes(), 4_u16.to_le_bytes()].concat());
            file.extend([1_u32.to_le_bytes(), value.to_le_bytes()].concat());
        }
        file
    }

    fn refusal(tags: &[(u16, u32)]) -> String {
        decode(&tiff(tags), &mut Reservation::default()).err().unwrap()
    }

    #[test]
    fn small_files_cannot_cause_large_allocations() {
        let tile =
            |side| [(tag::TILE_WIDTH, side), (tag::TILE_LENGTH, side), (tag::TILE_OFFSETS, 8)];
        let size = |side| [(tag::WIDTH, side), (tag::HEIGHT, side)];
        assert!(refusal(&size(8193)).contains("8193×8193 pixels"));
        assert!(refusal(&[&size(8192)[..], &tile(1)].concat()).contains("67108864 blocks"));
        assert!(refusal(&[&size(1)[..], &tile(65_536)].concat()).contains("65535 per side"));
        let deep = [(tag::PHOTOMETRIC, 5), (tag::BITS_PER_SAMPLE, 16), (tag::SAMPLES_PER_PIXEL, 5)];
        let deep =
            refusal(&[&size(8192)[..], &deep, &[(tag::EXTRA_SAMPLES, 0)], &tile(8192)].concat());
        assert!(deep.contains("blocks have 640 MiB"), "{deep}");
    }

    #[test]
    fn errors_name_missing_and_unsupported_tags() {
        let size = [(tag::WIDTH, 2), (tag::HEIGHT, 2)];
        let lab = [(tag::PHOTOMETRIC, 8), (tag::BITS_PER_SAMPLE, 8), (tag::SAMPLES_PER_PIXEL, 3)];
        assert!(refusal(&[]).contains("width or height"));
        assert!(refusal(&size).contains("offsets of its pixel data"));
        assert!(refusal(&[&size[..], &lab].concat()).contains("CIELAB"));
        assert!(
            refusal(&[&size[..], &[(tag::COMPRESSION, 34_676)]].concat())
                .contains("compression 34676")
        );
    }
}
