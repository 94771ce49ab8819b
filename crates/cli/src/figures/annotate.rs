//! Draws an image with its most probable classes below it.

use image::{RgbImage, imageops};

use super::{BLUE, FAINT, INK, WHITE, blend, fill, text};

/// The least width of a figure, in pixels. Text on a narrower one would be too small, so smaller
/// images are enlarged.
const NARROWEST: u32 = 256;

/// Draws the image above one bar for each class and probability. Images below 256 pixels are
/// enlarged by a whole factor without interpolation; others keep their size.
pub fn annotate(image: &RgbImage, top: &[(&str, f64)]) -> RgbImage {
    let (width, height) = image.dimensions();
    let factor = (NARROWEST / width.max(height).max(1)).max(1);
    let (width, height) = (width * factor, height * factor);
    let across = width.max(NARROWEST);

    let line = (across / 16).min(height.max(NARROWEST) / 8);
    let strip = line * top.len() as u32 + line / 2;
    let mut canvas = RgbImage::from_pixel(across, height + strip, WHITE);
    let left = i64::from((across - width) / 2);
    match factor {
        1 => imageops::replace(&mut canvas, image, left, 0),
        _ => {
            let enlarged = imageops::resize(image, width, height, imageops::FilterType::Nearest);
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
    // NaN gives a bar of length 0.
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

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    const TOP: [(&str, f64); 3] = [("roses", 0.75), ("Gänseblümchen 雛菊", 0.25), ("", f64::NAN)];

    #[test]
    fn the_bars_are_added_below_the_unchanged_image() {
        let image = RgbImage::from_fn(320, 240, |x, y| Rgb([x as u8, y as u8, 7]));
        let annotated = annotate(&image, &TOP);
        assert_eq!(annotated.dimensions(), (320, 240 + 3 * 20 + 10));
        assert!(image.enumerate_pixels().all(|(x, y, pixel)| annotated.get_pixel(x, y) == pixel));
        assert_ne!(
            annotated,
            annotate(&image, &[("roses", 0.75), ("tulips", 0.25), ("daisy", 0.0)])
        );
    }

    #[test]
    fn tiny_images_are_enlarged_and_huge_ones_keep_their_size() {
        let dot = annotate(&RgbImage::from_pixel(1, 1, Rgb([1, 2, 3])), &TOP);
        assert_eq!(dot.dimensions(), (256, 256 + 3 * 16 + 8));
        assert!((0..256).all(|i| *dot.get_pixel(i, i) == Rgb([1, 2, 3])));
        let thin = annotate(&RgbImage::from_pixel(3, 900, Rgb([1, 2, 3])), &TOP);
        assert_eq!(thin.width(), 256);
        assert_eq!(*thin.get_pixel(127, 450), Rgb([1, 2, 3]));
        let flat = annotate(&RgbImage::new(9000, 2), &TOP);
        assert!(flat.width() == 9000 && flat.height() < 200, "{:?}", flat.dimensions());
        let huge = annotate(&RgbImage::new(6000, 4000), &TOP);
        assert_eq!(huge.dimensions(), (6000, 4000 + 3 * 375 + 187));
        annotate(&RgbImage::new(0, 0), &TOP);
        annotate(&RgbImage::new(5, 5), &[]);
    }

    #[test]
    fn the_length_of_a_bar_is_proportional_to_the_probability() {
        let bar = |probability| {
            let mut canvas = RgbImage::from_pixel(320, 20, WHITE);
            draw_bar(&mut canvas, 0, 20, "", probability);
            (0..320).filter(|x| *canvas.get_pixel(*x, 16) == blend(WHITE, BLUE, 0.35)).count()
                as f64
        };
        let room = bar(1.0);
        assert_eq!(room, 308.0);
        for probability in [0.0, 0.25, 0.5] {
            assert!((bar(probability) - probability * room).abs() < 1.0);
        }
        assert_eq!([bar(f64::NAN), bar(-1.0), bar(7.0)], [0.0, 0.0, room]);
    }
}
