//! Decodes JPEG with the same pixels as libjpeg-turbo, which Pillow uses.

use std::{borrow::Cow, collections::BTreeSet};

use image::RgbImage;
use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

use super::{
    cmyk,
    limits::{MAX_PIXELS, check_size},
    memory_budget::Reservation,
    orientation::Metadata,
};
use crate::resize::Crop;

/// Limit of the number of scans of a progressive JPEG; ten are usual.
const MAX_SCANS: usize = 100;

/// The size in the header of a JPEG.
pub struct Size {
    pub width: u32,
    pub height: u32,
    /// Offset of the height in the file, two bytes.
    pub height_at: usize,
}

/// Reads the size of a baseline, extended or progressive JPEG; `None` for all other files and for
/// sizes above the limits.
pub fn size(bytes: &[u8]) -> Option<Size> {
    let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
    loop {
        let [0xFF, marker, length @ ..] = *rest.first_chunk::<4>()? else { return None };
        match marker {
            // The frame header of these three kinds: bits per sample, height, width.
            0xC0..=0xC2 => {
                let [.., h0, h1, w0, w1] = *rest.first_chunk::<9>()?;
                let [height, width] =
                    [[h0, h1], [w0, w1]].map(|side| u16::from_be_bytes(side).into());
                check_size(u64::from(width), u64::from(height)).ok()?;
                return Some(Size { width, height, height_at: bytes.len() - rest.len() + 5 });
            }
            // Tables, restart interval, application data, comments.
            0xC4 | 0xDB | 0xDD | 0xE0..=0xEF | 0xFE => {
                rest = rest.get(2 + usize::from(u16::from_be_bytes(length))..)?;
            }
            _ => return None,
        }
    }
}

/// A marker with its segment.
struct Segment<'a> {
    marker: u8,
    /// Offset of its data in the file.
    at: usize,
    data: &'a [u8],
}

/// Iterates over all segments of a file as Pillow does: bytes between segments, such as the data of
/// a scan, are skipped.
fn segments(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut at = 2;
    std::iter::from_fn(move || {
        loop {
            at += bytes.get(at..)?.iter().position(|byte| *byte == 0xFF)? + 1;
            let marker = *bytes.get(at)?;
            // Stuffed bytes, fill bytes and markers without data.
            if matches!(marker, 0x00 | 0xFF | 0x01 | 0xC8 | 0xD0..=0xD8 | 0xF0..=0xFD) {
                continue;
            }
            if marker == END {
                at += 1;
                return Some(Segment { marker, at, data: &[] });
            }
            let length = usize::from(u16::from_be_bytes(*bytes.get(at + 1..)?.first_chunk()?));
            let data = bytes.get(at + 3..)?.get(..length.saturating_sub(2))?;
            let segment = Segment { marker, at: at + 3, data };
            at += 3 + data.len();
            return Some(segment);
        }
    })
}

/// The marker of the end of an image. Another image may follow.
const END: u8 = 0xD9;

/// The marker of the header of a scan.
const SCAN: u8 = 0xDA;

/// The marker of quantization tables.
const QUANTIZATION: u8 = 0xDB;

