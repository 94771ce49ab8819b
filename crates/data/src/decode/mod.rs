//! Decodes image files to RGB, as Pillow's `Image.open(file).convert("RGB")` does. The format is
//! detected by the content. An alpha channel is dropped, not blended. Of an animation, the first
//! frame is decoded. The image is rotated upright as by `ImageOps.exif_transpose`, unless
//! [`Options`] disable it.
//!
//! For all supported files, the pixels are those of Pillow 13 byte for byte, except where Pillow
//! has a bug. In these cases the correct pixels are returned: for gray of more than 8 bits the high
//! byte (Pillow clips at 255, which gives a white image), and for a few rare kinds of TIFF, BMP and
//! GIF. A JPEG with invalid data is an error (Pillow decodes as much as it can). A JPEG without an
//! end marker is read (Pillow refuses it). `docs/formats.md` lists what is supported, what differs
//! and what is refused; the test `tests/formats.rs` checks that the list is complete.

mod bmp;
mod cmyk;
mod gif;
mod image_crate;
mod jpeg;
mod limits;
mod memory_budget;
mod orientation;
mod png;
mod pnm;
mod stored;
mod tiff;
mod webp;

use std::{fs::File, io::Read, path::Path};

pub use alexnet_core::ExifOrientation;
use image::{ImageFormat, RgbImage, metadata::Orientation};

pub use self::limits::{MAX_FILE_BYTES, MAX_PIXELS, MAX_SIDE};
pub(crate) use self::memory_budget::Reservation;
use self::{orientation::turn, stored::StoredImage};
use crate::{Error, Result, guard::guard, resize::Crop};

/// Number of additional pixels that are decoded on each side of a crop: subsampled chroma is
/// interpolated from its neighbors, and differently in an image of a few columns.
const MARGIN: u32 = 8;

/// Options of decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether the orientation in the metadata is applied. The orientation of a TIFF is always
    /// applied, as in Pillow.
    pub orientation: ExifOrientation,
    /// Largest number of pixels, at most [`MAX_PIXELS`], which is the default. Larger images are
    /// refused as soon as their header is read.
    pub max_pixels: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { orientation: ExifOrientation::default(), max_pixels: MAX_PIXELS }
    }
}

/// A decoded image. Until it is dropped, its memory counts against the budget of decoding, which
/// all threads share. To avoid a deadlock, a thread that holds one must neither wait for another
/// thread nor decode a second image.
#[derive(Debug)]
pub struct Decoded {
    /// The pixels.
    pub image: RgbImage,
    /// Whether the orientation in the metadata is not upright. The pixels are then rotated, unless
    /// the options disable it.
    pub turned: bool,
    /// Damage of the file that did not prevent reading all pixels, one clause each, such as "its
    /// end is missing".
    pub notes: Vec<String>,
    memory: Reservation,
}

impl Decoded {
    /// Removes the image from the memory budget, for a caller that limits its memory in another
    /// way.
    pub(crate) fn leave_budget(&mut self) {
        self.memory.keep(0);
    }
}

/// Decodes an image file.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Image`] if its content is not a complete
/// image.
pub fn decode(path: impl AsRef<Path>, options: Options) -> Result<Decoded> {
    let path = path.as_ref();
    let (bytes, memory) = read_file(path)?;
    decode_in(path, &bytes, options, memory)
}

/// Decodes at least the crop that `choose` returns for the image's width and height. Also returns
/// the position of the crop in the decoded pixels. The pixels are those of [`decode`], which takes
/// longer. Use it for files that [`decode`] has accepted, because damage below the crop is not
/// detected.
///
/// # Errors
/// The same as [`decode`].
pub fn decode_crop(
    path: impl AsRef<Path>,
    options: Options,
    choose: impl FnOnce(u32, u32) -> Crop,
) -> Result<(Decoded, Crop)> {
    let path = path.as_ref();
    let (mut bytes, memory) = read_file(path)?;
    decode_crop_in(path, &mut bytes, options, choose, memory)
}

/// Reads an image file, and reserves the memory for its bytes.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn read_file(path: &Path) -> Result<(Vec<u8>, Reservation)> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // Pipes and the like have no length, and are read as well. With the additional byte, the buffer
    // need not grow to find the end.
    let length = file.metadata().map_or(0, |metadata| metadata.len()).min(MAX_FILE_BYTES) as usize;
    let mut memory = Reservation::default();
    memory.take(length);
    let mut bytes = Vec::with_capacity(length + 1);
    read(path, file, &mut bytes)?;
    Ok((bytes, memory))
}

