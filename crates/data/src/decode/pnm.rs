//! Decodes PNM: bitmaps, gray and color images, as text (P1 to P3) and binary (P4 to P6).

use image::RgbImage;

use super::memory_budget::Reservation;

pub fn decode(bytes: &[u8], memory: &mut Reservation) -> Result<RgbImage, String> {
    let kind = match bytes {
        [b'P', kind @ b'1'..=b'6', space, ..] if is_space(*space) => kind - b'0',
        [b'P', b'7', ..] => return Err("PAM (P7) is not supported: convert it to PNG".into()),
        _ => return Err("its header is not that of a PNM".into()),
    };
    let mut rest = &bytes[3..];
    let [width, height] = [number(&mut rest)?, number(&mut rest)?];
    // Text files also need 12 bytes per pixel for the parsed numbers.
    memory.for_image(width.into(), height.into(), if kind <= 3 { 15 } else { 3 })?;
    let channels = if kind % 3 == 0 { 3 } else { 1 };
    let samples = (width * height) as usize * channels;
    let pixels = if kind % 3 == 1 {
        let bits = if kind == 1 {
            bits_of_text(rest, samples)?
        } else {
            bits(rest, width as usize, samples)?
        };
        bits.into_iter().flat_map(|black| [if black { 0 } else { 255 }; 3]).collect()
    } else {
        let maxval = number(&mut rest)?;
        if !(1..=65_535).contains(&maxval) {
            return Err(format!("its largest value is {maxval}, not 1 to 65535"));
        }
        if kind <= 3 {
            rgb(numbers_of_text(rest, samples, maxval)?.into_iter(), channels, maxval)
        } else if maxval < 256 {
            rgb(
                rest.get(..samples).ok_or(TRUNCATED)?.iter().map(|sample| u32::from(*sample)),
                channels,
                maxval,
            )
        } else {
            let (pairs, _) = rest.get(..2 * samples).ok_or(TRUNCATED)?.as_chunks();
            rgb(pairs.iter().map(|pair| u16::from_be_bytes(*pair).into()), channels, maxval)
        }
    };
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| TRUNCATED.into())
}

const TRUNCATED: &str = "it is truncated: pixels are missing";

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Returns the bytes after a comment, which ends at the end of its line.
fn after_comment(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    end.map_or(&[], |end| &bytes[end + 1..])
}

/// Reads the next number of the header and the whitespace character after it.
fn number(rest: &mut &[u8]) -> Result<u32, String> {
    let mut digits = String::new();
    while let Some((byte, after)) = rest.split_first() {
        *rest = after;
        match *byte {
            b'#' => *rest = after_comment(rest),
            space if is_space(space) && digits.is_empty() => {}
            space if is_space(space) => break,
            _ if digits.len() == 10 => return Err("a number in its header is too long".into()),
            byte => digits.push(byte.into()),
        }
    }
    digits.parse().map_err(|_| "a number in its header is missing or invalid".into())
}

fn bits_of_text(mut rest: &[u8], samples: usize) -> Result<Vec<bool>, String> {
    let mut bits = Vec::with_capacity(samples);
    while bits.len() < samples {
        let (byte, after) = rest.split_first().ok_or(TRUNCATED)?;
        rest = after;
        match *byte {
            b'0' => bits.push(false),
            b'1' => bits.push(true),
            b'#' => rest = after_comment(rest),
            space if is_space(space) => {}
            _ => return Err("it holds characters that are not 0 or 1".into()),
        }
    }
    Ok(bits)
}

/// Reads packed bits. Each row starts at a byte boundary.
fn bits(bytes: &[u8], width: usize, samples: usize) -> Result<Vec<bool>, String> {
    let row_bytes = width.div_ceil(8);
    let rows = bytes.get(..samples / width * row_bytes).ok_or(TRUNCATED)?.chunks(row_bytes);
    Ok(rows.flat_map(|row| (0..width).map(|x| row[x / 8] << (x % 8) >= 0x80)).collect())
}

fn numbers_of_text(mut rest: &[u8], samples: usize, maxval: u32) -> Result<Vec<u32>, String> {
    let mut numbers = Vec::with_capacity(samples);
    let mut word: Option<u32> = None;
    while numbers.len() < samples {
        let Some((byte, after)) = rest.split_first() else {
            numbers.extend(word.take());
            break;
        };
        rest = after;
        match *byte {
            digit @ b'0'..=b'9' => {
                let value = word.unwrap_or(0) * 10 + u32::from(digit - b'0');
                if value > maxval {
                    return Err(format!(
                        "a value is larger than the maximum in its header, {maxval}"
                    ));
                }
                word = Some(value);
            }
            b'#' => rest = after_comment(rest),
            space if is_space(space) => numbers.extend(word.take()),
            _ => return Err("it holds characters that are not digits".into()),
        }
    }
    if numbers.len() == samples { Ok(numbers) } else { Err(TRUNCATED.into()) }
}

fn rgb(samples: impl Iterator<Item = u32>, channels: usize, maxval: u32) -> Vec<u8> {
    // Gray with more than 8 bits is scaled to 16 bits and reduced to the high byte.
    let deep_gray = channels == 1 && maxval > 255;
    let scale = |sample: u32| {
        let part = f64::from(sample.min(maxval)) / f64::from(maxval);
        if deep_gray {
            ((part * 65_535.0).round_ties_even() as u32 >> 8) as u8
        } else {
            (part * 255.0).round_ties_even() as u8
        }
    };
    let table: Vec<u8> = (0..=maxval).map(scale).collect();
    let bytes = samples.map(|sample| table[sample.min(maxval) as usize]);
    if channels == 3 { bytes.collect() } else { bytes.flat_map(|byte| [byte; 3]).collect() }
}
