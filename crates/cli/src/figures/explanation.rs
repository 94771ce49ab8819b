//! Draws an explanation of a prediction: the map over the image, the class and a scale bar.

use alexnet::explain::{Explanation, Method, color};
use image::{Rgb, RgbImage};

use super::{INK, MUTED, WHITE, annotate, fill, grid::shrunk, text};

/// The largest side of the image in a figure, in pixels.
const LARGEST: u32 = 1024;

/// Draws the map over the image, with opacity `alpha`, above the explained class with its
/// probability, the method and the scale of the colors.
pub fn explanation(explanation: &Explanation, alpha: f32) -> RgbImage {
    let Explanation { class, method, layer, map, .. } = explanation;
    let overlay = shrunk(&explanation.overlay(alpha), LARGEST);
    let top = annotate(&overlay, &[(class.name.as_str(), class.probability)]);
    let line = (top.width() / 16).min(top.height() / 8).max(16);
    let mut canvas = RgbImage::from_pixel(top.width(), top.height() + 2 * line, WHITE);
    image::imageops::replace(&mut canvas, &top, 0, 0);

    let (margin, size) = (line / 3, line as f32 * 0.66);
    let what = match method {
        Method::GradCam | Method::GuidedGradCam => format!("{}, {}", method.name(), layer.name()),
        Method::Guided | Method::Occlusion => method.name().to_owned(),
    };
    let y = top.height();
    text::draw(&mut canvas, &what, [margin as f32, y as f32], size, INK);
    let y = y + line;
    if !map.has_positive_evidence() {
        text::draw(&mut canvas, NO_EVIDENCE, [margin as f32, y as f32], size, MUTED);
        return canvas;
    }
    let largest = number(explanation.scale());
    let width = text::width(&largest, size) as u32;
    let zero = text::width("0", size) as u32;
    let bar = canvas.width().saturating_sub(width + zero + 4 * margin).max(1);
    text::draw(&mut canvas, "0", [margin as f32, y as f32], size, INK);
    for x in 0..bar {
        let color = Rgb(color(x as f32 / bar as f32));
        fill(&mut canvas, [2 * margin + zero + x, y + line / 8], [1, line * 5 / 8], color);
    }
    let at = [(3 * margin + zero + bar) as f32, y as f32];
    text::draw(&mut canvas, &largest, at, size, INK);
    canvas
}

/// What a figure and a message say of a map without positive values.
pub const NO_EVIDENCE: &str = "no region raises this class";

/// Returns a number with three significant digits.
fn number(value: f32) -> String {
    if (0.001..1000.0).contains(&value) { format!("{value:.3}") } else { format!("{value:.2e}") }
}

#[cfg(test)]
mod tests {
    use alexnet::{
        ClassProbability,
        explain::{ConvLayer, Map},
    };

    use super::*;

    fn drawn(values: Vec<f32>) -> RgbImage {
        let class = ClassProbability { name: "roses".into(), index: 0, probability: 0.75 };
        let map = Map { channels: 1, height: 2, width: 2, values };
        let image = RgbImage::from_pixel(320, 240, WHITE);
        let (method, layer) = (Method::GradCam, ConvLayer::Conv5);
        let prediction = alexnet::Prediction::new(vec![class.clone()]);
        let whole = Explanation { prediction, class, method, layer, map, image };
        explanation(&whole, 0.5)
    }

    #[test]
    fn evidence_is_bright_and_its_absence_is_written() {
        let figure = drawn(vec![0.0, 0.0, 0.0, 1.0]);
        let brightness = |x, y| figure.get_pixel(x, y).0.iter().map(|c| u32::from(*c)).sum::<u32>();
        assert!(brightness(310, 230) > brightness(10, 10) + 100);
        assert_ne!(drawn(vec![0.0; 4]), drawn(vec![-1.0, -2.0, 0.0, 1.0]));
        assert_eq!(drawn(vec![0.0; 4]), drawn(vec![-1.0; 4]));
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([number(0.1234), number(12.5), number(1e-5)], ["0.123", "12.500", "1.00e-5"]);
    }
}
