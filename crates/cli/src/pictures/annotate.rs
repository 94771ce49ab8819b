//! A photo with its most probable classes below.

use image::{RgbImage, imageops};

use super::{BLUE, FAINT, INK, WHITE, blend, fill, text};

/// A strip narrower than this cannot be read; a smaller picture is enlarged.
const NARROWEST: u32 = 256;

/// The picture above one bar for each class and probability. Tiny pictures are enlarged by a whole factor, so that their
/// pixels stay what they are; all others keep their size.
pub fn annotate(picture: &RgbImage, top: &[(&str, f64)]) -> RgbImage {
    let (width, height) = picture.dimensions();
    let factor = (NARROWEST / width.max(height).max(1)).max(1);
    let (width, height) = (width * factor, height * factor);
    let across = width.max(NARROWEST);

    let line = across / 16;
    let strip = line * top.len() as u32 + line / 2;
    let mut canvas = RgbImage::from_pixel(across, height + strip, WHITE);
    let left = i64::from((across - width) / 2);
    match factor {
        1 => imageops::replace(&mut canvas, picture, left, 0),
        _ => {
            let enlarged = imageops::resize(picture, width, height, imageops::FilterType::Nearest);
            imageops::replace(&mut canvas, &enlarged, left, 0);
        }
    }
    for ((class, probability), row) in top.iter().zip(0..) {
        draw_bar(&mut canvas, height + line / 4 + row * line, line, class, *probability);
    }
    canvas
}

fn draw_bar(canvas: &mut RgbImage, y: u32, line: u32, class: &str, probability: f64) {
    let margin = line / 3;
    let room = canvas.width() - 2 * margin;
    let thickness = line - line / 8;
    fill(canvas, [margin, y], [room, thickness], blend(WHITE, FAINT, 0.5));
    // Not-a-number becomes a bar without length.
    let filled = (f64::from(room) * probability.clamp(0.0, 1.0)) as u32;
    fill(canvas, [margin, y], [filled, thickness], blend(WHITE, BLUE, 0.35));

    let size = line as f32 * 0.78;
    let top = y as f32 + (thickness as f32 - size) / 2.0;
    let number = format!("{probability:.3}");
    let number_at = (margin + room) as f32 - text::width(&number, size) - margin as f32;
    text::draw(canvas, &number, [number_at, top], size, INK);
    let shortened = text::shorten(class, size, number_at - 3.0 * margin as f32);
    text::draw(canvas, &shortened, [2.0 * margin as f32, top], size, INK);
}
