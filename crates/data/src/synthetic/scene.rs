//! Draws the background of the flowers and simulates the camera. Neither depends on the class, so
//! that background and light contain no information about the flower.

use image::RgbImage;
use image::imageops::fast_blur;
use rand::{Rng, RngExt};
use tiny_skia::Transform;

use super::canvas::{Canvas, Color, Fill, disc, outline};

/// Creates a canvas with an out-of-focus background: sky, meadow, earth, dusk, sunset, fog or
/// night, sometimes with grass.
pub fn background(width: u32, height: u32, rng: &mut impl Rng) -> Canvas {
    let (far, near) = match rng.random_range(0..8) {
        0 => (Color(0.45, 0.65, 0.9), Color(0.75, 0.87, 0.95)),
        1 => (Color(0.25, 0.4, 0.15), Color(0.1, 0.22, 0.08)),
        2 => (Color(0.55, 0.68, 0.35), Color(0.25, 0.42, 0.15)),
        3 => (Color(0.4, 0.35, 0.3), Color(0.2, 0.17, 0.13)),
        4 => (Color(0.75, 0.6, 0.6), Color(0.35, 0.4, 0.45)),
        5 => (Color(0.95, 0.6, 0.25), Color(0.55, 0.2, 0.25)),
        6 => (Color(0.93, 0.94, 0.92), Color(0.75, 0.8, 0.78)),
        _ => (Color(0.08, 0.1, 0.16), Color(0.02, 0.03, 0.04)),
    };
    let mut canvas = Canvas::new(width, height, far);
    let (w, h) = (width as f32, height as f32);
    let whole = outline(|path| {
        path.push_rect(tiny_skia::Rect::from_xywh(0.0, 0.0, w, h).expect("not empty"))
    });
    let tilt = rng.random_range(-0.4..0.4) * w;
    canvas.fill(
        &whole,
        &Fill::Linear([(w / 2.0 - tilt, 0.0), (w / 2.0 + tilt, h)], [far, near]),
        Transform::identity(),
    );
    for _ in 0..rng.random_range(6..18) {
        let color = far
            .mix(near, rng.random_range(-0.5..1.5))
            .mix(any_color(rng), rng.random_range(0.0..0.35));
        let radius = rng.random_range(0.1..0.4) * w.min(h);
        let fill =
            Fill::Radial((0.0, 0.0), radius, [(color, rng.random_range(0.4..0.7)), (color, 0.0)]);
        let place = Transform::from_translate(rng.random_range(0.0..w), rng.random_range(0.0..h));
        canvas.fill(&disc(radius), &fill, place);
    }
    if rng.random_bool(0.6) {
        grass(&mut canvas, rng);
    }
    canvas
}

/// Draws blades of grass that start at the lower edge.
fn grass(canvas: &mut Canvas, rng: &mut impl Rng) {
    let (w, h) = (canvas.width(), canvas.height());
    for _ in 0..rng.random_range(20..70) {
        let (x, tall) = (rng.random_range(0.0..w), rng.random_range(0.2..0.9) * h);
        let (lean, wide) = (rng.random_range(-0.3..0.3) * tall, rng.random_range(0.004..0.02) * w);
        let blade = outline(|path| {
            path.move_to(x - wide, h);
            path.quad_to(x, h - tall * 0.6, x + lean, h - tall);
            path.quad_to(x + wide, h - tall * 0.5, x + wide, h);
            path.close();
        });
        let green = leaf_green(rng);
        canvas.fill(&blade, &Fill::Flat(green, rng.random_range(0.3..0.8)), Transform::identity());
    }
}

/// Returns a random green for leaves and stems.
pub fn leaf_green(rng: &mut impl Rng) -> Color {
    let light = Color(0.5, 0.66, 0.28);
    Color(0.1, 0.3, 0.1).mix(light, rng.random_range(0.0..1.0))
}

fn any_color(rng: &mut impl Rng) -> Color {
    Color(rng.random(), rng.random(), rng.random())
}

/// Simulates the camera: exposure, tint, contrast, focus and sensor noise.
pub fn photograph(canvas: Canvas, rng: &mut impl Rng) -> RgbImage {
    let mut image = canvas.into_rgb();
    if rng.random_bool(0.25) {
        image = fast_blur(&image, rng.random_range(0.4..0.7));
    }
    let gamma: f32 = rng.random_range(0.8..1.25);
    let contrast: f32 = rng.random_range(1.0..1.3);
    let curves: [[f32; 256]; 3] = std::array::from_fn(|_| {
        let tint: f32 = rng.random_range(0.88..1.12);
        std::array::from_fn(|byte| {
            let value = (byte as f32 / 255.0).powf(gamma) * tint;
            ((value - 0.5) * contrast + 0.5) * 255.0
        })
    });
    let noise: f32 = rng.random_range(0.0..5.0);
    for pixel in image.pixels_mut() {
        // The sum of four random bytes is approximately normally distributed.
        let sum: u32 = rng.next_u32().to_le_bytes().iter().map(|byte| u32::from(*byte)).sum();
        let grain = (sum as f32 / 510.0 - 1.0) * noise * 1.7;
        for (channel, curve) in pixel.0.iter_mut().zip(&curves) {
            *channel = (curve[usize::from(*channel)] + grain).clamp(0.0, 255.0) as u8;
        }
    }
    image
}
