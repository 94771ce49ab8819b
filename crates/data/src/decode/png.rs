//! Decodes PNG row by row through the crate `png`, with Pillow's meaning of samples. First the chunks are read here: for
//! metadata, for their checksums, and to add an end where there is none.

use std::{
    borrow::Cow,
    io::{Cursor, Read},
};

use flate2::{Crc, read::ZlibDecoder};
use image::RgbImage;
use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, InterlaceInfo, expand_interlaced_row};

use super::{memory_budget::Reservation, orientation::Metadata, stored::StoredImage};

/// Limit of an unpacked text; longer ones are not read, as in Pillow.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Memory that the library uses for an image of any size.
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
    let words = |error: DecodingError| error.to_string();
    let mut reader = Decoder::new_with_options(Cursor::new(&*content), options).read_info().map_err(words)?;
    let info = reader.info();
    if info.frame_control.is_some_and(|frame| (frame.width, frame.height) != (width, height)) {
        return Err("an animation whose first frame is smaller than the image is not supported".into());
    }
    let rows = if info.interlaced { interlaced_rows(width, height) } else { height as usize };
    let colours = Colours::new(info.color_type, info.bit_depth, palette);
    let stride = width as usize * 3;
    let mut pixels = vec![0; stride * height as usize];
    let mut samples = vec![0; reader.output_line_size(width).ok_or("its rows are too long")?];
    let mut row = vec![0; stride];
    for number in 0..rows {
        match reader.read_row(&mut samples).map_err(words)?.ok_or("rows are missing")? {
            InterlaceInfo::Null(_) => colours.write(&samples, &mut pixels[number * stride..][..stride]),
            InterlaceInfo::Adam7(pass) => {
                colours.write(&samples, &mut row);
                expand_interlaced_row(&mut pixels, stride, &row, &pass, 24);
            }
        }
    }
    // Behind the last row is the checksum of all of them. Only its end may be missing.
    if let Err(error @ DecodingError::Format(_)) = reader.read_row(&mut samples) {
        return Err(words(error));
    }
    let image = RgbImage::from_raw(width, height, pixels).ok_or("its pixels are incomplete")?;
    Ok(StoredImage { orientation: texts.metadata().orientation(), notes, ..image.into() })
}

