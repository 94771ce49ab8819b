//! Decodes the first frame of a GIF with the `gif` crate, at its position on the logical screen.

use std::borrow::Cow;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};
use image::RgbImage;

use super::memory_budget::Reservation;

/// Decodes a file. The screen is enlarged if the frame is larger. Pixels outside of the frame get
/// the transparent index of the frame, or index 0, as in Pillow; browsers show them as transparent.
pub fn decode(bytes: &[u8], memory: &mut Reservation) -> Result<RgbImage, String> {
    let bytes = &with_palette(bytes)[..];
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Unlimited);
    options.allow_unknown_blocks(true);
    let mut decoder = options.read_info(bytes).map_err(|e| e.to_string())?;
    let frame = decoder.next_frame_info().map_err(|e| e.to_string())?.ok_or("it has no frame")?;
    let [left, top, across, down] =
        [frame.left, frame.top, frame.width, frame.height].map(usize::from);
    let background = frame.transparent.unwrap_or(0);
    if across == 0 || down == 0 {
        return Err("its first frame has no pixels".into());
    }
    let width = (left + across).max(decoder.width().into());
    let height = (top + down).max(decoder.height().into());
    memory.for_image(width as u64, height as u64, 5)?;
    let mut indices = vec![0; across * down];
    decoder.read_into_buffer(&mut indices).map_err(|e| e.to_string())?;
    let mut screen = vec![background; width * height];
    for (row, indices) in screen.chunks_mut(width).skip(top).zip(indices.chunks(across)) {
        row[left..left + across].copy_from_slice(indices);
    }
    drop(indices);
    let palette = decoder.palette().map_err(|e| e.to_string())?.as_chunks::<3>().0;
    let color = |index: u8| palette.get(usize::from(index)).copied().unwrap_or_default();
    let pixels = screen.into_iter().flat_map(color).collect();
    RgbImage::from_raw(width as u32, height as u32, pixels)
        .ok_or_else(|| "its pixels are incomplete".into())
}

/// Adds a global palette of 256 grays to a file that has none: its indices are gray values.
fn with_palette(bytes: &[u8]) -> Cow<'_, [u8]> {
    const HAS_PALETTE: u8 = 0x80;
    const OF_256_COLORS: u8 = 7;
    match bytes.split_first_chunk::<13>() {
        Some((header, rest)) if header[10] & HAS_PALETTE == 0 => {
            let mut header = *header;
            header[10] |= HAS_PALETTE | OF_256_COLORS;
            let grays: Vec<u8> = (0..=255).flat_map(|gray| [gray; 3]).collect();
            [&header[..], &grays, rest].concat().into()
        }
        _ => bytes.into(),
    }
}
