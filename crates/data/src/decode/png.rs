//! Decodes PNG row by row with the crate `png`, and converts samples as Pillow does. Before that,
//! this module reads the chunks: to get the metadata, to verify checksums, and to add a missing end
//! chunk.

use std::{
    borrow::Cow,
    io::{Cursor, Read},
};

use flate2::{Crc, read::ZlibDecoder};
use image::RgbImage;
use png::{
    BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, InterlaceInfo,
    expand_interlaced_row,
};

use super::{memory_budget::Reservation, orientation::Metadata, stored::StoredImage};

/// Limit of a decompressed text; longer ones are not read, as in Pillow.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Memory that the library uses regardless of the image size.
const LIBRARY_BYTES: usize = 1 << 20;

pub fn decode(bytes: &[u8], memory: &mut Reservation) -> Result<StoredImage, String> {
    let File { content, size: [width, height], palette, texts, notes } = walk(bytes)?;
    memory.for_image(width.into(), height.into(), 3)?;
    memory.take(LIBRARY_BYTES);
    let mut options = DecodeOptions::default();
    options.set_ignore_crc(true);
    options.set_ignore_adler32(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let text = |error: DecodingError| error.to_string();
    let mut reader =
        Decoder::new_with_options(Cursor::new(&*content), options).read_info().map_err(text)?;
    let info = reader.info();
    if info.frame_control.is_some_and(|frame| (frame.width, frame.height) != (width, height)) {
        return Err(
            "an animation whose first frame is smaller than the image is not supported".into()
        );
    }
    let rows = if info.interlaced { interlaced_rows(width, height) } else { height as usize };
    let converter = Converter::new(info.color_type, info.bit_depth, palette);
    let stride = width as usize * 3;
    let mut pixels = vec![0; stride * height as usize];
    let mut samples = vec![0; reader.output_line_size(width).ok_or("its rows are too long")?];
    let mut row = vec![0; stride];
    for number in 0..rows {
        match reader.read_row(&mut samples).map_err(text)?.ok_or("rows are missing")? {
            InterlaceInfo::Null(_) => {
                converter.write(&samples, &mut pixels[number * stride..][..stride])
            }
            InterlaceInfo::Adam7(pass) => {
                converter.write(&samples, &mut row);
                expand_interlaced_row(&mut pixels, stride, &row, &pass, 24);
            }
        }
    }
    // This verifies the checksum after the last row. A truncated checksum is accepted.
    if let Err(error @ DecodingError::Format(_)) = reader.read_row(&mut samples) {
        return Err(text(error));
    }
    let image = RgbImage::from_raw(width, height, pixels).ok_or("its pixels are incomplete")?;
    Ok(StoredImage { orientation: texts.metadata().orientation(), notes, ..image.into() })
}

/// Returns the number of rows of the seven Adam7 passes. A pass without columns has no rows.
fn interlaced_rows(width: u32, height: u32) -> usize {
    // First column, first row, column step, row step.
    const PASSES: [[u32; 4]; 7] = [
        [0, 0, 8, 8],
        [4, 0, 8, 8],
        [0, 4, 4, 8],
        [2, 0, 4, 4],
        [0, 2, 2, 4],
        [1, 0, 2, 2],
        [0, 1, 1, 2],
    ];
    let rows = |[left, top, _, step]: [u32; 4]| {
        if width > left { height.saturating_sub(top).div_ceil(step) as usize } else { 0 }
    };
    PASSES.into_iter().map(rows).sum()
}

/// Converts samples to red, green and blue.
enum Converter {
    /// A sample of `bits` bits is an index into `colors`, which holds the palette or grays.
    Table { bits: usize, colors: Box<[[u8; 3]; 256]> },
    /// A pixel has `pixel` bytes; `positions` are those of the bytes of red, green and blue.
    Bytes { pixel: usize, positions: [usize; 3] },
}

impl Converter {
    fn new(kind: ColorType, depth: BitDepth, palette: &[u8]) -> Self {
        let bits = depth as usize;
        // The high byte of 16 bits comes first.
        let bytes = bits.div_ceil(8);
        match kind {
            ColorType::Grayscale if bits <= 8 => {
                let step = 255 / ((1 << bits) - 1);
                let colors = std::array::from_fn(|gray| [(gray * step) as u8; 3]);
                Self::Table { bits, colors: Box::new(colors) }
            }
            ColorType::Indexed => {
                let mut colors = Box::new([[0; 3]; 256]);
                colors.iter_mut().zip(palette.as_chunks().0).for_each(|(to, from)| *to = *from);
                Self::Table { bits, colors }
            }
            ColorType::Grayscale => Self::Bytes { pixel: bytes, positions: [0; 3] },
            ColorType::GrayscaleAlpha => Self::Bytes { pixel: 2 * bytes, positions: [0; 3] },
            ColorType::Rgb => Self::Bytes { pixel: 3 * bytes, positions: [0, bytes, 2 * bytes] },
            ColorType::Rgba => Self::Bytes { pixel: 4 * bytes, positions: [0, bytes, 2 * bytes] },
        }
    }

    /// Converts `samples` to the pixels of `row`, up to the end of the shorter one.
    fn write(&self, samples: &[u8], row: &mut [u8]) {
        let pixels = row.as_chunks_mut::<3>().0;
        match self {
            Self::Table { bits: 8, colors } => {
                pixels
                    .iter_mut()
                    .zip(samples)
                    .for_each(|(pixel, sample)| *pixel = colors[usize::from(*sample)]);
            }
            Self::Table { bits, colors } => {
                let per_byte = 8 / bits;
                for (pixels, byte) in pixels.chunks_mut(per_byte).zip(samples) {
                    for (at, pixel) in pixels.iter_mut().enumerate() {
                        let index = byte >> (8 - bits * (at + 1)) & ((1 << bits) - 1);
                        *pixel = colors[usize::from(index)];
                    }
                }
            }
            Self::Bytes { pixel: 3, .. } => {
                let length = samples.len().min(row.len());
                row[..length].copy_from_slice(&samples[..length]);
            }
            Self::Bytes { pixel, positions } => {
                let from = samples.chunks_exact(*pixel);
                pixels
                    .iter_mut()
                    .zip(from)
                    .for_each(|(to, from)| *to = positions.map(|at| from[at]));
            }
        }
    }
}

/// The content of the chunks of a file.
struct File<'a> {
    /// The file, with an end chunk added if it was missing.
    content: Cow<'a, [u8]>,
    size: [u32; 2],
    palette: &'a [u8],
    texts: Texts,
    notes: Vec<String>,
}