/// Decodes all bytes of a reader; errors refer to it as `name`.
///
/// # Errors
/// The same as [`decode`].
pub fn decode_reader(
    name: impl AsRef<Path>,
    reader: impl Read,
    options: Options,
) -> Result<Decoded> {
    let mut bytes = Vec::new();
    read(name.as_ref(), reader, &mut bytes)?;
    decode_bytes(name, &bytes, options)
}

fn read(name: &Path, reader: impl Read, bytes: &mut Vec<u8>) -> Result<()> {
    reader.take(MAX_FILE_BYTES + 1).read_to_end(bytes).map_err(Error::io("read", name))?;
    Ok(())
}

/// Decodes the bytes of an image file; errors refer to them as `name`.
///
/// # Errors
/// [`Error::Image`] if they are not a complete image.
pub fn decode_bytes(name: impl AsRef<Path>, bytes: &[u8], options: Options) -> Result<Decoded> {
    decode_in(name.as_ref(), bytes, options, Reservation::default())
}

/// Does the same as [`decode_crop`] for the bytes of an image file. The bytes are changed
/// temporarily. Errors refer to them as `name`.
///
/// # Errors
/// The same as [`decode_bytes`].
pub fn decode_bytes_crop(
    name: impl AsRef<Path>,
    bytes: &mut [u8],
    options: Options,
    choose: impl FnOnce(u32, u32) -> Crop,
) -> Result<(Decoded, Crop)> {
    decode_crop_in(name.as_ref(), bytes, options, choose, Reservation::default())
}

/// Does the same as [`decode_bytes`], with the memory reservation of the bytes.
///
/// # Errors
/// The same as [`decode_bytes`].
pub(crate) fn decode_in(
    name: &Path,
    bytes: &[u8],
    options: Options,
    mut memory: Reservation,
) -> Result<Decoded> {
    memory.max_pixels = options.max_pixels.min(MAX_PIXELS);
    let StoredImage { mut image, orientation, mut turned, notes } =
        guarded(name, || decode_stored(bytes, &mut memory))?;
    if orientation != Orientation::NoTransforms {
        turned = true;
        if options.orientation == ExifOrientation::Apply {
            memory.take(image.as_raw().len());
            image = turn(image, orientation);
        }
    }
    memory.keep(image.as_raw().len());
    Ok(Decoded { image, turned, notes, memory })
}

/// Runs a decoder. All decoders run through this function, which turns a panic into an error that
/// names the file.
fn guarded<T>(name: &Path, decode: impl FnOnce() -> Result<T, String>) -> Result<T> {
    let decoded = guard(decode)
        .unwrap_or_else(|panic| Err(format!("the decoder failed with an internal error: {panic}")));
    decoded.map_err(|reason| Error::Image { path: name.to_owned(), reason: shortened(reason) })
}

/// Shortens a message: some libraries print thousands of numbers from a damaged file.
fn shortened(reason: String) -> String {
    const MAX_CHARS: usize = 300;
    match reason.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason,
    }
}

/// Detects the format by the first bytes of a file.
pub(crate) fn format(bytes: &[u8]) -> Option<ImageFormat> {
    match bytes {
        // BigTIFF, which the `image` crate does not detect.
        [b'I', b'I', 43, 0, ..] | [b'M', b'M', 0, 43, ..] => Some(ImageFormat::Tiff),
        _ => image::guess_format(bytes).ok(),
    }
}

/// Decodes an image with the decoder of its format.
fn decode_stored(bytes: &[u8], memory: &mut Reservation) -> Result<StoredImage, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20));
    }
    match format(bytes) {
        Some(ImageFormat::Jpeg) => {
            let orientation = jpeg::metadata(bytes).orientation();
            Ok(StoredImage { orientation, ..jpeg::decode(bytes, None, memory)?.into() })
        }
        Some(ImageFormat::Png) => png::decode(bytes, memory),
        Some(ImageFormat::Gif) => gif::decode(bytes, memory).map(StoredImage::from),
        Some(ImageFormat::Bmp) => bmp::decode(bytes, memory).map(StoredImage::from),
        Some(ImageFormat::Tiff) => tiff::decode(bytes, memory),
        Some(ImageFormat::WebP) => {
            let orientation = webp::metadata(bytes).orientation();
            Ok(StoredImage { orientation, ..webp::decode(bytes, memory)?.into() })
        }
        Some(ImageFormat::Pnm) => pnm::decode(bytes, memory).map(StoredImage::from),
        _ => Err(unknown_format(bytes).into()),
    }
}

