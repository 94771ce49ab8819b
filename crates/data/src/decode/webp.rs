//! WebP, through the `image` crate.

use image::{ImageFormat, RgbImage};

use super::{library, orientation::Metadata, room::Room};

pub fn decode(bytes: &[u8], room: &mut Room) -> Result<RgbImage, String> {
    library::decode(ImageFormat::WebP, bytes, room)
}

/// EXIF and XMP: the first chunk of each that the header announces.
pub fn metadata(bytes: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    let mut flags = 0;
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((kind, data, after)) = chunk(rest) {
        match kind {
            b"VP8X" => flags = data.first().copied().unwrap_or(0),
            b"EXIF" if flags & 0x08 != 0 && metadata.exif.is_none() => metadata.exif = Some(data.to_vec()),
            b"XMP " if flags & 0x04 != 0 && metadata.xmp.is_none() => metadata.xmp = Some(data.to_vec()),
            _ => {}
        }
        rest = after;
    }
    metadata
}

/// The kind and the data of a chunk of RIFF, and what follows it.
fn chunk(bytes: &[u8]) -> Option<(&[u8; 4], &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (data, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    // An odd length is followed by a byte that says nothing.
    Some((kind, data, after.get(data.len() % 2..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_what_the_header_announces() {
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