fn walk(bytes: &[u8]) -> Result<File<'_>, String> {
    const SIGNATURE: usize = 8;
    let mut at = SIGNATURE;
    let mut size = None;
    let mut palette: &[u8] = &[];
    let mut texts = Texts::default();
    let mut damaged: Vec<[u8; 4]> = vec![];
    let mut ended = false;
    while let Some(Chunk { kind, data, valid_crc }) = chunk(&bytes[at..]) {
        at += 12 + data.len();
        match &kind {
            b"IHDR" | b"PLTE" if !valid_crc => {
                return Err(format!("the checksum of its {} is wrong", name(kind)));
            }
            b"IHDR" => {
                size = size.or_else(|| Some([big_endian(data)?, big_endian(data.get(4..)?)?]))
            }
            b"PLTE" => palette = data,
            b"IEND" => ended = true,
            _ => texts.read(kind, data),
        }
        if !valid_crc && kind != *b"IEND" && !damaged.contains(&kind) {
            damaged.push(kind);
        }
        if ended {
            break;
        }
    }
    let size = size.ok_or("its header is missing or incomplete")?;
    let mut notes: Vec<String> = damaged
        .into_iter()
        .map(|kind| format!("the checksum of its {} is wrong", name(kind)))
        .collect();
    let mut content = Cow::from(bytes);
    if !ended {
        notes.push("its end is missing".into());
        content = with_end(bytes, at).into();
    }
    Ok(File { content, size, palette, texts, notes })
}