/// Describes a file of another format, with the next step for those that are often met.
fn unknown_format(bytes: &[u8]) -> &'static str {
    match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..]
            if [&b"hei"[..], b"hev", b"mif1", b"msf1", b"avi"]
                .iter()
                .any(|b| brand.starts_with(b)) =>
        {
            "it is HEIC or AVIF, which are not supported: convert it to JPEG or PNG"
        }
        _ if bytes.starts_with(b"version https://git-lfs") => {
            "it is a pointer of Git LFS instead of the image: run `git lfs pull`"
        }
        _ => "it is not a JPEG, PNG, GIF, BMP, TIFF, WebP or PNM image",
    }
}

/// Does the same as [`decode_bytes_crop`], with the memory reservation of the bytes.
///
/// # Errors
/// The same as [`decode_bytes`].
pub(crate) fn decode_crop_in(
    name: &Path,
    bytes: &mut [u8],
    options: Options,
    choose: impl FnOnce(u32, u32) -> Crop,
    mut memory: Reservation,
) -> Result<(Decoded, Crop)> {
    let within_limit = bytes.len() as u64 <= MAX_FILE_BYTES;
    let turned = within_limit && jpeg::metadata(bytes).orientation() != Orientation::NoTransforms;
    let as_stored = within_limit && (!turned || options.orientation == ExifOrientation::Ignore);
    let Some(size) = jpeg::size(bytes).filter(|_| as_stored) else {
        let decoded = decode_in(name, bytes, options, memory)?;
        let crop = choose(decoded.image.width(), decoded.image.height());
        return Ok((decoded, crop));
    };
    let crop = choose(size.width, size.height);
    // Some files can only be decoded as a whole.
    let Ok((image, place)) = decode_region(bytes, &size, crop, &mut memory) else {
        return Ok((decode_in(name, bytes, options, memory)?, crop));
    };
    memory.keep(image.as_raw().len());
    Ok((Decoded { image, turned, notes: vec![], memory }, place))
}

/// Decodes the pixels around `crop`. Returns them and the position of the crop in them.
fn decode_region(
    bytes: &mut [u8],
    size: &jpeg::Size,
    crop: Crop,
    memory: &mut Reservation,
) -> Result<(RgbImage, Crop), String> {
    let region = with_margin(crop, size.width, size.height);
    // With a smaller height in the header, the rows below the region are not decoded.
    let set_height = |bytes: &mut [u8], height: u32| {
        bytes[size.height_at..size.height_at + 2].copy_from_slice(&(height as u16).to_be_bytes());
    };
    set_height(bytes, region.top + region.height);
    let image = guard(|| jpeg::decode(bytes, Some(region), memory));
    set_height(bytes, size.height);
    let image = image??;
    // The decoded columns are either all columns, or start at the block boundary at or left of the
    // region and end with the region.
    let left =
        if image.width() == size.width { 0 } else { region.left + region.width - image.width() };
    Ok((image, Crop { left: crop.left - left, top: crop.top - region.top, ..crop }))
}

fn with_margin(crop: Crop, width: u32, height: u32) -> Crop {
    let (left, top) = (crop.left.saturating_sub(MARGIN), crop.top.saturating_sub(MARGIN));
    let right = (crop.left + crop.width + MARGIN).min(width);
    let bottom = (crop.top + crop.height + MARGIN).min(height);
    Crop { left, top, width: right - left, height: bottom - top }
}

