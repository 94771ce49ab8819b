//! Decompresses blocks.

use std::io::Read;

use flate2::read::ZlibDecoder;
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;
use weezl::{BitOrder, LzwStatus, decode::Configuration};

use super::{
    color::{JPEG, YCBCR},
    directory::Directory,
    fax::{self, Coding},
    samples::Predictor,
    tag,
};
use crate::decode::limits::MAX_PIXELS;

pub const TRUNCATED: &str = "it is truncated: pixels are missing";

/// Memory limit of LZMA decompression in KiB.
const LZMA_KIB: u32 = 128 << 10;

/// The layout of samples in a block.
pub struct Shape {
    pub channels: usize,
    pub bits: usize,
    pub photometric: u64,
}

pub struct Codec<'a> {
    kind: Kind<'a>,
    predictor: Predictor,
    /// Subsampling of chroma in columns and rows; (1, 1) without subsampling.
    subsampling: (usize, usize),
}

enum Kind<'a> {
    Uncompressed,
    Lzw,
    Deflate,
    Zstd,
    Lzma,
    PackBits,
    Fax(Coding),
    Jpeg { tables: &'a [u8], shape: Shape },
}

impl<'a> Codec<'a> {
    pub fn read(
        directory: &Directory<'a>,
        compression: u64,
        shape: Shape,
        planar: bool,
    ) -> Result<Self, String> {
        let unsupported =
            |what: &str| Err(format!("TIFF with {what} is not supported: convert it"));
        let is_ycbcr = shape.photometric == YCBCR && shape.channels == 3;
        let (channels, bits) = (shape.channels, shape.bits);
        let kind = match compression {
            1 => Kind::Uncompressed,
            2 => Kind::Fax(Coding::Rle),
            3 => {
                let options = directory.number(tag::T4_OPTIONS).unwrap_or(0);
                if options & 2 != 0 {
                    return unsupported("the uncompressed mode of group 3");
                }
                Kind::Fax(Coding::Group3 { two_dimensional: options & 1 != 0 })
            }
            4 => Kind::Fax(Coding::Group4),
            5 => Kind::Lzw,
            JPEG => {
                Kind::Jpeg { tables: directory.bytes(tag::JPEG_TABLES).unwrap_or_default(), shape }
            }
            8 | 32_946 => Kind::Deflate,
            32_773 => Kind::PackBits,
            34_925 => Kind::Lzma,
            50_000 => Kind::Zstd,
            6 => return unsupported("old-style JPEG compression"),
            50_001 => return unsupported("WebP compression"),
            other => return unsupported(&format!("the compression {other}")),
        };
        if matches!(kind, Kind::Fax(_)) && (bits, channels) != (1, 1) {
            return unsupported("fax compression of more than one bit per pixel");
        }
        if matches!(kind, Kind::Jpeg { .. }) && bits != 8 {
            return unsupported("JPEG compression of samples that do not have 8 bits");
        }
        let predicts = matches!(kind, Kind::Lzw | Kind::Deflate | Kind::Zstd | Kind::Lzma);
        let predictor = match directory.number(tag::PREDICTOR).filter(|_| predicts).unwrap_or(1) {
            1 => Predictor::None,
            2 if matches!(bits, 8 | 16 | 32) => Predictor::Horizontal,
            3 if bits == 32 => Predictor::Float,
            other => {
                return unsupported(&format!("the predictor {other} for samples of {bits} bits"));
            }
        };
        let subsampling = if is_ycbcr && !planar && compression != JPEG {
            // The default in the specification is 2 × 2, but Pillow reads uncompressed data as not
            // subsampled.
            let default = if compression == 1 { 1 } else { 2 };
            match directory.numbers(tag::YCBCR_SUBSAMPLING, 2).as_deref() {
                None => (default, default),
                Some(&[h @ (1 | 2 | 4), v @ (1 | 2 | 4)]) => (h as usize, v as usize),
                Some(_) => return unsupported("this subsampling of YCbCr"),
            }
        } else {
            (1, 1)
        };
        if subsampling != (1, 1) && predictor != Predictor::None {
            return unsupported("a predictor for subsampled YCbCr");
        }
        Ok(Self { kind, predictor, subsampling })
    }

