//! Reads the orientation of an image as Pillow's `ImageOps.exif_transpose` does: tag 274 of EXIF,
//! or, if that is missing, the first `tiff:Orientation` of XMP. Metadata that Pillow cannot read
//! count as upright.

use std::collections::BTreeSet;

use image::{DynamicImage, RgbImage, metadata::Orientation};

const TAG: u16 = 274;

/// The metadata of a file.
#[derive(Debug, Default)]
pub struct Metadata {
    /// EXIF: a TIFF header and its directory, with or without a leading `Exif\0\0`.
    pub exif: Option<Vec<u8>>,
    /// XMP, which is XML text.
    pub xmp: Option<Vec<u8>>,
}

impl Metadata {
    /// Returns the transform that makes the stored image upright.
    pub fn orientation(&self) -> Orientation {
        let value = match self.exif.as_deref().map(of_exif) {
            Some(Exif::Unreadable) => None,
            Some(Exif::Value(value)) => value,
            Some(Exif::Absent) | None => self.xmp.as_deref().and_then(of_xmp),
        };
        value.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
    }
}

/// Applies an orientation to an image.
pub fn turn(image: RgbImage, orientation: Orientation) -> RgbImage {
    let mut image = DynamicImage::from(image);
    image.apply_orientation(orientation);
    image.into_rgb8()
}

/// Reads the value of the first `tiff:Orientation` attribute or element.
pub fn of_xmp(xmp: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    xmp.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).find_map(|(at, _)| {
        let rest = &xmp[at + NAME.len()..];
        let value = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?;
        value.first().filter(|digit| digit.is_ascii_digit()).map(|digit| digit - b'0')
    })
}

#[derive(Debug, PartialEq)]
enum Exif {
    /// The header is one that Pillow does not accept.
    Unreadable,
    /// The tag is missing.
    Absent,
    /// The value of the tag; `None` if it is not an integer of one byte.
    Value(Option<u8>),
}

fn of_exif(exif: &[u8]) -> Exif {
    const START: &[u8] = b"Exif\0\0";
    let data = exif.strip_prefix(START).unwrap_or(exif);
    let data =
        if data.len() < exif.len() { data.strip_prefix(START).unwrap_or(data) } else { data };
    if data.is_empty() {
        return Exif::Absent;
    }
    let little = match data.first_chunk() {
        Some(b"II\x2A\0" | b"II\0\x2A") => true,
        Some(b"MM\0\x2A" | b"MM\x2A\0" | b"MM\0\x2B") => false,
        _ => return Exif::Unreadable,
    };
    let tiff = Tiff { data, little };
    match tiff.u32(4) {
        None => Exif::Unreadable,
        Some(directory) => tiff.orientation(directory as usize).unwrap_or(Exif::Absent),
    }
}

struct Tiff<'a> {
    data: &'a [u8],
    little: bool,
}

impl Tiff<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes = *self.data.get(at..)?.first_chunk::<N>()?;
        if !self.little {
            bytes.reverse();
        }
        Some(bytes)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    /// Reads the value in a directory; `None` if the directory ends before the tag. As in Pillow,
    /// entries are skipped if their tag occurred before or if the data outside of entries, summed
    /// up, are longer than the file. An entry whose data are truncated ends the directory.
    fn orientation(&self, directory: usize) -> Option<Exif> {
        let (mut out_of_line, mut read) = (0, BTreeSet::new());
        for entry in 0..usize::from(self.u16(directory)?) {
            let at = directory.checked_add(2 + 12 * entry)?;
            let (tag, kind, count) = (self.u16(at)?, self.u16(at + 2)?, self.u32(at + 4)?);
            let field = self.u32(at + 8)?;
            let Some(unit) = unit_bytes(kind).filter(|_| !read.contains(&tag)) else { continue };
            let size = u64::from(count) * unit;
            let place = if size > 4 {
                out_of_line += size;
                if out_of_line > self.data.len() as u64 {
                    continue;
                }
                self.data.get(field as usize..)?.get(..size as usize)?;
                field as usize
            } else {
                at + 8
            };
            if size == 0 {
                continue;
            }
            if tag == TAG {
                return Some(Exif::Value(self.integer(kind, place)));
            }
            read.insert(tag);
        }
        None
    }

    /// Reads a value of an integer type, if it fits into one byte.
    fn integer(&self, kind: u16, at: usize) -> Option<u8> {
        match kind {
            3 => self.u16(at)?.try_into().ok(),
            4 | 13 => self.u32(at)?.try_into().ok(),
            6 => i8::from_le_bytes(self.bytes(at)?).try_into().ok(),
            8 => i16::from_le_bytes(self.bytes(at)?).try_into().ok(),
            9 => i32::from_le_bytes(self.bytes(at)?).try_into().ok(),
            16 => u64::from_le_bytes(self.bytes(at)?).try_into().ok(),
            _ => None,
        }
    }
}

