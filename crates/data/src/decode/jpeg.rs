//! JPEG, decoded as libjpeg-turbo does it, which Pillow uses.

use image::RgbImage;
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

use super::{MAX_PIXELS, check_size, orientation::Metadata, room::Room};
use crate::resize::Crop;

/// A progressive JPEG may come in this many passes over its pixels; usual are ten.
const MAX_SCANS: usize = 100;

/// Where in a JPEG of common kind its height stands, its width and its height; `None` of all else, and of what is too large.
pub fn size(bytes: &[u8]) -> Option<(usize, u32, u32)> {
    let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
    loop {
        let [0xFF, marker, length @ ..] = *rest.first_chunk::<4>()? else { return None };
        match marker {
            // A frame of the baseline, extended or progressive kind: bits a sample, height, width.
            0xC0..=0xC2 => {
                let [.., h0, h1, w0, w1] = *rest.first_chunk::<9>()?;
                let [height, width] = [[h0, h1], [w0, w1]].map(|side| u16::from_be_bytes(side).into());
                check_size(u64::from(width), u64::from(height)).ok()?;
                return Some((bytes.len() - rest.len() + 5, width, height));
            }
            // Tables, restart interval, applications' data, comments.
            0xC4 | 0xDB | 0xDD | 0xE0..=0xEF | 0xFE => {
                rest = rest.get(2 + usize::from(u16::from_be_bytes(length))..)?;
            }
            _ => return None,
        }
    }
}

/// EXIF and XMP, read up to the first scan as Pillow does: parts of EXIF are joined, of XMP the last counts.
pub fn metadata(bytes: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let Some(at) = rest.iter().position(|byte| *byte == 0xFF) {
        rest = &rest[at + 1..];
        let Some(&marker) = rest.first() else { break };
        // Fill bytes, stuffed bytes, and markers without data.
        if matches!(marker, 0x00 | 0xFF | 0x01 | 0xC8 | 0xD0..=0xD9 | 0xF0..=0xFD) {
            continue;
        }
        let Some((length, data)) = rest[1..].split_first_chunk() else { break };
        let Some(data) = data.get(..usize::from(u16::from_be_bytes(*length)).saturating_sub(2)) else {
            break;
        };
        match marker {
            0xDA => break,
            0xE1 => add_metadata(&mut metadata, data),
            _ => {}
        }
        rest = &rest[3 + data.len()..];
    }
    metadata
}

fn add_metadata(metadata: &mut Metadata, data: &[u8]) {
    if let Some(exif) = data.strip_prefix(b"Exif\0\0") {
        metadata.exif.get_or_insert_default().extend(exif);
    } else if let Some(xmp) = data.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
        metadata.xmp = Some(xmp.to_vec());
    }
}

/// Not through the `image` crate, whose decoder rounds otherwise than libjpeg-turbo. Of a `region` its rows are decoded, and of
/// its columns those and some to the left of them or all.
pub fn decode(bytes: &[u8], region: Option<Crop>, room: &mut Room) -> Result<RgbImage, String> {
    let limits = DecodeLimits { max_pixels: MAX_PIXELS, max_scans: MAX_SCANS, ..DecodeLimits::default() };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(|e| e.to_string())?;
    let header = decoder.header();
    let (width, height, components) = (header.width, header.height, header.components.len());
    // TODO
    room.for_image(width as u64, height as u64, 9)?;
    let four_inks = components == 4;
    decoder.set_output_format(if four_inks { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    if let Some(region) = region {
        let [left, top, width, height] =
            [region.left, region.top, region.width, region.height].map(|side| side as usize);
        // Of four inks the decoder would take the wrong columns.
        if four_inks {
            decoder.set_crop_y(top, height);
        } else {
            decoder.set_crop_region(left, top, width, height);
        }
    }
    let decoded = decoder.decode_image().map_err(|e| e.to_string())?;
    let (width, height) = (decoded.width as u32, decoded.height as u32);
    let pixels = decoded.into_vec();
    let pixels = if four_inks { inks_to_light(&pixels) } else { pixels };
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| "its pixels are incomplete".into())
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
