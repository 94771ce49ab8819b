//! Decodes BMP: headers of Windows and OS/2; uncompressed pixels, bit fields or run-length coding.

use image::RgbImage;

use super::memory_budget::Reservation;

/// A color of the palette, or a pixel.
type Rgb = [u8; 3];

pub fn decode(bytes: &[u8], memory: &mut Reservation) -> Result<RgbImage, String> {
    let header = Header::read(bytes).ok_or("its header is truncated")??;
    let Header { width, height, bits, compression, .. } = header;
    let runs = matches!(compression, RLE8 | RLE4);
    memory.for_image(width.into(), height.into(), if runs { 4 } else { 3 })?;
    let (colors, after_palette) = header.palette(bytes);
    let start = match header.pixels {
        0 => after_palette,
        // Some files give the offset without counting the palette.
        place if place == header.end && bits <= 8 => after_palette,
        place => place,
    };
    let data = bytes.get(start..).ok_or(TRUNCATED)?;
    let (width, height) = (width as usize, height as usize);
    let mut pixels = vec![0; width * height * 3];
    // Rows in the order of the file.
    let mut rows: Vec<&mut [Rgb]> = pixels.as_chunks_mut().0.chunks_mut(width).collect();
    if !header.top_down {
        rows.reverse();
    }
    if runs {
        let indices = unpack_runs(data, start, width, height, compression == RLE4)?;
        for (row, indices) in rows.into_iter().zip(indices.chunks(width)) {
            for (pixel, index) in row.iter_mut().zip(indices) {
                *pixel = colors[usize::from(*index)];
            }
        }
    } else {
        let layout = Layout::of(&header)?;
        let row_bytes = (width * usize::from(bits)).div_ceil(8);
        let stride = row_bytes.next_multiple_of(4);
        for (y, row) in rows.into_iter().enumerate() {
            // The last row may lack its padding.
            let bytes =
                data.get(y * stride..).and_then(|rest| rest.get(..row_bytes)).ok_or(TRUNCATED)?;
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel = layout.pixel(bytes, x, &colors);
            }
        }
    }
    RgbImage::from_raw(width as u32, height as u32, pixels).ok_or_else(|| TRUNCATED.into())
}

const TRUNCATED: &str = "it is truncated: pixels are missing";

const UNCOMPRESSED: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BIT_FIELDS: u32 = 3;

struct Header {
    width: u32,
    height: u32,
    top_down: bool,
    bits: u16,
    compression: u32,
    /// The bit masks of red, green, blue and alpha.
    masks: [u32; 4],
    /// Number of colors in the palette, and bytes per color.
    colors: usize,
    color_bytes: usize,
    /// Offsets of the end of the header, of the palette, and of the pixels. The offset of the
    /// pixels is 0 if the file does not have it.
    end: usize,
    palette: usize,
    pixels: usize,
}

impl Header {
    /// Reads the header; `None` if the file is too short.
    fn read(bytes: &[u8]) -> Option<Result<Self, String>> {
        let u16_at = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let pixels = u32_at(10)? as usize;
        let size = u32_at(14)? as usize;
        let end = 14 + size;
        let mut header = Self {
            width: 0,
            height: 0,
            top_down: false,
            bits: 0,
            compression: UNCOMPRESSED,
            masks: [0; 4],
            colors: 0,
            color_bytes: 4,
            end,
            palette: end,
            pixels,
        };
        match size {
            12 => {
                header.width = u16_at(18)?.into();
                header.height = u16_at(20)?.into();
                header.bits = u16_at(24)?;
                header.color_bytes = 3;
            }
            40 | 52 | 56 | 64 | 108 | 124 => {
                header.width = u32_at(18)?;
                header.top_down = bytes.get(25)? == &0xFF;
                header.height = u32_at(22)?;
                if header.top_down {
                    header.height = header.height.wrapping_neg();
                }
                header.bits = u16_at(28)?;
                header.compression = u32_at(30)?;
                header.colors = u32_at(46)? as usize;
                if header.compression == BIT_FIELDS {
                    // The masks follow a short header of 40 bytes. Only headers of at least 56
                    // bytes have an alpha mask.
                    let masks = if size >= 56 { 4 } else { 3 };
                    for (index, mask) in header.masks.iter_mut().take(masks).enumerate() {
                        *mask = u32_at(54 + 4 * index)?;
                    }
                    if size == 40 {
                        header.palette += 12;
                    }
                }
            }
            _ => {
                return Some(Err(format!(
                    "BMP with a header of {size} bytes is not supported: convert it"
                )));
            }
        }
        if header.colors == 0 {
            header.colors = 1_usize.checked_shl(header.bits.into()).unwrap_or(0);
        }
        bytes.get(..end)?;
        Some(header.check())
    }

    fn check(self) -> Result<Self, String> {
        let Self { bits, compression, colors, .. } = self;
        let unsupported =
            |what: String| Err(format!("BMP with {what} is not supported: convert it"));
        match (bits, compression) {
            (8, RLE8) | (4, RLE4) | (1 | 4 | 8 | 16 | 24 | 32, UNCOMPRESSED) => {}
            (16 | 24 | 32, BIT_FIELDS) => {}
            (_, 4) => return unsupported("JPEG data or 24-bit run-length coding".into()),
            (_, 5) => return unsupported("PNG data".into()),
            (_, UNCOMPRESSED) => return unsupported(format!("{bits} bits per pixel")),
            _ => return unsupported(format!("compression {compression} at {bits} bits per pixel")),
        }
        if bits <= 8 && colors > 65_536 {
            return Err(format!("its palette has {colors} colors"));
        }
        Ok(self)
    }