#[cfg(test)]
mod tests {
    use alexnet_core::rng::{Purpose, generator};
    use image::{
        ImageEncoder,
        codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder},
    };
    use libjpeg_turbo_rs::{ColorSpace, Encoder, PixelFormat};
    use rand::{Rng, RngExt};

    use super::{orientation::tests::exif, png::tests::png, *};

    const OPTIONS: Options =
        Options { orientation: ExifOrientation::Apply, max_pixels: MAX_PIXELS };
    const IGNORE: Options = Options { orientation: ExifOrientation::Ignore, ..OPTIONS };

    #[test]
    fn a_file_of_another_format_is_described() {
        for (bytes, words) in [
            (&b"\0\0\0\x18ftypheic\0\0"[..], "HEIC or AVIF, which are not supported: convert"),
            (b"\0\0\0\x1Cftypavif", "HEIC or AVIF"),
            (b"\0\0\0\x1Cftypmp42", "it is not a JPEG, PNG"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "run `git lfs pull`"),
            (b"<html>", "it is not a JPEG, PNG"),
        ] {
            let error = decode_bytes("x.jpg", bytes, Options::default()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_limit_of_pixels_holds_for_all_formats() {
        use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
        let image = image::DynamicImage::new_rgb8(20, 10);
        let mut files = vec![[&b"P6 20 10 255\n"[..], image.as_bytes()].concat()];
        for format in [Jpeg, Png, Gif, Bmp, Tiff, WebP] {
            let mut file = std::io::Cursor::new(vec![]);
            image.write_to(&mut file, format).unwrap();
            files.push(file.into_inner());
        }
        for file in files {
            let format = format(&file);
            let decode = |max_pixels| {
                let options = Options { max_pixels, ..OPTIONS };
                decode_bytes("a", &file, options).map(|decoded| decoded.image)
            };
            assert_eq!(decode(200).unwrap().dimensions(), (20, 10), "{format:?}");
            let error = decode(199).unwrap_err().to_string();
            assert!(error.contains("20×10 pixels, and the limit is 199"), "{format:?}: {error}");
        }
    }

    fn random_crop(width: u32, height: u32, rng: &mut impl Rng) -> Crop {
        let (left, top) = (rng.random_range(0..width), rng.random_range(0..height));
        let (width, height) =
            (rng.random_range(1..=width - left), rng.random_range(1..=height - top));
        Crop { left, top, width, height }
    }

    fn part(image: &RgbImage, Crop { left, top, width, height }: Crop) -> Vec<u8> {
        image::imageops::crop_imm(image, left, top, width, height).to_image().into_raw()
    }

    /// All color formats and codings of coefficients, for undamaged files and for damaged files
    /// that can be decoded.
    #[test]
    fn a_crop_has_the_pixels_of_the_whole_image() {
        const SIDES: [u32; 2] = [103, 91];
        let [width, height] = SIDES.map(|side| side as usize);
        let mut rng = generator(0, Purpose::Synthetic, 0, 0);
        let pixels: Vec<u8> = (0..width * height * 4).map(|_| rng.random()).collect();
        // Gray and CMYK are not subsampled.
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
        for (kind, (format, colors, sampling)) in kinds.into_iter().enumerate() {
            let encoder = || {
                let pixels = &pixels[..width * height * format.bytes_per_pixel()];
                let encoder =
                    Encoder::new(pixels, width, height, format).quality(80).colorspace(colors);
                if format == PixelFormat::Rgb {
                    encoder.sampling_factors(sampling.into())
                } else {
                    encoder
                }
            };
            // The encoder does not support progressive CMYK.
            let codings = [
                encoder(),
                encoder().progressive(format != PixelFormat::Cmyk),
                encoder().restart_blocks(5),
            ];
            for (coding, encoder) in codings.into_iter().enumerate() {
                let file = encoder.encode().unwrap();
                for round in 0..60 {
                    let mut file = file.clone();
                    if round % 2 == 1 {
                        let bit = rng.random_range(0..file.len() * 8);
                        file[bit / 8] ^= 1 << (bit % 8);
                    }
                    let Ok(Decoded { image: whole, .. }) = decode_bytes("it", &file, OPTIONS)
                    else {
                        continue;
                    };
                    let crop = random_crop(whole.width(), whole.height(), &mut rng);
                    let (decoded, place) =
                        decode_bytes_crop("it", &mut file, OPTIONS, |_, _| crop).unwrap();
                    let same = part(&decoded.image, place) == part(&whole, crop);
                    assert!(same, "{kind}, {coding}, {round}: {crop:?}");
                    crops += usize::from(decoded.image.dimensions() != whole.dimensions());
                }
            }
        }
        assert!(crops > 1000, "{crops}");
    }

    fn refusal(name: &str, bytes: &[u8]) -> String {
        decode_bytes(name, bytes, OPTIONS).unwrap_err().to_string()
    }

    fn noise(width: u32, height: u32) -> RgbImage {
        let mut rng = generator(1, Purpose::Synthetic, 0, 0);
        RgbImage::from_fn(width, height, |_, _| image::Rgb(rng.random()))
    }

    fn encode_with(mut encoder: impl ImageEncoder, image: &RgbImage, exif: &[u8]) {
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        image.write_with_encoder(encoder).unwrap();
    }

    /// Returns files of this image with this orientation in their metadata.
    fn turned_files(image: &RgbImage, orientation: u8) -> [(&'static str, Vec<u8>); 3] {
        let exif = exif(orientation);
        let (mut jpeg, mut png, mut webp) = (vec![], vec![], vec![]);
        encode_with(JpegEncoder::new(&mut jpeg), image, &exif);
        encode_with(PngEncoder::new(&mut png), image, &exif);
        encode_with(WebPEncoder::new_lossless(&mut webp), image, &exif);
        [("JPEG", jpeg), ("PNG", png), ("WebP", webp)]
    }

    /// For each pixel of the upright image, the position in the stored image follows from the
    /// figures of the EXIF standard.
    #[test]
    fn images_are_turned_upright() {
        let stored = noise(45, 37);
        let (right, bottom) = (44, 36);
        for orientation in 1..=8 {
            let stored_position = |x, y| match orientation {
                1 => (x, y),
                2 => (right - x, y),
                3 => (right - x, bottom - y),
                4 => (x, bottom - y),
                5 => (y, x),
                6 => (y, bottom - x),
                7 => (right - y, bottom - x),
                _ => (right - y, x),
            };
            let size = if orientation < 5 { (45, 37) } else { (37, 45) };
            for (format, file) in turned_files(&stored, orientation) {
                let as_stored = decode_bytes(format, &file, IGNORE).unwrap();
                let upright = decode_bytes(format, &file, OPTIONS).unwrap();
                assert_eq!(as_stored.image.dimensions(), (45, 37));
                assert!(format == "JPEG" || as_stored.image == stored, "{format}");
                assert_eq!(upright.image.dimensions(), size, "{format}, {orientation}");
                assert_eq!([as_stored.turned, upright.turned], [orientation != 1; 2], "{format}");
                for (x, y, pixel) in upright.image.enumerate_pixels() {
                    let (from_x, from_y) = stored_position(x, y);
                    assert_eq!(
                        pixel,
                        as_stored.image.get_pixel(from_x, from_y),
                        "{format}, {orientation}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_crop_of_a_rotated_image_has_the_pixels_of_the_whole_image() {
        let mut rng = generator(2, Purpose::Synthetic, 0, 0);
        let stored = noise(103, 91);
        for orientation in 1..=8 {
            for (format, file) in turned_files(&stored, orientation) {
                for options in [OPTIONS, IGNORE] {
                    let whole = decode_bytes(format, &file, options).unwrap();
                    let crop = random_crop(whole.image.width(), whole.image.height(), &mut rng);
                    let (part_of, place) =
                        decode_bytes_crop(format, &mut file.clone(), options, |_, _| crop).unwrap();
                    assert!(
                        part(&part_of.image, place) == part(&whole.image, crop),
                        "{format}, {orientation}"
                    );
                    assert_eq!(part_of.turned, whole.turned);
                }
            }
        }
    }

    #[test]
    fn errors_name_the_file_and_the_reason() {
        assert_eq!(refusal("a/b.jpg", b""), "a/b.jpg is not a readable image: the file is empty");
        let text = refusal("text.jpg", b"These are words, not pixels.");
        assert!(
            text.starts_with("text.jpg") && text.contains("JPEG, PNG, GIF, BMP, TIFF"),
            "{text}"
        );
        assert!(refusal("start.jpg", b"\xFF\xD8\xFF").starts_with("start.jpg"));
    }

    #[test]
    fn a_missing_file_is_an_io_error() {
        assert!(matches!(
            decode("no/such/file.jpg", OPTIONS),
            Err(Error::Io { action: "open", .. })
        ));
    }

    /// Small PNG files with a large size in the header.
    #[test]
    fn a_huge_image_is_refused_by_its_header() {
        let error = refusal("huge.png", &png(40_000, 40_000, 8, 2, &[(b"IDAT", b"")]));
        assert!(error.contains("40000×40000 pixels"), "{error}");
        let error = refusal("long.png", &png(67_108_864, 1, 8, 2, &[(b"IDAT", b"")]));
        assert!(error.contains("67108864×1 pixels, and the limit is 65535 per side"), "{error}");
    }

    #[test]
    fn an_endless_file_is_read_up_to_the_limit() {
        let error =
            decode_reader("endless", std::io::repeat(0xFF), OPTIONS).unwrap_err().to_string();
        assert!(error.contains("larger than 128 MiB"), "{error}");
    }
}