    pub fn is_uncompressed(&self) -> bool {
        matches!(self.kind, Kind::Uncompressed)
    }

    pub fn is_jpeg(&self) -> bool {
        matches!(self.kind, Kind::Jpeg { .. })
    }

    /// Returns the memory that decompression needs in addition to the decompressed block.
    pub fn extra_bytes_per_pixel(&self) -> usize {
        match self.kind {
            // Buffers of the JPEG decoder.
            Kind::Jpeg { .. } => 6,
            _ if self.subsampling != (1, 1) => 3,
            _ => 0,
        }
    }

    pub fn predictor(&self) -> Predictor {
        self.predictor
    }

    /// Decompresses the first `rows` rows, of `row_bytes` bytes each, of a block of `across` ×
    /// `down` pixels.
    pub fn unpack(
        &self,
        data: &[u8],
        across: usize,
        down: usize,
        rows: usize,
        row_bytes: usize,
    ) -> Result<Vec<u8>, String> {
        let (h, v) = self.subsampling;
        if (h, v) == (1, 1) {
            return self.decompress(data, across, down, rows, rows * row_bytes);
        }
        // Data units of h × v luma samples, one Cb and one Cr.
        let units_across = across.div_ceil(h);
        let unit_bytes = h * v + 2;
        let units = self.decompress(
            data,
            across,
            down,
            rows,
            rows.div_ceil(v) * units_across * unit_bytes,
        )?;
        let mut out = Vec::with_capacity(rows * row_bytes);
        for (y, x) in (0..rows).flat_map(|y| (0..across).map(move |x| (y, x))) {
            let start = (y / v * units_across + x / h) * unit_bytes;
            let unit = units.get(start..start + unit_bytes).ok_or(TRUNCATED)?;
            out.extend([unit[y % v * h + x % h], unit[h * v], unit[h * v + 1]]);
        }
        Ok(out)
    }

    fn decompress(
        &self,
        data: &[u8],
        across: usize,
        down: usize,
        rows: usize,
        length: usize,
    ) -> Result<Vec<u8>, String> {
        match &self.kind {
            Kind::Uncompressed => {
                data.get(..length).map(<[u8]>::to_vec).ok_or_else(|| TRUNCATED.into())
            }
            Kind::Lzw => lzw(data, length),
            Kind::Deflate => read_exact(ZlibDecoder::new(data), length),
            Kind::Zstd => read_exact(
                StreamingDecoder::new(data).map_err(|e| format!("its Zstandard data: {e}"))?,
                length,
            ),
            Kind::Lzma => read_exact(XzReader::new_mem_limit(data, false, LZMA_KIB), length),
            Kind::PackBits => pack_bits(data, length),
            Kind::Fax(coding) => fax::unpack(data, across, rows, *coding)
                .ok_or_else(|| "its fax data are damaged".into()),
            Kind::Jpeg { tables, shape } => jpeg(data, tables, shape, across, down, length),
        }
    }
}

fn read_exact(mut reader: impl Read, length: usize) -> Result<Vec<u8>, String> {
    let mut out = vec![0; length];
    reader.read_exact(&mut out).map_err(|e| format!("its compressed data: {e}"))?;
    Ok(out)
}

