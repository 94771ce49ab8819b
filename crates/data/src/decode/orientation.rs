//! Which way up an image is, as Pillow's `ImageOps.exif_transpose` finds it: the tag 274 of EXIF, and where that has none, the first
//! `tiff:Orientation` of XMP. What Pillow cannot read counts as upright.

use image::{DynamicImage, RgbImage, metadata::Orientation};

const TAG: u16 = 274;

/// What a file says beside its pixels.
#[derive(Debug, Default)]
pub struct Metadata {
    /// A TIFF header and its directory, with or without `Exif\0\0` before it.
    pub exif: Option<Vec<u8>>,
    /// XML.
    pub xmp: Option<Vec<u8>>,
}

impl Metadata {
    /// How the stored image is to be turned.
    pub fn orientation(&self) -> Orientation {
        let value = match self.exif.as_deref().map(of_exif) {
            Some(Exif::Unreadable) => None,
            Some(Exif::Value(value)) => value,
            Some(Exif::Absent) | None => self.xmp.as_deref().and_then(of_xmp),
        };
        value.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
    }
}

/// Turns an image.
pub fn turn(image: RgbImage, orientation: Orientation) -> RgbImage {
    let mut image = DynamicImage::from(image);
    image.apply_orientation(orientation);
    image.into_rgb8()
}

/// The value of the first `tiff:Orientation`, an attribute or an element.
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
    /// Without a header that Pillow accepts.
    Unreadable,
    Absent,
    /// The tag is there; `None` when its value is no small number.
    Value(Option<u8>),
}

fn of_exif(exif: &[u8]) -> Exif {
    const START: &[u8] = b"Exif\0\0";
    let data = exif.strip_prefix(START).unwrap_or(exif);
    let data = if data.len() < exif.len() { data.strip_prefix(START).unwrap_or(data) } else { data };
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

    /// The value in a directory, `None` when that ends before the tag. Entries are read in turn: one whose data are cut off ends
    /// the directory, one whose data would be longer than the file is left out.
    fn orientation(&self, directory: usize) -> Option<Exif> {
        let mut out_of_line = 0;
        for entry in 0..usize::from(self.u16(directory)?) {
            let at = directory.checked_add(2 + 12 * entry)?;
            let (tag, kind, count) = (self.u16(at)?, self.u16(at + 2)?, self.u32(at + 4)?);
            let field = self.u32(at + 8)?;
            let Some(unit) = unit_bytes(kind) else { continue };
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
            if tag == TAG && size > 0 {
                let value = self.number(kind, place).filter(|value| (0.0..=255.0).contains(value));
                return Some(Exif::Value(
                    value.filter(|value| value.fract() == 0.0).map(|value| value as u8),
                ));
            }
        }
        None
    }

    /// A number, if the kind is one of numbers.
    fn number(&self, kind: u16, at: usize) -> Option<f64> {
        let signed = |at| self.bytes(at).map(i32::from_le_bytes).map(f64::from);
        match kind {
            3 => self.u16(at).map(f64::from),
            4 | 13 => self.u32(at).map(f64::from),
            5 => Some(f64::from(self.u32(at)?) / f64::from(self.u32(at + 4)?)),
            6 => self.bytes(at).map(i8::from_le_bytes).map(f64::from),
            8 => self.bytes(at).map(i16::from_le_bytes).map(f64::from),
            9 => signed(at),
            10 => Some(signed(at)? / signed(at + 4)?),
            11 => self.bytes(at).map(f32::from_le_bytes).map(f64::from),
            12 => self.bytes(at).map(f64::from_le_bytes),
            16 => self.bytes(at).map(u64::from_le_bytes).map(|value| value as f64),
            _ => None,
        }
    }
}

/// Bytes of a value of a TIFF type.
fn unit_bytes(kind: u16) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 => Some(8),
        _ => None,
    }
}