/// Reads EXIF and XMP before the first scan, as Pillow does: parts of EXIF are joined, and the last
/// XMP is used.
pub fn metadata(bytes: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    for Segment { marker, data, .. } in segments(bytes).take_while(|segment| segment.marker != SCAN)
    {
        if marker == 0xE1 {
            add_metadata(&mut metadata, data);
        }
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

/// Decodes a file, or only the rows of a `region`. For a region, the result has the columns of the
/// region and some to the left of them, or all columns. The decoder of the `image` crate is not
/// used because it rounds differently from libjpeg-turbo.
pub fn decode(
    bytes: &[u8],
    region: Option<Crop>,
    memory: &mut Reservation,
) -> Result<RgbImage, String> {
    let frame = Frame::of(bytes);
    let unsupported = frame.as_ref().and_then(Frame::unsupported);
    let has_changing_tables = || frame.as_ref().is_some_and(|f| f.has_changing_tables(bytes));
    let changing = || has_changing_tables().then(|| CHANGING_TABLES.into());
    if let Some(feature) = unsupported.or_else(changing) {
        return Err(format!("JPEG with {feature} is not supported; save the image again"));
    }
    if region.is_some() && frame.as_ref().is_some_and(|frame| frame.lacks_scans(bytes)) {
        return Err(
            "without its last scans, it is smoothed, for which all blocks are needed".into()
        );
    }
    let renumbered =
        frame.as_ref().filter(|frame| frame.has_equal_ids()).map(|frame| frame.renumbered(bytes));
    let bytes = renumbered.transpose()?.map_or(Cow::from(bytes), Cow::from);
    let is_sequential = frame.as_ref().is_some_and(Frame::is_sequential);
    decode_known(&bytes, is_sequential, region, memory).map_err(|error| {
        let grouped = frame.as_ref().is_some_and(|frame| frame.has_grouped_scans(&bytes));
        match error {
            _ if grouped => {
                "JPEG with scans of several but not all components is not supported; save the image again"
                    .into()
            }
            Failure::Decoder(JpegError::UnexpectedEof) => {
                "its data end before all pixels are decoded: it is truncated, or data inside are missing"
                    .into()
            }
            Failure::Decoder(JpegError::Unsupported(feature)) => {
                format!("JPEG with {feature} is not supported; save the image again")
            }
            Failure::Decoder(error) => error.to_string(),
            Failure::Other(reason) => reason,
        }
    })
}

const CHANGING_TABLES: &str = "quantization tables that change between its scans";

enum Failure {
    Decoder(JpegError),
    Other(String),
}

impl From<JpegError> for Failure {
    fn from(error: JpegError) -> Self {
        Self::Decoder(error)
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

fn decode_known(
    bytes: &[u8],
    is_sequential: bool,
    region: Option<Crop>,
    memory: &mut Reservation,
) -> Result<RgbImage, Failure> {
    let limits =
        DecodeLimits { max_pixels: MAX_PIXELS, max_scans: MAX_SCANS, ..DecodeLimits::default() };
    let mut decoder = Decoder::new_with_limits(bytes, limits)?;
    let header = decoder.header();
    let (width, height) = (header.width, header.height);
    let is_cmyk = header.components.len() == 4;
    memory.for_image(
        width.into(),
        height.into(),
        bytes_per_pixel(header.components.len(), is_sequential),
    )?;
    // As libjpeg does for a progressive image whose last scans are missing.
    decoder.set_block_smoothing(true);
    decoder.set_output_format(if is_cmyk { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    if let Some(region) = region {
        let [left, top, width, height] =
            [region.left, region.top, region.width, region.height].map(|side| side as usize);
        // For CMYK, the decoder would return the wrong columns.
        if is_cmyk {
            decoder.set_crop_y(top, height);
        } else {
            decoder.set_crop_region(left, top, width, height);
        }
    }
    let decoded = decoder.decode_image()?;
    let (width, height) = (decoded.width as u32, decoded.height as u32);
    let pixels = decoded.into_vec();
    let pixels = if is_cmyk { rgb_of_inverted_cmyk(&pixels) } else { pixels };
    RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| Failure::Other("its pixels are incomplete".into()))
}

/// Returns the memory that the decoder needs per pixel: one byte for each sample, two for its
/// coefficient if coefficients are stored, and the bytes of the image.
fn bytes_per_pixel(components: usize, is_sequential: bool) -> usize {
    let coefficients = if is_sequential { 0 } else { 2 * components };
    components + coefficients + components.max(3)
}

/// The header of a frame.
struct Frame<'a> {
    marker: u8,
    bits: u8,
    /// For each component its identifier, its horizontal and vertical sampling factors in one byte,
    /// and its table.
    components: &'a [[u8; 3]],
    /// Offset of the components in the file.
    at: usize,
}

impl<'a> Frame<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        // 0xC4, 0xC8 and 0xCC are Huffman tables, a reserved marker and arithmetic conditioning.
        let is_frame =
            |marker: u8| matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC);
        let Segment { marker, at, data } =
            segments(bytes).find(|segment| is_frame(segment.marker))?;
        let [bits, _, _, _, _, count, components @ ..] = data else { return None };
        let components = components.as_chunks().0.get(..usize::from(*count))?;
        Some(Self { marker, bits: *bits, components, at: at + 6 })
    }

    /// Returns the name of a feature that Pillow cannot read, or that the decoder cannot read as
    /// Pillow does.
    fn unsupported(&self) -> Option<String> {
        let samplings: Vec<[u8; 2]> = self
            .components
            .iter()
            .map(|component| [component[1] >> 4, component[1] & 15])
            .collect();
        let finer = samplings.iter().any(|[h, v]| *h > samplings[0][0] || *v > samplings[0][1]);
        let uneven = samplings.first() != samplings.last();
        match (self.marker, self.bits, self.components.len()) {
            (0xC5..=0xC7 | 0xCD..=0xCF, ..) => Some("hierarchical coding".into()),
            (0xCB, ..) => Some("lossless arithmetic coding".into()),
            (_, bits, _) if bits != 8 => Some(format!("{bits} bits per sample")),
            (_, _, count) if !matches!(count, 1 | 3 | 4) => Some(format!("{count} components")),
            (_, _, 3) if finer => Some("chroma of higher resolution than luma".into()),
            (_, _, 4) if finer || uneven => {
                Some("CMYK whose first and last channels do not have the highest resolution".into())
            }
            // The decoder fails or returns wrong pixels for other ratios.
            (_, _, 4) if !has_usual_ratios(&samplings) => {
                Some("CMYK whose second and third channels differ in resolution, or with an unusual ratio of resolutions".into())
            }
            _ => None,
        }
    }

    /// Returns whether the coding is sequential with Huffman codes. Coefficients then need not be
    /// stored.
    fn is_sequential(&self) -> bool {
        matches!(self.marker, 0xC0 | 0xC1)
    }

    /// Whether a progressive file lacks bits of the nine lowest frequencies. Only these make
    /// libjpeg smooth the image across its blocks.
    fn lacks_scans(&self, bytes: &[u8]) -> bool {
        const LOWEST: usize = 10;
        if !matches!(self.marker, 0xC2 | 0xCA) {
            return false;
        }
        // For each component and frequency, the number of low bits that are missing.
        let mut missing = vec![[u8::MAX; LOWEST]; self.components.len()];
        for Segment { data, .. } in segments(bytes)
            .take_while(|segment| segment.marker != END)
            .filter(|segment| segment.marker == SCAN)
        {
            let Some((count, rest)) = data.split_first() else { continue };
            let Some((selectors, [first, last, bits, ..])) =
                rest.split_at_checked(2 * usize::from(*count))
            else {
                continue;
            };
            let ids: Vec<u8> = selectors.iter().copied().step_by(2).collect();
            let frequencies = usize::from(*first).min(LOWEST)..(usize::from(*last) + 1).min(LOWEST);
            for (component, missing) in self.components.iter().zip(&mut missing) {
                // In a damaged file, the last frequency may be below the first one.
                if let Some(missing) = missing.get_mut(frequencies.clone())
                    && ids.contains(&component[0])
                {
                    missing.fill(bits & 15);
                }
            }
        }
        missing.iter().any(|bits| bits[1..].iter().any(|bits| *bits > 0))
    }

    /// Whether a quantization table is replaced by another one after the first scan. libjpeg
    /// keeps the table that a component had in its first scan; the decoder would use the last one
    /// for all scans.
    fn has_changing_tables(&self, bytes: &[u8]) -> bool {
        let mut tables = [const { &[] as &[u8] }; 16];
        let mut after_scan = false;
        for Segment { marker, data, .. } in segments(bytes) {
            let mut rest = match marker {
                END => return false,
                // No other scan of such a file is read.
                SCAN if self.is_sequential() && self.has_all_components(data) => return false,
                SCAN => {
                    after_scan = true;
                    continue;
                }
                QUANTIZATION => data,
                _ => continue,
            };
            // The precision (0 for bytes) and the number of a table, then its 64 values.
            while let Some((head, values)) = rest.split_first() {
                let length = 64 << (head >> 4).min(1);
                let Some((table, next)) = values.split_at_checked(length) else { break };
                let before = std::mem::replace(&mut tables[usize::from(head & 15)], table);
                if after_scan && !before.is_empty() && before != table {
                    return true;
                }
                rest = next;
            }
        }
        false
    }

    /// Whether a scan with this header has all components.
    fn has_all_components(&self, scan: &[u8]) -> bool {
        scan.first().is_some_and(|count| usize::from(*count) == self.components.len())
    }

    fn has_equal_ids(&self) -> bool {
        let ids = self.components.iter().map(|component| component[0]);
        ids.clone().collect::<BTreeSet<_>>().len() < ids.len()
    }

    /// Copies a file with equal component identifiers and changes the identifiers to 1, 2, …, as
    /// libjpeg does by their order. All components must be in one scan.
    fn renumbered(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let scan = segments(bytes).find(|segment| segment.marker == SCAN);
        let full_scan =
            scan.filter(|scan| scan.data.first() == Some(&(self.components.len() as u8)));
        let scan = full_scan.ok_or(
            "JPEG with several scans and equal component identifiers is not supported; save the image again",
        )?;
        let mut bytes = bytes.to_vec();
        for (index, number) in (1..=self.components.len() as u8).enumerate() {
            bytes[self.at + 3 * index] = number;
            if let Some(selector) = bytes.get_mut(scan.at + 1 + 2 * index) {
                *selector = number;
            }
        }
        Ok(bytes)
    }

    /// Returns whether a sequential file has a scan of several, but not all, components.
    fn has_grouped_scans(&self, bytes: &[u8]) -> bool {
        let grouped = |count: u8| (2..self.components.len()).contains(&usize::from(count));
        self.is_sequential()
            && segments(bytes)
                .take_while(|segment| segment.marker != END)
                .filter(|segment| segment.marker == SCAN)
                .any(|scan| scan.data.first().is_some_and(|count| grouped(*count)))
    }
}

/// Whether the second and the third component have the same sampling, and the first one has as many
/// columns and rows, or more in a usual ratio.
fn has_usual_ratios(samplings: &[[u8; 2]]) -> bool {
    let [[h, v], second, third, ..] = *samplings else { return false };
    let [columns, rows] = [(h, second[0]), (v, second[1])]
        .map(|(first, other)| (other > 0 && first % other == 0).then(|| first / other));
    let ratio = (columns.unwrap_or(0), rows.unwrap_or(0));
    second == third && matches!(ratio, (1, 1) | (2, 1) | (2, 2) | (4, 1) | (1, 4))
}

/// Converts CMYK of JPEG to RGB. The values are inverted, as Adobe's programs write them and Pillow
/// reads them.
fn rgb_of_inverted_cmyk(pixels: &[u8]) -> Vec<u8> {
    pixels
        .as_chunks::<4>()
        .0
        .iter()
        .flat_map(|pixel| cmyk::to_rgb(pixel.map(|byte| 255 - byte)))
        .collect()
}

#[cfg(test)]
mod tests {
    use libjpeg_turbo_rs::Encoder;

    use super::*;

    const SIDES: [usize; 2] = [61, 47];

    fn encode(change: impl FnOnce(Encoder<'_>) -> Encoder<'_>) -> Vec<u8> {
        encode_as(PixelFormat::Rgb, change)
    }

    fn encode_as(format: PixelFormat, change: impl FnOnce(Encoder<'_>) -> Encoder<'_>) -> Vec<u8> {
        let [width, height] = SIDES;
        let samples = 0..width * height * format.bytes_per_pixel();
        let pixels: Vec<u8> = samples.map(|i| (i * i / 97) as u8 / 2 + (i % 61) as u8).collect();
        change(Encoder::new(&pixels, width, height, format).quality(85)).encode().unwrap()
    }

    fn read(file: &[u8]) -> Result<Vec<u8>, String> {
        decode(file, None, &mut Reservation::default()).map(RgbImage::into_raw)
    }

    /// Returns a file with a changed frame header. `change` gets the bytes from the marker on:
    /// marker, length, bits, height, width, count, components.
    fn with_frame(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut file = encode(|encoder| encoder);
        let at = Frame::of(&file).unwrap().at - 9;
        change(&mut file[at..]);
        file
    }

    #[test]
    fn a_scan_whose_last_frequency_is_below_its_first_is_no_panic() {
        let mut file = encode(|encoder| encoder.progressive(true));
        let scans: Vec<usize> =
            segments(&file).filter(|s| s.marker == SCAN).map(|s| s.at + s.data.len()).collect();
        for end in scans {
            file[end - 3..end - 1].copy_from_slice(&[5, 2]);
        }
        assert!(Frame::of(&file).unwrap().lacks_scans(&file));
    }

    #[test]
    fn all_codings_of_the_same_coefficients_give_the_same_pixels() {
        let pixels = read(&encode(|encoder| encoder)).unwrap();
        assert!(read(&encode(|encoder| encoder.progressive(true))).unwrap() == pixels);
        assert!(read(&encode(|encoder| encoder.arithmetic(true))).unwrap() == pixels);
        assert!(
            read(&encode(|encoder| encoder.arithmetic(true).progressive(true))).unwrap() == pixels
        );
        assert!(read(&encode(|encoder| encoder.restart_blocks(3))).unwrap() == pixels);
    }

    #[test]
    fn components_with_equal_identifiers_are_read_in_their_order() {
        let file = encode(|encoder| encoder);
        let pixels = read(&file).unwrap();
        let mut same = file.clone();
        let frame = Frame::of(&file).unwrap().at;
        let scan = segments(&file).find(|segment| segment.marker == SCAN).unwrap().at;
        for index in 0..3 {
            same[frame + 3 * index] = 7;
            same[scan + 1 + 2 * index] = 7;
        }
        assert!(read(&same).unwrap() == pixels);
    }

    #[test]
    fn errors_name_unsupported_features() {
        let samplings = |values: [u8; 3]| {
            move |frame: &mut [u8]| (0..3).for_each(|index| frame[10 + 3 * index] = values[index])
        };
        for (file, feature) in [
            (with_frame(|frame| frame[0] = 0xC5), "hierarchical coding"),
            (with_frame(|frame| frame[0] = 0xCB), "lossless arithmetic coding"),
            (with_frame(|frame| frame[3] = 12), "12 bits per sample"),
            (with_frame(samplings([0x11, 0x22, 0x22])), "chroma of higher resolution than luma"),
            (with_frame(samplings([0x12, 0x21, 0x11])), "chroma of higher resolution than luma"),
            (with_frame(samplings([0x31, 0x21, 0x11])), "fractional chroma sampling"),
        ] {
            let error = read(&file).unwrap_err();
            assert!(
                error.contains(&format!("JPEG with {feature}")) && error.contains("save"),
                "{error}"
            );
        }
    }

    #[test]
    fn cmyk_is_read_if_the_first_and_last_channels_have_the_highest_resolution() {
        let cmyk = |fourth: u8| {
            encode_as(PixelFormat::Cmyk, |encoder| {
                encoder.sampling_factors(vec![(2, 2), (1, 1), (1, 1), (fourth, fourth)])
            })
        };
        assert!(read(&cmyk(2)).is_ok());
        assert!(read(&cmyk(1)).unwrap_err().contains("CMYK whose first and last channels"));
    }

    /// The data after a restart marker are missing.
    #[test]
    fn missing_data_are_an_error() {
        let file = encode(|encoder| encoder.restart_blocks(3));
        let marker = file
            .windows(2)
            .rposition(|pair| pair[0] == 0xFF && matches!(pair[1], 0xD0..=0xD7))
            .unwrap();
        let truncated = [&file[..marker], &file[file.len() - 2..]].concat();
        assert!(read(&truncated).unwrap_err().contains("its data end before all pixels"));
    }

    #[test]
    fn exif_is_joined_and_the_last_xmp_is_used() {
        let segment = |data: &[u8]| [&[0xFF, 0xE1, 0, data.len() as u8 + 2], data].concat();
        let file = [
            &[0xFF, 0xD8][..],
            &segment(b"Exif\0\0ab"),
            &segment(b"http://ns.adobe.com/xap/1.0/\0one"),
            &segment(b"Exif\0\0cd"),
            &segment(b"http://ns.adobe.com/xap/1.0/\0two"),
            &[0xFF, SCAN, 0, 2],
            &segment(b"Exif\0\0ef"),
        ]
        .concat();
        let Metadata { exif, xmp } = metadata(&file);
        assert_eq!((exif.as_deref(), xmp.as_deref()), (Some(&b"abcd"[..]), Some(&b"two"[..])));
    }
}
