//! A file's bytes become an RGB picture, as Pillow's `Image.open(file).convert("RGB")` gives it: the format is told by the
//! content, an alpha channel is dropped, not blended, an animation gives its first frame, and the orientation in EXIF is not
//! applied.
//!
//! The bytes are Pillow's: of lossless formats because there is but one answer, of JPEG because the decoder repeats libjpeg-turbo,
//! which Pillow uses, in every rounding. Lossy WebP alone may differ by a few values. What differs on purpose or for want of a
//! decoder: of 16-bit grey the high byte is taken, as of 16-bit colour (Pillow cuts grey off at 255, which leaves a white
//! picture); a JPEG whose data make no sense is an error (Pillow decodes on as long as data come), and one that lacks only its end
//! marker is not (Pillow's is); a TIFF with a palette is refused.

mod bmp;
mod gif;
mod jpeg;
mod library;
mod png;
mod pnm;
mod tiff;
mod webp;

use std::{fs::File, io::Read, path::Path};

use image::{ImageFormat, RgbImage};

use crate::{Error, Result, resize::Crop};

/// Larger pictures are refused by their header: 8192×8192. With [`MAX_FILE_BYTES`] this keeps decoding within about 1 GiB.
pub const MAX_PIXELS: u64 = 1 << 26;

/// Larger files are not read: 128 MiB.
pub const MAX_FILE_BYTES: u64 = 128 << 20;

/// Around a crop so many pixels more are decoded: chroma of lower resolution is interpolated from its neighbours, and otherwise
/// in a picture of a few columns.
const MARGIN: u32 = 8;

/// Decodes a picture file.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Picture`] when its content is not a whole picture.
pub fn decode(path: impl AsRef<Path>) -> Result<RgbImage> {
    let path = path.as_ref();
    decode_bytes(path, &read_file(path)?)
}

/// Decodes at least the part of a picture file that `choose` takes of its width and height, and tells where in the decoded
/// pixels it lies. The part's pixels are those of [`decode`], which takes longer. For files that [`decode`] has accepted: damage
/// below the part goes unseen.
///
/// # Errors
/// As [`decode`].
pub fn decode_crop(
    path: impl AsRef<Path>,
    choose: impl FnOnce(u32, u32) -> Crop,
) -> Result<(RgbImage, Crop)> {
    let path = path.as_ref();
    decode_bytes_crop(path, &mut read_file(path)?, choose)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // What is no file has no length, and is read all the same. The byte more finds the end without growing the buffer.
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::with_capacity(length.min(MAX_FILE_BYTES) as usize + 1);
    read(path, file, &mut bytes)?;
    Ok(bytes)
}

/// Decodes what a reader gives, to its end; `name` stands for it in an error.
///
/// # Errors
/// As [`decode`].
pub fn decode_reader(name: impl AsRef<Path>, reader: impl Read) -> Result<RgbImage> {
    let mut bytes = Vec::new();
    read(name.as_ref(), reader, &mut bytes)?;
    decode_bytes(name, &bytes)
}

fn read(name: &Path, reader: impl Read, bytes: &mut Vec<u8>) -> Result<()> {
    reader.take(MAX_FILE_BYTES + 1).read_to_end(bytes).map_err(Error::io("read", name))?;
    Ok(())
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
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, None),
        Ok(ImageFormat::Png) => png::decode(bytes),
        Ok(ImageFormat::Gif) => gif::decode(bytes),
        Ok(ImageFormat::Bmp) => bmp::decode(bytes),
        Ok(ImageFormat::Tiff) => tiff::decode(bytes),
        Ok(ImageFormat::WebP) => webp::decode(bytes),
        Ok(ImageFormat::Pnm) => pnm::decode(bytes),
        _ => Err("it is none of JPEG, PNG, GIF, BMP, TIFF and WebP".into()),
    };
    decoded.map_err(|reason| Error::Picture { path: name.as_ref().to_owned(), reason })
}

/// [`decode_crop`] of the bytes of a picture file, which are changed; `name` stands for them in an error.
///
/// # Errors
/// As [`decode_bytes`].
pub fn decode_bytes_crop(
    name: impl AsRef<Path>,
    bytes: &mut [u8],
    choose: impl FnOnce(u32, u32) -> Crop,
) -> Result<(RgbImage, Crop)> {
    let few_enough = bytes.len() as u64 <= MAX_FILE_BYTES;
    let Some((place, width, height)) = jpeg::size(bytes).filter(|_| few_enough) else {
        let picture = decode_bytes(name, bytes)?;
        let crop = choose(picture.width(), picture.height());
        return Ok((picture, crop));
    };
    let crop = choose(width, height);
    let region = with_margin(crop, width, height);
    // What is below the region is not decoded when the header does not tell of it.
    bytes[place..place + 2].copy_from_slice(&((region.top + region.height) as u16).to_be_bytes());
    let picture = jpeg::decode(bytes, Some(region))
        .map_err(|reason| Error::Picture { path: name.as_ref().to_owned(), reason })?;
    // The columns begin at a block's boundary, to the left of the region or at its own, and end with it; or they are all there.
    let left = if picture.width() == width { 0 } else { region.left + region.width - picture.width() };
    Ok((picture, Crop { left: crop.left - left, top: crop.top - region.top, ..crop }))
}