/// Returns the name of a chunk for messages.
fn name(kind: [u8; 4]) -> String {
    match &kind {
        b"IHDR" => "header".into(),
        b"PLTE" => "palette".into(),
        b"IDAT" => "image data".into(),
        other => format!("chunk {}", String::from_utf8_lossy(other)),
    }
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    /// Whether its checksum is correct.
    valid_crc: bool,
}

fn chunk(bytes: &[u8]) -> Option<Chunk<'_>> {
    let length = big_endian(bytes)? as usize;
    let kind = *bytes.get(4..)?.first_chunk()?;
    if !kind.iter().all(u8::is_ascii_alphabetic) {
        return None;
    }
    let data = bytes.get(8..)?.get(..length)?;
    let mut crc = Crc::new();
    crc.update(&bytes[4..8 + length]);
    Some(Chunk { kind, data, valid_crc: big_endian(&bytes[8 + length..])? == crc.sum() })
}

fn big_endian(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Copies a file up to the end of its last complete chunk and adds an end chunk. A truncated chunk
/// of image data is included.
fn with_end(bytes: &[u8], end_of_chunks: usize) -> Vec<u8> {
    let (complete, rest) = bytes.split_at(end_of_chunks);
    let mut ended = complete.to_vec();
    if let Some((b"IDAT", data)) = rest.get(4..).and_then(<[u8]>::split_first_chunk) {
        let declared = big_endian(rest).map_or(0, |length| length as usize);
        let data = &data[..data.len().min(declared)];
        ended.extend((data.len() as u32).to_be_bytes());
        ended.extend(b"IDAT");
        ended.extend(data);
        ended.extend([0; 4]);
    }
    ended.extend(b"\0\0\0\0IEND\xAE\x42\x60\x82");
    ended
}

/// The texts that Pillow reads as EXIF and XMP. The last text of each kind is used.
#[derive(Default)]
struct Texts {
    exif: Option<Vec<u8>>,
    /// EXIF in hexadecimal digits, after three lines of other content.
    raw_profile: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
}

impl Texts {
    fn read(&mut self, kind: [u8; 4], data: &[u8]) {
        if &kind == b"eXIf" {
            self.exif = Some(data.to_vec());
            return;
        }
        if !matches!(&kind, b"tEXt" | b"zTXt" | b"iTXt") {
            return;
        }
        let Some((key, rest)) = split_at_zero(data) else { return };
        let text = match &kind {
            b"tEXt" => Some(rest.to_vec()),
            b"zTXt" => rest.strip_prefix(&[0]).and_then(decompressed),
            _ => international(rest),
        };
        let Some(text) = text else { return };
        match key {
            b"exif" if &kind == b"tEXt" => self.exif = Some(text),
            b"Raw profile type exif" => self.raw_profile = Some(text),
            b"XML:com.adobe.xmp" => self.xmp = Some(text),
            _ => {}
        }
    }

    fn metadata(self) -> Metadata {
        // Text that is not hexadecimal counts as EXIF without a valid header, which is unreadable.
        let profile = self.raw_profile.map(|text| from_hexadecimal(&text).unwrap_or(vec![0]));
        Metadata { exif: self.exif.or(profile), xmp: self.xmp }
    }
}

fn split_at_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn decompressed(data: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    ZlibDecoder::new(data).take(MAX_TEXT_BYTES + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MAX_TEXT_BYTES).then_some(text)
}

/// Reads the text of an iTXt chunk. `data` starts after the keyword.
fn international(data: &[u8]) -> Option<Vec<u8>> {
    let [compressed, method, rest @ ..] = data else { return None };
    let (_language, rest) = split_at_zero(rest)?;
    let (_translated_key, text) = split_at_zero(rest)?;
    match (compressed, method) {
        (0, _) => Some(text.to_vec()),
        (_, 0) => decompressed(text),
        _ => None,
    }
}

fn from_hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').skip(3);
    let digits: Vec<u8> =
        lines.flatten().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|&[high, low]| Some((value(high)? * 16 + value(low)?) as u8)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;

    /// Returns a file with this size, bit depth and color type, and with these chunks between the
    /// header and the end.
    pub fn png(
        width: u32,
        height: u32,
        depth: u8,
        kind: u8,
        chunks: &[(&[u8; 4], &[u8])],
    ) -> Vec<u8> {
        let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
        let header = [&sides[..], &[depth, kind, 0, 0, 0]].concat();
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, data) in
            [(b"IHDR", &header[..])].iter().chain(chunks).chain(&[(b"IEND", &[][..])])
        {
            let mut crc = Crc::new();
            crc.update(*kind);
            crc.update(data);
            file.extend((data.len() as u32).to_be_bytes());
            file.extend(*kind);
            file.extend(*data);
            file.extend(crc.sum().to_be_bytes());
        }
        file
    }

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(vec![], Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(file: &[u8]) -> Result<(Vec<u8>, String), String> {
        let stored = decode(file, &mut Reservation::default())?;
        Ok((stored.image.into_raw(), stored.notes.join("; ")))
    }

    /// A filter byte and three pixels.
    const ROW: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

    /// Damaged files that Pillow reads are read, with a note; those that it refuses are refused.
    #[test]
    fn damage_that_leaves_all_pixels_readable_is_noted() {
        let data = compressed(&ROW);
        let undamaged = png(3, 1, 8, 2, &[(b"IDAT", &data)]);
        let pixels = ROW[1..].to_vec();
        assert_eq!(read(&undamaged), Ok((pixels.clone(), String::new())));

        const END: usize = 12;
        let end = undamaged.len() - END;
        let mut wrong_crc = undamaged.clone();
        wrong_crc[end - 1] ^= 1;
        let wrong = "the checksum of its image data is wrong";
        assert_eq!(read(&wrong_crc), Ok((pixels.clone(), wrong.into())));
        // Truncated before the end chunk, in that chunk, and in the checksums of the image data.
        for length in [end, end + 3, end - 2, end - 6] {
            let missing = "its end is missing";
            assert_eq!(
                read(&undamaged[..length]),
                Ok((pixels.clone(), missing.into())),
                "{length}"
            );
        }
        let without_adler = png(3, 1, 8, 2, &[(b"IDAT", &data[..data.len() - 4])]);
        assert_eq!(read(&without_adler), Ok((pixels.clone(), String::new())));
        let odd = png(3, 1, 8, 2, &[(b"PLTE", b"1234"), (b"IDAT", &data)]);
        assert_eq!(read(&odd), Ok((pixels, String::new())));

        let mut wrong_adler = data.clone();
        *wrong_adler.last_mut().unwrap() ^= 1;
        assert!(read(&png(3, 1, 8, 2, &[(b"IDAT", &wrong_adler)])).is_err());
        assert!(read(&png(3, 1, 8, 2, &[(b"IDAT", &data[..data.len() - 6])])).is_err());
        assert!(read(&png(3, 2, 8, 2, &[(b"IDAT", &data)])).is_err());
        let mut wrong_header = undamaged;
        wrong_header[29] ^= 1;
        assert_eq!(read(&wrong_header), Err("the checksum of its header is wrong".into()));
    }

    #[test]
    fn samples_are_converted_as_by_pillow() {
        let pixels = |depth: u8, kind: u8, width: u32, row: &[u8], more: &[(&[u8; 4], &[u8])]| {
            let data = compressed(&[&[0], row].concat());
            read(&png(width, 1, depth, kind, &[more, &[(b"IDAT", &data)]].concat())).unwrap().0
        };
        let gray = |values: &[u8]| values.iter().flat_map(|value| [*value; 3]).collect::<Vec<_>>();
        assert_eq!(pixels(1, 0, 3, &[0b1010_0000], &[]), gray(&[255, 0, 255]));
        assert_eq!(pixels(2, 0, 4, &[0b0001_1011], &[]), gray(&[0, 85, 170, 255]));
        assert_eq!(pixels(4, 0, 3, &[0x0F, 0x70], &[]), gray(&[0, 255, 119]));
        assert_eq!(pixels(16, 0, 2, &[0x12, 0xFF, 0xFE, 0xFF], &[]), gray(&[0x12, 0xFE]));
        assert_eq!(pixels(8, 4, 2, &[7, 0, 8, 255], &[]), gray(&[7, 8]));
        assert_eq!(pixels(16, 6, 1, &[1, 9, 2, 9, 3, 9, 4, 9], &[]), [1, 2, 3]);
        // Transparency does not change colors. An index beyond the palette is black.
        let palette: [(&[u8; 4], &[u8]); 2] =
            [(b"PLTE", &[10, 20, 30, 40, 50, 60]), (b"tRNS", &[0])];
        assert_eq!(pixels(8, 3, 3, &[0, 1, 200], &palette), [10, 20, 30, 40, 50, 60, 0, 0, 0]);
        assert_eq!(pixels(1, 3, 3, &[0b0110_0000], &palette), [10, 20, 30, 40, 50, 60, 40, 50, 60]);
        // The length of the palette is not a multiple of 3, which the library does not accept.
        assert_eq!(pixels(8, 3, 1, &[0], &[(b"PLTE", &[10, 20, 30, 40])]), [10, 20, 30]);
    }

    #[test]
    fn rows_of_all_passes_are_counted() {
        for (width, height, rows) in [(1, 1, 1), (8, 8, 15), (5, 1, 4), (1, 5, 5), (3, 2, 4)] {
            assert_eq!(interlaced_rows(width, height), rows, "{width}×{height}");
        }
    }

    /// Texts may be before or after the image data. The last text of a kind is used.
    #[test]
    fn the_orientation_is_read_from_texts() {
        let data = compressed(&ROW);
        let exif = crate::decode::orientation::tests::exif;
        let of = |before: &[(&[u8; 4], &[u8])], after: &[(&[u8; 4], &[u8])]| {
            let file = png(3, 1, 8, 2, &[before, &[(b"IDAT", &data)], after].concat());
            decode(&file, &mut Reservation::default()).unwrap().orientation.to_exif()
        };
        let xmp = b"<x tiff:Orientation=\"8\"/>";
        let international = [b"XML:com.adobe.xmp\0\0\0\0\0", &xmp[..]].concat();
        let international_compressed =
            [b"XML:com.adobe.xmp\0\x01\0en\0\0", &compressed(xmp)[..]].concat();
        let digits: String = exif(5).iter().map(|byte| format!("{byte:02x}")).collect();
        let profile = format!("Raw profile type exif\0\nexif\n      {}\n{digits}\n", exif(5).len());
        let profile_compressed = [
            b"Raw profile type exif\0\0",
            &compressed(profile.split_once('\0').unwrap().1.as_bytes())[..],
        ]
        .concat();

        assert_eq!(of(&[], &[]), 1);
        assert_eq!(of(&[(b"eXIf", &exif(6))], &[]), 6);
        assert_eq!(of(&[(b"eXIf", &exif(6))], &[(b"eXIf", &exif(3))]), 3);
        assert_eq!(of(&[(b"iTXt", &international)], &[]), 8);
        assert_eq!(of(&[], &[(b"iTXt", &international_compressed)]), 8);
        assert_eq!(of(&[(b"tEXt", profile.as_bytes())], &[]), 5);
        assert_eq!(of(&[], &[(b"zTXt", &profile_compressed)]), 5);
        assert_eq!(
            of(&[(b"tEXt", profile.as_bytes()), (b"iTXt", &international)], &[(b"eXIf", &exif(2))]),
            2
        );
        assert_eq!(
            of(&[(b"tEXt", b"Raw profile type exif\0\n\n\nxy"), (b"iTXt", &international)], &[]),
            1
        );
    }
}
