//! Decodes formats with the decoders of the `image` crate.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::memory_budget::Reservation;

/// Limit of the memory that a decoder of the `image` crate may use for one image.
const MAX_DECODER_BYTES: u64 = 768 << 20;

/// Decodes a file of the given format with the `image` crate.
pub fn decode(
    format: ImageFormat,
    bytes: &[u8],
    memory: &mut Reservation,
) -> Result<RgbImage, String> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions();
    // The decoded pixels, and those of the RGB image.
    let bytes_per_pixel = usize::from(decoder.color_type().bytes_per_pixel()) + 3;
    memory.for_image(width.into(), height.into(), bytes_per_pixel)?;
    let image = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    let pixels = match image {
        DynamicImage::ImageLuma16(p) => high_bytes(p.as_raw(), |&[gray]: &[u16; 1]| [gray; 3]),
        DynamicImage::ImageLumaA16(p) => high_bytes(p.as_raw(), |&[gray, _]: &[u16; 2]| [gray; 3]),
        DynamicImage::ImageRgb16(p) => high_bytes(p.as_raw(), |&color: &[u16; 3]| color),
        DynamicImage::ImageRgba16(p) => {
            high_bytes(p.as_raw(), |&[r, g, b, _]: &[u16; 4]| [r, g, b])
        }
        bytes => return Ok(bytes.into_rgb8()),
    };
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| "its pixels are incomplete".into())
}

/// Returns the high bytes of red, green and blue of 16-bit pixels, as Pillow does; the `image`
/// crate would round.
fn high_bytes<const N: usize>(samples: &[u16], color: impl Fn(&[u16; N]) -> [u16; 3]) -> Vec<u8> {
    samples.as_chunks().0.iter().flat_map(|pixel| color(pixel).map(|s| (s >> 8) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_samples_are_reduced_to_their_high_byte() {
        assert_eq!(high_bytes(&[0x00FF, 0x80FF, 0xFFFF], |&c: &[u16; 3]| c), [0x00, 0x80, 0xFF]);
        assert_eq!(high_bytes(&[0x12FF, 0xFFFF], |&[gray, _]: &[u16; 2]| [gray; 3]), [0x12; 3]);
    }
}
