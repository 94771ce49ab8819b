//! Draws text on figures.

use ab_glyph::{Font, Glyph, ScaleFont, point};
use image::RgbImage;
use unicode_width::UnicodeWidthChar;

use super::{
    Color, blend,
    fonts::{self, Face},
};

/// Lays out one line of text with its upper left corner at the origin. `size` is its height in
/// pixels from ascent to descent of the font of letters. A character that no font has becomes a
/// box, unless its width is 0. Returns the glyphs with their fonts, and the width.
fn layout(text: &str, size: f32) -> (Vec<(Glyph, Face)>, f32) {
    let mut glyphs: Vec<(Glyph, Face)> = Vec::new();
    let mut pen = 0.0;
    let Some(letters) = fonts::first() else { return (glyphs, pen) };
    // All fonts have the same baseline and the same size per em, regardless of their ascents and
    // descents.
    let height = |font: Face| font.height_unscaled() / font.units_per_em().unwrap_or(1.0);
    let ascent = letters.as_scaled(size).ascent();
    for character in text.chars() {
        let font = match fonts::with(character) {
            Some(font) => font,
            None if character.width() == Some(0) => continue,
            None => letters,
        };
        let scaled = font.as_scaled(size * height(font) / height(letters));
        let mut glyph = scaled.scaled_glyph(character);
        match glyphs.last() {
            Some((last, its_font)) if std::ptr::eq(*its_font, font) => {
                pen += scaled.kern(last.id, glyph.id)
            }
            _ => {}
        }
        glyph.position = point(pen, ascent);
        pen += scaled.h_advance(glyph.id);
        glyphs.push((glyph, font));
    }
    (glyphs, pen)
}

/// Returns the width of a line in pixels.
pub fn width(text: &str, size: f32) -> f32 {
    layout(text, size).1
}

/// Draws a line with its upper left corner at `x`, `y`, clipped to the canvas.
pub fn draw(canvas: &mut RgbImage, text: &str, [x, y]: [f32; 2], size: f32, color: Color) {
    for (mut glyph, font) in layout(text, size).0 {
        glyph.position.x += x;
        // Baselines are rounded to whole pixels, so that the same letters look the same in all
        // rows.
        glyph.position.y = (glyph.position.y + y).round();
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let bounds = outline.px_bounds();
        outline.draw(|dx, dy, coverage| {
            let at = |start: f32, offset: u32| u32::try_from(start as i64 + i64::from(offset)).ok();
            let (Some(x), Some(y)) = (at(bounds.min.x, dx), at(bounds.min.y, dy)) else { return };
            if let Some(pixel) = canvas.get_pixel_mut_checked(x, y) {
                *pixel = blend(*pixel, color, coverage.min(1.0));
            }
        });
    }
}

/// Truncates a text to `room` pixels, including an ellipsis.
pub fn shorten(text: &str, size: f32, room: f32) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut start: String = text.to_owned();
    while start.pop().is_some() {
        let shortened = format!("{}…", start.trim_end());
        if width(&shortened, size) <= room {
            return shortened;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::figures::{INK, WHITE};

    fn drawn(text: &str, at: [f32; 2]) -> usize {
        let mut canvas = RgbImage::from_pixel(120, 24, WHITE);
        draw(&mut canvas, text, at, 16.0, INK);
        canvas.pixels().filter(|pixel| **pixel != WHITE).count()
    }

    #[test]
    fn letters_differ() {
        assert!(drawn("daisy", [2.0, 2.0]) > 60);
        assert_ne!(drawn("daisy", [2.0, 2.0]), drawn("roses", [2.0, 2.0]));
        assert_eq!(drawn("   ", [2.0, 2.0]), 0);
    }

    #[test]
    fn any_text_can_be_drawn_anywhere() {
        for text in [
            "Gänseblümchen",
            "ромашка",
            "雛菊",
            "🌻",
            "a\u{301}\u{200d}\u{fe0f}",
            "\u{1}\n\t",
            "\u{10ffff}",
            "",
        ] {
            assert_eq!(drawn(text, [2.0, 2.0]) > 0, !text.is_empty(), "{text:?}");
            for at in [[-8.0, -8.0], [115.0, 20.0], [-1e9, 1e9]] {
                drawn(text, at);
            }
        }
    }

    #[test]
    fn characters_that_the_first_font_lacks_are_drawn_with_others() {
        let [box_, sunflower, arrow] =
            ["\u{10fffe}", "🌻", "⇄"].map(|text| drawn(text, [2.0, 2.0]));
        assert_ne!(sunflower, box_);
        assert_ne!(arrow, box_);
        assert_eq!(drawn("\u{10ffff}", [2.0, 2.0]), box_);
    }

    #[test]
    fn long_text_is_truncated_to_the_available_width() {
        assert_eq!(shorten("tulips", 16.0, 200.0), "tulips");
        let short = shorten("common dandelion of the meadow", 16.0, 100.0);
        assert!(
            short.starts_with("common") && short.ends_with('…') && width(&short, 16.0) <= 100.0,
            "{short}"
        );
        assert_eq!(shorten("tulips", 16.0, 1.0), "");
        assert!(shorten("üüüüüü", 16.0, 30.0).ends_with("ü…"));
    }

    #[test]
    fn coverage_blends() {
        assert_eq!(blend(WHITE, INK, 0.0), WHITE);
        assert_eq!(blend(WHITE, INK, 1.0), INK);
        assert_eq!(blend(Rgb([0, 0, 0]), Rgb([100, 50, 200]), 0.5), Rgb([50, 25, 100]));
    }
}
