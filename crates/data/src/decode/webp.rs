//! Decodes WebP with the `image` crate.

use std::borrow::Cow;

use image::{ImageFormat, RgbImage, imageops};

use super::{image_crate, memory_budget::Reservation, orientation::Metadata};

/// Offset of the flags in a file whose first chunk is `VP8X`.
const FLAGS: usize = 20;

pub fn decode(bytes: &[u8], memory: &mut Reservation) -> Result<RgbImage, String> {
    match chunks(bytes).find(|(kind, _)| *kind == b"ANMF") {
        Some((_, frame)) => first_frame(bytes, frame, memory),
        None => image_crate::decode(ImageFormat::WebP, &with_true_flags(bytes), memory),
    }
}

/// Removes the flags of chunks that the file does not have, such as metadata that another program
/// has removed. The `image` crate refuses files with such flags.
fn with_true_flags(bytes: &[u8]) -> Cow<'_, [u8]> {
    let has = |kind: &[u8; 4]| chunks(bytes).any(|(found, _)| found == kind);
    let Some((b"VP8X", &[flags, ..])) = chunks(bytes).next() else { return bytes.into() };
    // Lossless data have alpha without another chunk.
    let alpha = has(b"ALPH") || !has(b"VP8 ");
    let chunks = [(0x10_u8, alpha), (0x08, has(b"EXIF")), (0x04, has(b"XMP "))];
    let missing = chunks.iter().filter(|(_, is_there)| !is_there);
    let true_flags = missing.fold(flags, |flags, (flag, _)| flags & !flag);
    if true_flags == flags {
        return bytes.into();
    }
    let mut bytes = bytes.to_vec();
    bytes[FLAGS] = true_flags;
    bytes.into()
}

/// Decodes the first frame of an animation, placed on a black canvas without blending. The `image`
/// crate would blend it with the background color, which Pillow ignores.
fn first_frame(bytes: &[u8], frame: &[u8], memory: &mut Reservation) -> Result<RgbImage, String> {
    const TRUNCATED: &str = "its animation is truncated";
    let number =
        |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let (_, canvas) = chunks(bytes).find(|(kind, _)| *kind == b"VP8X").ok_or(TRUNCATED)?;
    let canvas = canvas.get(4..10).ok_or(TRUNCATED)?;
    let [width, height] = [&canvas[..3], &canvas[3..]].map(|side| number(side) + 1);
    let (place, parts) = frame.split_first_chunk::<16>().ok_or(TRUNCATED)?;
    let [left, top] = [&place[..3], &place[3..6]].map(|offset| number(offset) * 2);
    let [across, down] = [&place[6..9], &place[9..12]].map(|side| number(side) + 1);
    if left + across > width || top + down > height {
        return Err("its first frame is larger than its canvas".into());
    }
    memory.for_image(width.into(), height.into(), 3)?;
    let image = image_crate::decode(ImageFormat::WebP, &still(&place[6..12], parts), memory)?;
    if image.dimensions() != (across, down) {
        return Err("the size of its first frame is not that in its header".into());
    }
    if (across, down) == (width, height) {
        return Ok(image);
    }
    let mut screen = RgbImage::new(width, height);
    imageops::replace(&mut screen, &image, left.into(), top.into());
    Ok(screen)
}

/// Creates a file from the chunks of a frame.
fn still(sides: &[u8], parts: &[u8]) -> Vec<u8> {
    const ALPHA: u32 = 1 << 4;
    let flags = if parts.starts_with(b"ALPH") { ALPHA } else { 0 };
    let header = [&flags.to_le_bytes(), sides].concat();
    let body = [b"WEBPVP8X\x0A\0\0\0", &header[..], parts].concat();
    [b"RIFF", &(body.len() as u32).to_le_bytes(), &body[..]].concat()
}

/// Reads the first EXIF chunk and the first XMP chunk, if the header declares them.
pub fn metadata(bytes: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    let mut flags = 0;
    for (kind, data) in chunks(bytes) {
        match kind {
            b"VP8X" => flags = data.first().copied().unwrap_or(0),
            b"EXIF" if flags & 0x08 != 0 && metadata.exif.is_none() => {
                metadata.exif = Some(data.to_vec())
            }
            b"XMP " if flags & 0x04 != 0 && metadata.xmp.is_none() => {
                metadata.xmp = Some(data.to_vec())
            }
            _ => {}
        }
    }
    metadata
}

/// Iterates over the RIFF chunks: kind and data.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (kind, data, after) = chunk(rest)?;
        rest = after;
        Some((kind, data))
    })
}

/// Returns the kind and the data of the first chunk, and the bytes after it.
fn chunk(bytes: &[u8]) -> Option<(&[u8; 4], &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (data, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    // Data of odd length are followed by a padding byte.
    Some((kind, data, after.get(data.len() % 2..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metadata_that_the_header_declares_are_read() {
        let chunk = |kind: &[u8; 4], data: &[u8]| {
            let padding = &[0][..data.len() % 2];
            [&kind[..], &(data.len() as u32).to_le_bytes(), data, padding].concat()
        };
        for (flags, expected) in
            [(0x0C, [Some("one"), Some("x")]), (0x08, [Some("one"), None]), (0, [None; 2])]
        {
            let file = [
                &b"RIFF\0\0\0\0WEBP"[..],
                &chunk(b"VP8X", &[flags, 0, 0, 0]),
                &chunk(b"EXIF", b"one"),
                &chunk(b"EXIF", b"two"),
                &chunk(b"XMP ", b"x"),
            ]
            .concat();
            let Metadata { exif, xmp } = metadata(&file);
            let expected = expected.map(|text| text.map(|text| text.as_bytes().to_vec()));
            assert_eq!([exif, xmp], expected, "{flags}");
        }
    }
}