fn with_margin(crop: Crop, width: u32, height: u32) -> Crop {
    let (left, top) = (crop.left.saturating_sub(MARGIN), crop.top.saturating_sub(MARGIN));
    let right = (crop.left + crop.width + MARGIN).min(width);
    let bottom = (crop.top + crop.height + MARGIN).min(height);
    Crop { left, top, width: right - left, height: bottom - top }
}

fn check_size(width: u64, height: u64) -> Result<(), String> {
    match width * height {
        0 => Err("it has no pixels".into()),
        1..=MAX_PIXELS => Ok(()),
        _ => Err(format!("it has {width}×{height} pixels, and the limit is {MAX_PIXELS} in all")),
    }
}

#[cfg(test)]
mod tests {
    use alexnet_core::rng::{Purpose, generator};
    use libjpeg_turbo_rs::{ColorSpace, Encoder, PixelFormat};
    use rand::{Rng, RngExt};

    use super::*;

    fn random_crop(width: u32, height: u32, rng: &mut impl Rng) -> Crop {
        let (left, top) = (rng.random_range(0..width), rng.random_range(0..height));
        let (width, height) = (rng.random_range(1..=width - left), rng.random_range(1..=height - top));
        Crop { left, top, width, height }
    }

    fn part(picture: &RgbImage, Crop { left, top, width, height }: Crop) -> Vec<u8> {
        image::imageops::crop_imm(picture, left, top, width, height).to_image().into_raw()
    }

    /// Every way to store colours, and every way to store coefficients; of each a sound file, and damaged ones that decode.
    #[test]
    fn a_crop_has_the_pixels_of_the_whole() {
        const SIDES: [u32; 2] = [103, 91];
        let [width, height] = SIDES.map(|side| side as usize);
        let mut rng = generator(0, Purpose::Synthetic, 0, 0);
        let pixels: Vec<u8> = (0..width * height * 4).map(|_| rng.random()).collect();
        // Of grey and of four inks nothing is sampled.
        let kinds = [
            (PixelFormat::Rgb, ColorSpace::YCbCr, [(1, 1), (1, 1), (1, 1)]),
            (PixelFormat::Rgb, ColorSpace::YCbCr, [(2, 1), (1, 1), (1, 1)]),
            (PixelFormat::Rgb, ColorSpace::YCbCr, [(1, 2), (1, 1), (1, 1)]),
            (PixelFormat::Rgb, ColorSpace::YCbCr, [(2, 2), (1, 1), (1, 1)]),
            (PixelFormat::Rgb, ColorSpace::YCbCr, [(4, 1), (1, 1), (1, 1)]),
            (PixelFormat::Rgb, ColorSpace::YCbCr, [(1, 4), (1, 1), (1, 1)]),
            (PixelFormat::Rgb, ColorSpace::YCbCr, [(2, 2), (2, 1), (1, 2)]),
            (PixelFormat::Rgb, ColorSpace::Rgb, [(1, 1), (1, 1), (1, 1)]),
            (PixelFormat::Grayscale, ColorSpace::Grayscale, [(1, 1); 3]),
            (PixelFormat::Cmyk, ColorSpace::Cmyk, [(1, 1); 3]),
        ];
        let mut crops = 0;
        for (kind, (format, colours, sampling)) in kinds.into_iter().enumerate() {
            let encoder = || {
                let pixels = &pixels[..width * height * format.bytes_per_pixel()];
                let encoder = Encoder::new(pixels, width, height, format).quality(80).colorspace(colours);
                if format == PixelFormat::Rgb { encoder.sampling_factors(sampling.into()) } else { encoder }
            };
            // The encoder has no progressive way with four inks.
            let ways =
                [encoder(), encoder().progressive(format != PixelFormat::Cmyk), encoder().restart_blocks(5)];
            for (way, encoder) in ways.into_iter().enumerate() {
                let file = encoder.encode().unwrap();
                for round in 0..60 {
                    let mut file = file.clone();
                    if round % 2 == 1 {
                        let bit = rng.random_range(0..file.len() * 8);
                        file[bit / 8] ^= 1 << (bit % 8);
                    }
                    let Ok(whole) = decode_bytes("it", &file) else { continue };
                    let crop = random_crop(whole.width(), whole.height(), &mut rng);
                    let (picture, place) = decode_bytes_crop("it", &mut file, |_, _| crop).unwrap();
                    assert!(part(&picture, place) == part(&whole, crop), "{kind}, {way}, {round}: {crop:?}");
                    crops += usize::from(picture.dimensions() != whole.dimensions());
                }
            }
        }
        assert!(crops > 1000, "{crops}");
    }

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
}
