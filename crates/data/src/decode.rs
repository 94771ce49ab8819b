//! A file's bytes become an RGB picture, as Pillow's `Image.open(file).convert("RGB")` gives it: the format is told by the
//! content, an alpha channel is dropped, not blended, an animation gives its first frame, and the orientation in EXIF is not
//! applied.
//!
//! The bytes are Pillow's: of lossless formats because there is but one answer, of JPEG because the decoder repeats libjpeg-turbo,
//! which Pillow uses, in every rounding. Lossy WebP alone may differ by a few values. What differs on purpose or for want of a
//! decoder: of 16-bit grey the high byte is taken, as of 16-bit colour (Pillow cuts grey off at 255, which leaves a white
//! picture); a JPEG whose data make no sense is an error (Pillow decodes on as long as data come), and one that lacks only its end
//! marker is not (Pillow's is); a TIFF with a palette is refused.

use std::{
    fs::File,
    io::{Cursor, Read},
    path::Path,
};

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

use crate::{Error, Result};

/// Larger pictures are refused by their header: 8192×8192. With [`MAX_FILE_BYTES`] this keeps decoding within about 1 GiB.
pub const MAX_PIXELS: u64 = 1 << 26;

/// Larger files are not read: 128 MiB.
pub const MAX_FILE_BYTES: u64 = 128 << 20;

/// A progressive JPEG may come in this many passes over its pixels; usual are ten.
const MAX_SCANS: usize = 100;

/// Memory that a decoder of the `image` crate may take for one picture.
const MAX_DECODER_BYTES: u64 = 768 << 20;

/// Decodes a picture file.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Picture`] when its content is not a whole picture.
pub fn decode(path: impl AsRef<Path>) -> Result<RgbImage> {
    let path = path.as_ref();
    let file = File::open(path).map_err(Error::io("open", path))?;
    decode_reader(path, file)
}

/// Decodes what a reader gives, to its end; `name` stands for it in an error.
///
/// # Errors
/// As [`decode`].
pub fn decode_reader(name: impl AsRef<Path>, reader: impl Read) -> Result<RgbImage> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", &name))?;
    decode_bytes(name, &bytes)
}

/// Decodes the bytes of a picture file; `name` stands for them in an error.
///
/// # Errors
/// [`Error::Picture`] when they are not a whole picture.
pub fn decode_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<RgbImage> {
    let decoded = match image::guess_format(bytes) {
        _ if bytes.is_empty() => Err("the file is empty".into()),
        _ if bytes.len() as u64 > MAX_FILE_BYTES => {
            Err(format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20))
        }
        Ok(ImageFormat::Jpeg) => decode_jpeg(bytes),
        Ok(format) => decode_other(format, bytes),
        Err(_) => Err("it is none of JPEG, PNG, GIF, BMP, TIFF and WebP".into()),
    };
    decoded.map_err(|reason| Error::Picture { path: name.as_ref().to_owned(), reason })
}