/// Rows of the seven passes; a pass without columns has none.
fn interlaced_rows(width: u32, height: u32) -> usize {
    // First column and row, and the distances to the next.
    const PASSES: [[u32; 4]; 7] =
        [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
    let lines = |[left, top, _, step]: [u32; 4]| {
        if width > left { height.saturating_sub(top).div_ceil(step) as usize } else { 0 }
    };
    PASSES.into_iter().map(lines).sum()
}

/// Converts samples to red, green and blue.
enum Colours {
    /// So many bits are the index of a colour: of a palette, or grey.
    Table { bits: usize, colours: Box<[[u8; 3]; 256]> },
    /// A pixel has so many bytes, of which three are taken.
    Bytes { pixel: usize, taken: [usize; 3] },
}

impl Colours {
    fn new(kind: ColorType, depth: BitDepth, palette: &[u8]) -> Self {
        let bits = depth as usize;
        // The high byte of 16 bits comes first.
        let bytes = bits.div_ceil(8);
        match kind {
            ColorType::Grayscale if bits <= 8 => {
                let step = 255 / ((1 << bits) - 1);
                let colours = std::array::from_fn(|grey| [(grey * step) as u8; 3]);
                Self::Table { bits, colours: Box::new(colours) }
            }
            ColorType::Indexed => {
                let mut colours = Box::new([[0; 3]; 256]);
                colours.iter_mut().zip(palette.as_chunks().0).for_each(|(to, from)| *to = *from);
                Self::Table { bits, colours }
            }
            ColorType::Grayscale => Self::Bytes { pixel: bytes, taken: [0; 3] },
            ColorType::GrayscaleAlpha => Self::Bytes { pixel: 2 * bytes, taken: [0; 3] },
            ColorType::Rgb => Self::Bytes { pixel: 3 * bytes, taken: [0, bytes, 2 * bytes] },
            ColorType::Rgba => Self::Bytes { pixel: 4 * bytes, taken: [0, bytes, 2 * bytes] },
        }
    }

    /// Writes as many pixels as `samples` and `row` have memory for.
    fn write(&self, samples: &[u8], row: &mut [u8]) {
        let pixels = row.as_chunks_mut::<3>().0;
        match self {
            Self::Table { bits: 8, colours } => {
                pixels
                    .iter_mut()
                    .zip(samples)
                    .for_each(|(pixel, sample)| *pixel = colours[usize::from(*sample)]);
            }
            Self::Table { bits, colours } => {
                let per_byte = 8 / bits;
                for (pixels, byte) in pixels.chunks_mut(per_byte).zip(samples) {
                    for (at, pixel) in pixels.iter_mut().enumerate() {
                        let index = byte >> (8 - bits * (at + 1)) & ((1 << bits) - 1);
                        *pixel = colours[usize::from(index)];
                    }
                }
            }
            Self::Bytes { pixel: 3, .. } => {
                let length = samples.len().min(row.len());
                row[..length].copy_from_slice(&samples[..length]);
            }
            Self::Bytes { pixel, taken } => {
                let from = samples.chunks_exact(*pixel);
                pixels.iter_mut().zip(from).for_each(|(to, from)| *to = taken.map(|at| from[at]));
            }
        }
    }
}

/// What the chunks of a file hold.
struct File<'a> {
    /// The file, with an end where it had none.
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
    while let Some(Chunk { kind, data, sound }) = chunk(&bytes[at..]) {
        at += 12 + data.len();
        match &kind {
            b"IHDR" | b"PLTE" if !sound => {
                return Err(format!("the checksum of its {} is wrong", name(kind)));
            }
            b"IHDR" => size = size.or_else(|| Some([big_endian(data)?, big_endian(data.get(4..)?)?])),
            b"PLTE" => palette = data,
            b"IEND" => ended = true,
            _ => texts.read(kind, data),
        }
        if !sound && kind != *b"IEND" && !damaged.contains(&kind) {
            damaged.push(kind);
        }
        if ended {
            break;
        }
    }
    let size = size.ok_or("its header is missing or incomplete")?;
    let mut notes: Vec<String> =
        damaged.into_iter().map(|kind| format!("the checksum of its {} is wrong", name(kind))).collect();
    let mut content = Cow::from(bytes);
    if !ended {
        notes.push("its end is missing".into());
        content = with_end(bytes, at).into();
    }
    Ok(File { content, size, palette, texts, notes })
}

/// The name of a chunk in a sentence.
fn name(kind: [u8; 4]) -> String {
    match &kind {
        b"IHDR" => "header".into(),
        b"PLTE" => "palette".into(),
        b"IDAT" => "image data".into(),
        other => format!("part {}", String::from_utf8_lossy(other)),
    }
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    /// Whether its checksum is right.
    sound: bool,
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
    Some(Chunk { kind, data, sound: big_endian(&bytes[8 + length..])? == crc.sum() })
}

fn big_endian(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A copy of a file with an end behind its last whole chunk; incomplete image data are kept.
fn with_end(bytes: &[u8], last_whole: usize) -> Vec<u8> {
    let (whole, rest) = bytes.split_at(last_whole);
    let mut ended = whole.to_vec();
    if let Some((b"IDAT", data)) = rest.get(4..).and_then(<[u8]>::split_first_chunk) {
        let announced = big_endian(rest).map_or(0, |length| length as usize);
        let data = &data[..data.len().min(announced)];
        ended.extend((data.len() as u32).to_be_bytes());
        ended.extend(b"IDAT");
        ended.extend(data);
        ended.extend([0; 4]);
    }
    ended.extend(b"\0\0\0\0IEND\xAE\x42\x60\x82");
    ended
}

/// The texts that Pillow reads as EXIF and XMP; the last one of each kind counts.
#[derive(Default)]
struct Texts {
    exif: Option<Vec<u8>>,
    /// EXIF in hexadecimal digits, below three lines of other things.
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
            b"zTXt" => rest.strip_prefix(&[0]).and_then(unpacked),
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
        // What is not hexadecimal is as bad as EXIF without a header.
        let profile = self.raw_profile.map(|text| from_hexadecimal(&text).unwrap_or(vec![0]));
        Metadata { exif: self.exif.or(profile), xmp: self.xmp }
    }
}