fn lzw(data: &[u8], length: usize) -> Result<Vec<u8>, String> {
    // Before TIFF 5.0, the low bits came first. The first code clears the table; its bytes show the
    // bit order.
    let configuration = if matches!(data, [0, second, ..] if second & 1 == 1) {
        Configuration::new(BitOrder::Lsb, 8)
    } else {
        Configuration::with_tiff_size_switch(BitOrder::Msb, 8)
    };
    let mut decoder = configuration.with_yield_on_full_buffer(true).build();
    let mut out = vec![0; length];
    let (mut read, mut written) = (0, 0);
    while written < length {
        let step = decoder.decode_bytes(&data[read..], &mut out[written..]);
        read += step.consumed_in;
        written += step.consumed_out;
        match step.status {
            Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            Err(error) => return Err(format!("its LZW data: {error}")),
            _ => break,
        }
    }
    if written == length { Ok(out) } else { Err(TRUNCATED.into()) }
}

fn pack_bits(mut data: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(length);
    while out.len() < length {
        let (count, rest) = data.split_first().ok_or(TRUNCATED)?;
        data = rest;
        match *count as i8 {
            -128 => {}
            count @ ..0 => {
                let (byte, rest) = data.split_first().ok_or(TRUNCATED)?;
                data = rest;
                out.extend(std::iter::repeat_n(*byte, usize::from(count.unsigned_abs()) + 1));
            }
            count => {
                let (bytes, rest) = data.split_at_checked(count as usize + 1).ok_or(TRUNCATED)?;
                data = rest;
                out.extend(bytes);
            }
        }
    }
    out.truncate(length);
    Ok(out)
}

/// Decodes a block in JPEG format; `tables` may hold its tables. Only YCbCr is converted to red,
/// green and blue. All other samples are not converted, regardless of the markers in the JPEG data.
fn jpeg(
    data: &[u8],
    tables: &[u8],
    shape: &Shape,
    across: usize,
    down: usize,
    length: usize,
) -> Result<Vec<u8>, String> {
    let transform = u8::from(shape.photometric == YCBCR);
    let format = match shape.channels {
        1 => PixelFormat::Grayscale,
        3 => PixelFormat::Rgb,
        4 => PixelFormat::Cmyk,
        other => {
            return Err(format!(
                "TIFF with JPEG compression of {other} samples is not supported: convert it"
            ));
        }
    };
    let mut file = vec![0xFF, 0xD8];
    file.extend(segments(tables, &[]).0);
    // The Adobe marker, which gives the color transform.
    file.extend(b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0");
    file.push(transform);
    let (header, rest) = segments(data, &[0xE0, 0xEE]);
    file.extend(header);
    file.extend(rest);
    let limits = DecodeLimits { max_pixels: MAX_PIXELS, max_scans: 100, ..DecodeLimits::default() };
    let mut decoder =
        Decoder::new_with_limits(&file, limits).map_err(|e| format!("its JPEG data: {e}"))?;
    let header = decoder.header();
    let size = (usize::from(header.width), usize::from(header.height));
    if size.0 != across || size.1 > down || header.components.len() != shape.channels {
        return Err("the size of its JPEG data is not that of the block".into());
    }
    decoder.set_output_format(format);
    let pixels = decoder.decode_image().map_err(|e| format!("its JPEG data: {e}"))?.into_vec();
    if pixels.len() < length {
        return Err(TRUNCATED.into());
    }
    Ok(pixels)
}

/// Returns the segments of a JPEG before its first scan, except those with the markers in
/// `without`, and the rest of the data. Start and end markers of the image are removed.
fn segments<'d>(data: &'d [u8], without: &[u8]) -> (Vec<u8>, &'d [u8]) {
    let mut selected = vec![];
    let mut rest = data;
    loop {
        match *rest {
            [0xFF, 0xD8 | 0xD9, ref after @ ..] => rest = after,
            [0xFF, 0xFF, ..] => rest = &rest[1..],
            [0xFF, marker, high, low, ..] if marker != 0xDA => {
                let length = 2 + usize::from(u16::from_be_bytes([high, low]));
                let Some((segment, after)) = rest.split_at_checked(length) else { break };
                if !without.contains(&marker) {
                    selected.extend(segment);
                }
                rest = after;
            }
            _ => break,
        }
    }
    (selected, rest)
}