/// Not through the `image` crate, whose decoder rounds otherwise than libjpeg-turbo.
fn decode_jpeg(bytes: &[u8]) -> Result<RgbImage, String> {
    let limits = DecodeLimits { max_pixels: MAX_PIXELS, max_scans: MAX_SCANS, ..DecodeLimits::default() };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(|e| e.to_string())?;
    let header = decoder.header();
    let (width, height, components) = (header.width, header.height, header.components.len());
    check_size(width.into(), height.into())?;
    let four_inks = components == 4;
    decoder.set_output_format(if four_inks { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    let pixels = decoder.decode_image().map_err(|e| e.to_string())?.into_vec();
    let pixels = if four_inks { inks_to_light(&pixels) } else { pixels };
    RgbImage::from_raw(width.into(), height.into(), pixels).ok_or_else(|| "its pixels are incomplete".into())
}

/// Cyan, magenta, yellow and black to red, green and blue as Pillow's `convert('RGB')` does it. In JPEG the inks are inverted, as
/// Adobe's programs write them and Pillow takes all.
fn inks_to_light(pixels: &[u8]) -> Vec<u8> {
    let light = |&[c, m, y, k]: &[u8; 4]| {
        [c, m, y].map(|ink| {
            // What is left of the light of the black, in its rounding of `ink·black / 255`.
            let product = u32::from(255 - ink) * u32::from(k) + 128;
            k - (((product >> 8) + product) >> 8) as u8
        })
    };
    pixels.as_chunks().0.iter().flat_map(light).collect()
}

fn decode_other(format: ImageFormat, bytes: &[u8]) -> Result<RgbImage, String> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into())?;
    let picture = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    let pixels = match picture {
        DynamicImage::ImageLuma16(p) => high_bytes(p.as_raw(), |&[grey]: &[u16; 1]| [grey; 3]),
        DynamicImage::ImageLumaA16(p) => high_bytes(p.as_raw(), |&[grey, _]: &[u16; 2]| [grey; 3]),
        DynamicImage::ImageRgb16(p) => high_bytes(p.as_raw(), |&colour: &[u16; 3]| colour),
        DynamicImage::ImageRgba16(p) => high_bytes(p.as_raw(), |&[r, g, b, _]: &[u16; 4]| [r, g, b]),
        bytes => return Ok(bytes.into_rgb8()),
    };
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| "its pixels are incomplete".into())
}

fn check_size(width: u64, height: u64) -> Result<(), String> {
    match width * height {
        0 => Err("it has no pixels".into()),
        1..=MAX_PIXELS => Ok(()),
        _ => Err(format!("it has {width}×{height} pixels, and the limit is {MAX_PIXELS} in all")),
    }
}

/// The high byte of red, green and blue of 16-bit pixels, as Pillow takes it; the `image` crate would round.
fn high_bytes<const N: usize>(samples: &[u16], colour: impl Fn(&[u16; N]) -> [u16; 3]) -> Vec<u8> {
    samples.as_chunks().0.iter().flat_map(|pixel| colour(pixel).map(|s| (s >> 8) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, bytes: &[u8]) -> String {
        decode_bytes(name, bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_picture_is_named_with_the_reason() {
        assert_eq!(refusal("a/b.jpg", b""), "a/b.jpg is not a readable picture: the file is empty");
        let text = refusal("text.jpg", b"These are words, not pixels.");
        assert!(text.starts_with("text.jpg") && text.contains("JPEG, PNG, GIF, BMP, TIFF"), "{text}");
        assert!(refusal("start.jpg", b"\xFF\xD8\xFF").starts_with("start.jpg"));
    }

    #[test]
    fn a_missing_file_is_an_io_error() {
        assert!(matches!(decode("no/such/file.jpg"), Err(Error::Io { action: "open", .. })));
    }

    /// A PNG that says it has 40,000×40,000 pixels, in a few bytes.
    #[test]
    fn a_huge_picture_is_refused_by_its_header() {
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut chunk = |kind: &[u8; 4], data: &[u8]| {
            let mut crc = flate2::Crc::new();
            crc.update(kind);
            crc.update(data);
            file.extend((data.len() as u32).to_be_bytes());
            file.extend(kind);
            file.extend(data);
            file.extend(crc.sum().to_be_bytes());
        };
        chunk(b"IHDR", &[0, 0, 0x9C, 0x40, 0, 0, 0x9C, 0x40, 8, 2, 0, 0, 0]);
        chunk(b"IDAT", &[]);
        let error = refusal("huge.png", &file);
        assert!(error.contains("40000×40000 pixels"), "{error}");
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        let error = decode_reader("endless", std::io::repeat(0xFF)).unwrap_err().to_string();
        assert!(error.contains("larger than 128 MiB"), "{error}");
    }

    #[test]
    fn sixteen_bits_become_their_high_byte() {
        assert_eq!(high_bytes(&[0x00FF, 0x80FF, 0xFFFF], |&c: &[u16; 3]| c), [0x00, 0x80, 0xFF]);
        assert_eq!(high_bytes(&[0x12FF, 0xFFFF], |&[grey, _]: &[u16; 2]| [grey; 3]), [0x12; 3]);
    }
}