    /// Returns the colors of the palette, with black for missing colors, and the offset of its end.
    fn palette(&self, bytes: &[u8]) -> (Vec<Rgb>, usize) {
        let mut colors = vec![[0; 3]; 256];
        if self.bits > 8 {
            return (colors, self.palette);
        }
        let end = self.palette + self.colors * self.color_bytes;
        let given = bytes.get(self.palette..end.min(bytes.len())).unwrap_or_default();
        for (color, bgr) in colors.iter_mut().zip(given.chunks_exact(self.color_bytes)) {
            *color = [bgr[2], bgr[1], bgr[0]];
        }
        (colors, end)
    }
}

/// The layout of a pixel in its row.
#[derive(Clone, Copy)]
enum Layout {
    /// A palette index with this number of bits.
    Index(usize),
    /// 16 bits: five bits of red, `green` bits of green, five bits of blue.
    Packed { green: u32 },
    /// The number of bytes, and the positions of the bytes of red, green and blue.
    Bytes(usize, [usize; 3]),
}

impl Layout {
    fn of(header: &Header) -> Result<Self, String> {
        let Header { bits, masks, .. } = *header;
        if header.compression == UNCOMPRESSED {
            return Ok(match bits {
                1 | 4 | 8 => Self::Index(bits.into()),
                16 => Self::Packed { green: 5 },
                _ => Self::Bytes(usize::from(bits) / 8, [2, 1, 0]),
            });
        }
        let [red, green, blue, alpha] = masks;
        Ok(match (bits, [red, green, blue], alpha) {
            (16, [0x7C00, 0x3E0, 0x1F], _) => Self::Packed { green: 5 },
            (16, [0xF800, 0x7E0, 0x1F], _) => Self::Packed { green: 6 },
            (24, [0xFF_0000, 0xFF00, 0xFF], _) => Self::Bytes(3, [2, 1, 0]),
            (32, [0, 0, 0], 0) => Self::Bytes(4, [2, 1, 0]),
            (32, [r, g, b], _) if [r, g, b].iter().all(|mask| is_byte(*mask)) => {
                Self::Bytes(4, [r, g, b].map(|mask| mask.trailing_zeros() as usize / 8))
            }
            _ => {
                return Err(format!(
                    "BMP with the bit fields {red:X}, {green:X}, {blue:X} in {bits} bits is not supported: convert it"
                ));
            }
        })
    }

    fn pixel(self, row: &[u8], x: usize, colors: &[Rgb]) -> Rgb {
        match self {
            Self::Index(bits) => {
                let per_byte = 8 / bits;
                let byte = usize::from(row[x / per_byte]);
                colors[byte >> (8 - bits - x % per_byte * bits) & ((1 << bits) - 1)]
            }
            Self::Packed { green } => {
                let pixel = u32::from(u16::from_le_bytes([row[2 * x], row[2 * x + 1]]));
                let part = |shift: u32, bits: u32| {
                    let largest = (1 << bits) - 1;
                    ((pixel >> shift & largest) * 255 / largest) as u8
                };
                [part(5 + green, 5), part(5, green), part(0, 5)]
            }
            Self::Bytes(bytes, places) => places.map(|place| row[x * bytes + place]),
        }
    }
}

fn is_byte(mask: u32) -> bool {
    matches!(mask, 0xFF | 0xFF00 | 0xFF_0000 | 0xFF00_0000)
}

/// Decodes run-length coding to palette indices. `start` is the offset of the data in the file:
/// literal pixels are padded to even offsets.
fn unpack_runs(
    data: &[u8],
    start: usize,
    width: usize,
    height: usize,
    four_bits: bool,
) -> Result<Vec<u8>, String> {
    let all = width * height;
    let mut indices = Vec::with_capacity(all);
    let mut x = 0;
    let mut at = 0;
    while indices.len() < all {
        let Some(&[count, value]) = data.get(at..).and_then(|rest| rest.first_chunk()) else {
            break;
        };
        at += 2;
        match (count, value) {
            (0, 0) => {
                indices.resize(indices.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let Some(&[right, down]) = data.get(at..).and_then(|rest| rest.first_chunk())
                else {
                    break;
                };
                at += 2;
                let end = indices.len() + usize::from(right) + usize::from(down) * width;
                indices.resize(end.min(all), 0);
                x = indices.len() % width;
            }
            (0, literal) => {
                let literal = usize::from(literal);
                let count = literal.min(all - indices.len());
                let length = if four_bits { count.div_ceil(2) } else { count };
                let Some(bytes) = data.get(at..at + length) else { break };
                let from = indices.len();
                if four_bits {
                    indices.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]));
                    indices.truncate(from + count);
                } else {
                    indices.extend(bytes);
                }
                at += length;
                at += (start + at) % 2;
                x += literal;
            }
            (count, value) => {
                // Pixels beyond the end of the row are dropped.
                let count = usize::from(count).min(width.saturating_sub(x));
                let pair = if four_bits { [value >> 4, value & 15] } else { [value; 2] };
                indices.extend((0..count).map(|place| pair[place % 2]));
                x += count;
            }
        }
    }
    indices.truncate(all);
    if indices.len() == all { Ok(indices) } else { Err(TRUNCATED.into()) }
}