fn split_at_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn unpacked(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    ZlibDecoder::new(packed).take(MAX_TEXT_BYTES + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MAX_TEXT_BYTES).then_some(text)
}

/// The text of an iTXt behind its key.
fn international(data: &[u8]) -> Option<Vec<u8>> {
    let [packed, method, rest @ ..] = data else { return None };
    let (_language, rest) = split_at_zero(rest)?;
    let (_translated_key, text) = split_at_zero(rest)?;
    match (packed, method) {
        (0, _) => Some(text.to_vec()),
        (_, 0) => unpacked(text),
        _ => None,
    }
}

fn from_hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').skip(3);
    let digits: Vec<u8> = lines.flatten().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|&[high, low]| Some((value(high)? * 16 + value(low)?) as u8)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;

    /// A file of a size, depth and kind of colours, with these chunks between header and end.
    pub fn png(width: u32, height: u32, depth: u8, kind: u8, chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
        let header = [&sides[..], &[depth, kind, 0, 0, 0]].concat();
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, data) in [(b"IHDR", &header[..])].iter().chain(chunks).chain(&[(b"IEND", &[][..])]) {
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

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packed = ZlibEncoder::new(vec![], Compression::default());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn read(file: &[u8]) -> Result<(Vec<u8>, String), String> {
        let found = decode(file, &mut Reservation::default())?;
        Ok((found.image.into_raw(), found.notes.join("; ")))
    }

    /// Three pixels.
    const ROW: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

    /// What Pillow reads is read, with a note; what it refuses is refused.
    #[test]
    fn damage_behind_the_pixels_is_told_and_before_them_refused() {
        let data = packed(&ROW);
        let sound = png(3, 1, 8, 2, &[(b"IDAT", &data)]);
        let pixels = ROW[1..].to_vec();
        assert_eq!(read(&sound), Ok((pixels.clone(), String::new())));

        const END: usize = 12;
        let end = sound.len() - END;
        let mut wrong_crc = sound.clone();
        wrong_crc[end - 1] ^= 1;
        let wrong = "the checksum of its image data is wrong";
        assert_eq!(read(&wrong_crc), Ok((pixels.clone(), wrong.into())));
        // Cut before its end, in its checksum, and in that of the packed data.
        for length in [end, end + 3, end - 2, end - 6] {
            let missing = "its end is missing";
            assert_eq!(read(&sound[..length]), Ok((pixels.clone(), missing.into())), "{length}");
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
        let mut wrong_header = sound;
        wrong_header[29] ^= 1;
        assert_eq!(read(&wrong_header), Err("the checksum of its header is wrong".into()));
    }

    #[test]
    fn samples_mean_what_they_mean_to_pillow() {
        let pixels = |depth: u8, kind: u8, width: u32, row: &[u8], more: &[(&[u8; 4], &[u8])]| {
            let data = packed(&[&[0], row].concat());
            read(&png(width, 1, depth, kind, &[more, &[(b"IDAT", &data)]].concat())).unwrap().0
        };
        let grey = |values: &[u8]| values.iter().flat_map(|value| [*value; 3]).collect::<Vec<_>>();
        assert_eq!(pixels(1, 0, 3, &[0b1010_0000], &[]), grey(&[255, 0, 255]));
        assert_eq!(pixels(2, 0, 4, &[0b0001_1011], &[]), grey(&[0, 85, 170, 255]));
        assert_eq!(pixels(4, 0, 3, &[0x0F, 0x70], &[]), grey(&[0, 255, 119]));
        assert_eq!(pixels(16, 0, 2, &[0x12, 0xFF, 0xFE, 0xFF], &[]), grey(&[0x12, 0xFE]));
        assert_eq!(pixels(8, 4, 2, &[7, 0, 8, 255], &[]), grey(&[7, 8]));
        assert_eq!(pixels(16, 6, 1, &[1, 9, 2, 9, 3, 9, 4, 9], &[]), [1, 2, 3]);
        // Transparency changes no colour, and an index behind the palette is black.
        let palette: [(&[u8; 4], &[u8]); 2] = [(b"PLTE", &[10, 20, 30, 40, 50, 60]), (b"tRNS", &[0])];
        assert_eq!(pixels(8, 3, 3, &[0, 1, 200], &palette), [10, 20, 30, 40, 50, 60, 0, 0, 0]);
        assert_eq!(pixels(1, 3, 3, &[0b0110_0000], &palette), [10, 20, 30, 40, 50, 60, 40, 50, 60]);
        // Its length is no multiple of 3, which the library does not expect.
        assert_eq!(pixels(8, 3, 1, &[0], &[(b"PLTE", &[10, 20, 30, 40])]), [10, 20, 30]);
    }

    #[test]
    fn rows_of_all_passes_are_counted() {
        for (width, height, rows) in [(1, 1, 1), (8, 8, 15), (5, 1, 4), (1, 5, 5), (3, 2, 4)] {
            assert_eq!(interlaced_rows(width, height), rows, "{width}×{height}");
        }
    }

    /// Anywhere in the file; the last one of a kind counts.
    #[test]
    fn texts_tell_the_orientation() {
        let data = packed(&ROW);
        let exif = crate::decode::orientation::tests::exif;
        let of = |before: &[(&[u8; 4], &[u8])], behind: &[(&[u8; 4], &[u8])]| {
            let file = png(3, 1, 8, 2, &[before, &[(b"IDAT", &data)], behind].concat());
            decode(&file, &mut Reservation::default()).unwrap().orientation.to_exif()
        };
        let xmp = b"<x tiff:Orientation=\"8\"/>";
        let international = [b"XML:com.adobe.xmp\0\0\0\0\0", &xmp[..]].concat();
        let international_packed = [b"XML:com.adobe.xmp\0\x01\0en\0\0", &packed(xmp)[..]].concat();
        let digits: String = exif(5).iter().map(|byte| format!("{byte:02x}")).collect();
        let profile = format!("Raw profile type exif\0\nexif\n      {}\n{digits}\n", exif(5).len());
        let profile_packed =
            [b"Raw profile type exif\0\0", &packed(profile.split_once('\0').unwrap().1.as_bytes())[..]]
                .concat();

        assert_eq!(of(&[], &[]), 1);
        assert_eq!(of(&[(b"eXIf", &exif(6))], &[]), 6);
        assert_eq!(of(&[(b"eXIf", &exif(6))], &[(b"eXIf", &exif(3))]), 3);
        assert_eq!(of(&[(b"iTXt", &international)], &[]), 8);
        assert_eq!(of(&[], &[(b"iTXt", &international_packed)]), 8);
        assert_eq!(of(&[(b"tEXt", profile.as_bytes())], &[]), 5);
        assert_eq!(of(&[], &[(b"zTXt", &profile_packed)]), 5);
        assert_eq!(
            of(&[(b"tEXt", profile.as_bytes()), (b"iTXt", &international)], &[(b"eXIf", &exif(2))]),
            2
        );
        assert_eq!(of(&[(b"tEXt", b"Raw profile type exif\0\n\n\nxy"), (b"iTXt", &international)], &[]), 1);
    }
}
