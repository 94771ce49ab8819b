//! Detects truncated image files: the file ends before its structure is complete.

use image::ImageFormat;

/// Returns whether the end of the file is missing. Returns `false` for formats without an end
/// marker or length, and for files with a damaged structure, since damage is not truncation.
pub fn is_truncated(format: ImageFormat, bytes: &[u8]) -> bool {
    let ends = match format {
        ImageFormat::Jpeg => jpeg_ends(bytes),
        ImageFormat::Png => png_ends(bytes),
        ImageFormat::Gif => gif_ends(bytes),
        ImageFormat::WebP => webp_ends(bytes),
        _ => Some(true),
    };
    ends.is_none()
}

/// Returns `None` if the file ends before its structure does, `Some(true)` if the structure is
/// complete, and `Some(false)` if the structure is damaged. The same holds for the functions below.
fn jpeg_ends(bytes: &[u8]) -> Option<bool> {
    // Fast path for most files. Without it, damage could look like a segment that is longer than
    // the file.
    if bytes.ends_with(&[0xFF, 0xD9]) {
        return Some(true);
    }
    let mut at = 2;
    loop {
        if *bytes.get(at)? != 0xFF {
            return Some(false);
        }
        while *bytes.get(at)? == 0xFF {
            at += 1;
        }
        let marker = bytes[at];
        at += 1;
        match marker {
            0xD9 => return Some(true),
            // Markers without a segment.
            0x01 | 0xD0..=0xD7 => continue,
            _ => at += usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)),
        }
        if marker == 0xDA {
            // Skip the data of the scan, up to a marker that is neither a stuffed byte nor a
            // restart marker.
            let pairs = bytes.get(at..)?.windows(2);
            at += pairs.into_iter().position(|pair| match *pair {
                [0xFF, next] => !matches!(next, 0x00 | 0xD0..=0xD7 | 0xFF),
                _ => false,
            })?;
        }
    }
}

fn png_ends(bytes: &[u8]) -> Option<bool> {
    const END: &[u8] = b"\0\0\0\0IEND\xAE\x42\x60\x82";
    if bytes.ends_with(END) {
        return Some(true);
    }
    let mut at = 8;
    loop {
        let [l0, l1, l2, l3, kind @ ..] = *bytes.get(at..)?.first_chunk::<8>()?;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        at = at.checked_add(length)?.checked_add(12)?;
        if at > bytes.len() {
            return None;
        }
        if &kind == b"IEND" {
            return Some(true);
        }
    }
}

fn gif_ends(bytes: &[u8]) -> Option<bool> {
    // The length of a color table in bytes, from its flags.
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + table(*bytes.get(10)?);
    loop {
        match *bytes.get(at)? {
            0x3B => return Some(true),
            0x21 => at += 2,
            0x2C => at += 11 + table(*bytes.get(at + 9)?),
            _ => return Some(false),
        }
        // Data blocks, each preceded by its length. The last block has length 0.
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
}

fn webp_ends(bytes: &[u8]) -> Option<bool> {
    let length = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?) as usize;
    bytes.get(8..)?.get(..length)?;
    Some(true)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{Rgb, RgbImage, codecs::gif::GifEncoder};
    use libjpeg_turbo_rs::{Encoder, PixelFormat};

    use super::*;

    fn image() -> RgbImage {
        RgbImage::from_fn(61, 47, |x, y| Rgb([(x * y) as u8, (x * 3) as u8, (y * 5) as u8]))
    }

    fn file(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn progressive() -> Vec<u8> {
        let image = image();
        let encoder = Encoder::new(image.as_raw(), 61, 47, PixelFormat::Rgb);
        encoder.progressive(true).restart_blocks(3).encode().unwrap()
    }

    fn animation() -> Vec<u8> {
        let mut bytes = Vec::new();
        let frame = || image::Frame::new(image::DynamicImage::from(image()).into_rgba8());
        GifEncoder::new(&mut bytes).encode_frames([frame(), frame()]).unwrap();
        bytes
    }

    /// Truncates complete files at every position after the signature.
    #[test]
    fn truncated_files_are_detected() {
        for (format, complete) in [
            (ImageFormat::Jpeg, file(ImageFormat::Jpeg)),
            (ImageFormat::Jpeg, progressive()),
            (ImageFormat::Png, file(ImageFormat::Png)),
            (ImageFormat::Gif, file(ImageFormat::Gif)),
            (ImageFormat::Gif, animation()),
            (ImageFormat::WebP, file(ImageFormat::WebP)),
        ] {
            assert!(!is_truncated(format, &complete), "{format:?}");
            let followed = [&complete[..], b"and more"].concat();
            assert!(!is_truncated(format, &followed), "{format:?}");
            // The first 20 bytes identify the format.
            for length in 20..complete.len() {
                assert!(
                    is_truncated(format, &complete[..length]),
                    "{format:?}, {length} of {}",
                    complete.len()
                );
            }
        }
    }

    #[test]
    fn a_download_that_ends_in_zeros_is_truncated() {
        let mut bytes = file(ImageFormat::Jpeg);
        let length = bytes.len();
        bytes[length / 2..].fill(0);
        assert!(is_truncated(ImageFormat::Jpeg, &bytes));
    }

    #[test]
    fn damage_before_the_end_is_not_truncation() {
        let complete = file(ImageFormat::Jpeg);
        for at in 2..complete.len() - 2 {
            let mut bytes = complete.clone();
            bytes[at] ^= 0xFF;
            assert!(!is_truncated(ImageFormat::Jpeg, &bytes), "{at}");
        }
    }
}