/// Returns the size in bytes of a value of a TIFF type.
fn unit_bytes(kind: u16) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An entry of a directory: tag, type, count and field, as they are in a little-endian file.
    type Entry = (u16, u16, u32, u32);

    fn directory(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = b"II\x2A\0\x08\0\0\0".to_vec();
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, count, field) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(count.to_le_bytes());
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend([0; 4]);
        bytes
    }

    /// Returns EXIF with an orientation as the only tag.
    pub fn exif(orientation: u8) -> Vec<u8> {
        directory(&[(TAG, 3, 1, orientation.into())])
    }

    fn of(exif: &[u8], xmp: Option<&str>) -> u8 {
        let xmp = xmp.map(|text| text.as_bytes().to_vec());
        Metadata { exif: Some(exif.to_vec()), xmp }.orientation().to_exif()
    }

    /// The expected values are those of Pillow 13.
    #[test]
    fn exif_is_read_as_pillow_reads_it() {
        const MAKER: u16 = 0x010F;
        let big = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        assert_eq!(of(big, None), 6);
        for (entries, expected) in [
            (&[(TAG, 3, 1, 8)][..], 8),
            (&[(TAG, 3, 1, 9)], 1),
            (&[(TAG, 3, 1, 0)], 1),
            // The first of two values or of two tags is used.
            (&[(TAG, 3, 2, 0x0003_0006)], 6),
            (&[(TAG, 3, 1, 5), (TAG, 3, 1, 7)], 5),
            // Other integer types, and values that are not integers.
            (&[(TAG, 4, 1, 6)], 6),
            (&[(TAG, 9, 1, 6)], 6),
            (&[(TAG, 8, 1, 0xFFFA)], 1),
            (&[(TAG, 1, 1, 6)], 1),
            (&[(TAG, 2, 2, 0x36)], 1),
            (&[(TAG, 3, 0, 6)], 1),
            (&[(TAG, 99, 1, 6)], 1),
            // Entries with data longer than the file are skipped; data after the end of the file
            // end the directory.
            (&[(MAKER, 2, 9000, 10), (TAG, 3, 1, 6)], 6),
            (&[(MAKER, 2, 8, 9000), (TAG, 3, 1, 6)], 1),
            (&[(MAKER, 2, 1, 0), (MAKER, 2, 8, 9000), (TAG, 3, 1, 6)], 6),
        ] {
            let exif = directory(entries);
            assert_eq!(of(&exif, None), expected, "{entries:?}");
            assert_eq!(
                of(&[b"Exif\0\0Exif\0\0", &exif[..]].concat(), None),
                expected,
                "{entries:?}"
            );
        }
        assert_eq!(of(&exif(6)[..20], None), 1);
        assert_eq!(of(b"words", None), 1);
    }

    #[test]
    fn xmp_is_used_if_exif_has_no_orientation() {
        let attribute = r#"<rdf:Description tiff:Orientation="6"/>"#;
        let without = directory(&[(0x0100, 3, 1, 5)]);
        assert_eq!(of(&without, Some(attribute)), 6);
        assert_eq!(of(b"", Some(attribute)), 6);
        assert_eq!(of(&exif(1), Some(attribute)), 1);
        assert_eq!(of(&exif(3), Some(attribute)), 3);
        assert_eq!(of(b"words", Some(attribute)), 1);
        for (xmp, expected) in [
            ("<tiff:Orientation>8</tiff:Orientation>", 8),
            ("<tiff:Orientation>x<tiff:Orientation>3<", 3),
            ("tiff:Orientation='6'", 1),
            ("exif:Orientation=\"6\"", 1),
            ("tiff:Orientation=\"", 1),
        ] {
            let metadata = Metadata { exif: None, xmp: Some(xmp.into()) };
            assert_eq!(metadata.orientation().to_exif(), expected, "{xmp}");
        }
    }
}
