//! Drawing functions on top of tiny-skia: mixing of colors, outlines of petals, gradients.

use tiny_skia::{
    Color as SkiaColor, FillRule, GradientStop, LineCap, LinearGradient, Paint, Path, PathBuilder,
    Pixmap, Point, RadialGradient, Shader, SpreadMode, Stroke, Transform,
};

/// Red, green and blue, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Color(pub f32, pub f32, pub f32);

impl Color {
    pub const BLACK: Self = Self(0.0, 0.0, 0.0);
    pub const WHITE: Self = Self(1.0, 1.0, 1.0);

    /// Interpolates linearly: this color at `t` = 0, the other at `t` = 1.
    pub fn mix(self, other: Self, t: f32) -> Self {
        let between = |a: f32, b: f32| a + (b - a) * t;
        Self(between(self.0, other.0), between(self.1, other.1), between(self.2, other.2))
    }

    pub fn darker(self, t: f32) -> Self {
        self.mix(Self::BLACK, t)
    }

    pub fn lighter(self, t: f32) -> Self {
        self.mix(Self::WHITE, t)
    }

    fn with_alpha(self, alpha: f32) -> SkiaColor {
        let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0) as u8;
        SkiaColor::from_rgba8(byte(self.0), byte(self.1), byte(self.2), byte(alpha))
    }
}

/// The fill of an outline. Positions are in the coordinates of the outline, before its transform.
pub enum Fill {
    /// One color, with its opacity.
    Flat(Color, f32),
    /// A gradient between two points and colors.
    Linear([(f32, f32); 2], [Color; 2]),
    /// A gradient from the center to the edge of a circle: center, radius, and color and opacity of
    /// both ends.
    Radial((f32, f32), f32, [(Color, f32); 2]),
}

impl Fill {
    fn shader(&self) -> Shader<'static> {
        let point = |(x, y): (f32, f32)| Point::from_xy(x, y);
        let stops =
            |a: SkiaColor, b: SkiaColor| vec![GradientStop::new(0.0, a), GradientStop::new(1.0, b)];
        // A gradient of length 0 is invalid; its last color is used instead.
        match *self {
            Self::Flat(color, alpha) => Shader::SolidColor(color.with_alpha(alpha)),
            Self::Linear([from, to], [a, b]) => {
                let (a, b) = (a.with_alpha(1.0), b.with_alpha(1.0));
                let stops = stops(a, b);
                LinearGradient::new(
                    point(from),
                    point(to),
                    stops,
                    SpreadMode::Pad,
                    Transform::identity(),
                )
                .unwrap_or(Shader::SolidColor(b))
            }
            Self::Radial(center, radius, [(a, from), (b, to)]) => {
                let (a, b) = (a.with_alpha(from), b.with_alpha(to));
                let (center, stops, still) = (point(center), stops(a, b), Transform::identity());
                RadialGradient::new(center, 0.0, center, radius, stops, SpreadMode::Pad, still)
                    .unwrap_or(Shader::SolidColor(b))
            }
        }
    }
}

/// The image to draw on.
pub struct Canvas {
    pixmap: Pixmap,
}

impl Canvas {
    /// Creates a canvas filled with one color. Width and height must be above 0 and below 2^15.
    pub fn new(width: u32, height: u32, ground: Color) -> Self {
        let mut pixmap = Pixmap::new(width, height).expect("the sides are in range");
        pixmap.fill(ground.with_alpha(1.0));
        Self { pixmap }
    }

    pub fn width(&self) -> f32 {
        self.pixmap.width() as f32
    }

    pub fn height(&self) -> f32 {
        self.pixmap.height() as f32
    }

    pub fn fill(&mut self, outline: &Path, fill: &Fill, place: Transform) {
        let paint = Paint { shader: fill.shader(), ..Paint::default() };
        self.pixmap.fill_path(outline, &paint, FillRule::Winding, place, None);
    }

    /// Draws a line. `width` is in the units of the line, before its transform.
    pub fn stroke(&mut self, line: &Path, width: f32, fill: &Fill, place: Transform) {
        let paint = Paint { shader: fill.shader(), ..Paint::default() };
        let stroke = Stroke { width, line_cap: LineCap::Round, ..Stroke::default() };
        self.pixmap.stroke_path(line, &paint, &stroke, place, None);
    }

    pub fn into_rgb(self) -> image::RgbImage {
        let (width, height) = (self.pixmap.width(), self.pixmap.height());
        let pixels = self.pixmap.pixels();
        image::RgbImage::from_fn(width, height, |x, y| {
            // All pixels are opaque because the initial fill is opaque; premultiplied values need
            // no conversion.
            let pixel = pixels[(y * width + x) as usize];
            image::Rgb([pixel.red(), pixel.green(), pixel.blue()])
        })
    }
}

/// Returns the outline that `draw` creates.
pub fn outline(draw: impl FnOnce(&mut PathBuilder)) -> Path {
    let mut builder = PathBuilder::new();
    draw(&mut builder);
    builder.finish().expect("every outline has a line of finite points")
}

/// Returns a disc around the origin.
pub fn disc(radius: f32) -> Path {
    outline(|path| path.push_circle(0.0, 0.0, radius))
}

/// Returns a petal along the x axis from `from` to `to`. It is widest at `widest` (0 at its base, 1
/// at its tip). `tip` is the roundness of its tip: 0 for pointed, 1 for round.
pub fn petal(from: f32, to: f32, width: f32, widest: f32, tip: f32) -> Path {
    let (length, half) = (to - from, width / 2.0);
    let middle = from + length * widest;
    let end = half * tip;
    outline(|path| {
        path.move_to(from, 0.0);
        path.cubic_to(
            from + length * widest * 0.3,
            half * 0.5,
            middle - length * widest * 0.4,
            half,
            middle,
            half,
        );
        path.cubic_to(middle + (to - middle) * 0.6, half, to, end, to, 0.0);
        path.cubic_to(to, -end, middle + (to - middle) * 0.6, -half, middle, -half);
        path.cubic_to(
            middle - length * widest * 0.4,
            -half,
            from + length * widest * 0.3,
            -half * 0.5,
            from,
            0.0,
        );
        path.close();
    })
}
