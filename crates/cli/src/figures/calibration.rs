//! The reliability diagram: whether the accuracy of a network is as high as its confidence.

use alexnet::core::metrics::{Bin, Calibration};
use anyhow::Result;
use image::RgbImage;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::chart::{Area, OVERSAMPLE, chart, font, headed, pixels, rgb, style_axes};

const WIDTH: u32 = 760;
const HEIGHT: u32 = 860;
/// The top of the lower panel.
const SPLIT: u32 = 620;
/// The width of the labels on the left, the same in both panels, so that their bins are aligned.
const LABELS: u32 = 62;

/// Draws a figure of 760×860: for each bin of confidence the accuracy and its distance to the mean
/// confidence, and below it the number of images.
pub fn calibration(calibration: &Calibration) -> Result<RgbImage> {
    chart(WIDTH, HEIGHT, |area| {
        let (above, below) = area.split_vertically(pixels(SPLIT));
        reliability(&above, calibration)?;
        histogram(&below, &calibration.bins)
    })
}

fn reliability(area: &Area, calibration: &Calibration) -> Result<()> {
    let images: u64 = calibration.bins.iter().map(|bin| bin.images).sum();
    let title = format!("expected calibration error {:.3} on {images} images", calibration.ece);
    let [accuracy, gap] =
        [super::BLUE, super::ORANGE].map(|color| super::blend(super::WHITE, color, 0.75));
    let legend = [("accuracy", accuracy), ("gap to the mean confidence", gap)];
    let area = &headed(area, &title, &legend)?;
    let mut chart = ChartBuilder::on(area)
        .margin(pixels(14))
        .x_label_area_size(pixels(30))
        .y_label_area_size(pixels(LABELS))
        .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
    let mut mesh = chart.configure_mesh();
    style_axes(&mut mesh, area);
    mesh.disable_x_mesh()
        .y_desc("accuracy")
        .y_label_formatter(&|value: &f64| format!("{value:.1}"))
        .x_label_formatter(&|value: &f64| format!("{value:.1}"))
        .draw()?;

    let filled = || calibration.bins.iter().filter(|bin| bin.images > 0);
    chart.draw_series(filled().map(|bin| bar(bin, 0.0, bin.accuracy, rgb(accuracy).filled())))?;
    chart.draw_series(
        filled().map(|bin| bar(bin, bin.accuracy, bin.confidence, rgb(gap).mix(0.6).filled())),
    )?;
    let level = |value: f64, bin: &Bin| {
        PathElement::new(
            [(bin.from, value), (bin.to, value)],
            rgb(super::INK).stroke_width(pixels(2)),
        )
    };
    chart.draw_series(filled().map(|bin| level(bin.accuracy, bin)))?;
    let dash = rgb(super::MUTED).stroke_width(OVERSAMPLE);
    chart.draw_series(DashedLineSeries::new(
        [(0.0, 0.0), (1.0, 1.0)],
        pixels(6),
        pixels(5),
        dash,
    ))?;
    Ok(())
}

/// Draws the number of images in each bin, as a bar and as text above it.
fn histogram(area: &Area, bins: &[Bin]) -> Result<()> {
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or_default().max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(pixels(14))
        .x_label_area_size(pixels(44))
        .y_label_area_size(pixels(LABELS))
        .build_cartesian_2d(0.0..1.0, 0.0..most * 1.15)?;
    let mut mesh = chart.configure_mesh();
    style_axes(&mut mesh, area);
    mesh.disable_mesh()
        .x_desc("confidence: the probability of the predicted class")
        .y_desc("images")
        .y_labels(4)
        .y_label_formatter(&|value: &f64| format!("{value:.0}"))
        .x_label_formatter(&|value: &f64| format!("{value:.1}"))
        .draw()?;
    let color = rgb(super::blend(super::WHITE, super::MUTED, 0.6));
    chart.draw_series(bins.iter().map(|bin| bar(bin, 0.0, bin.images as f64, color.filled())))?;
    let style = font(area, 14, super::INK).pos(Pos::new(HPos::Center, VPos::Bottom));
    chart.draw_series(bins.iter().filter(|bin| bin.images > 0).map(|bin| {
        let at = ((bin.from + bin.to) / 2.0, bin.images as f64);
        EmptyElement::at(at)
            + Text::new(bin.images.to_string(), (0, -(pixels(2) as i32)), style.clone())
    }))?;
    Ok(())
}

/// Returns a bar from `start` to `end`, with white space on both sides.
fn bar(bin: &Bin, start: f64, end: f64, style: ShapeStyle) -> Rectangle<(f64, f64)> {
    let mut bar = Rectangle::new([(bin.from, start), (bin.to, end)], style);
    bar.set_margin(0, 0, OVERSAMPLE, OVERSAMPLE);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(figure: &RgbImage, color: super::super::Color) -> usize {
        let near =
            |pixel: &&image::Rgb<u8>| pixel.0.iter().zip(color.0).all(|(a, b)| a.abs_diff(b) < 24);
        figure.pixels().filter(near).count()
    }

    fn drawn(answers: &[(f64, bool)]) -> RgbImage {
        calibration(&Calibration::new(answers.iter().copied())).unwrap()
    }

    #[test]
    fn empty_and_extreme_bins_are_drawn() {
        for answers in
            [&[][..], &[(1.0, true)], &[(1.0, false); 3], &[(f64::NAN, true)], &[(0.0, false)]]
        {
            assert_eq!(drawn(answers).dimensions(), (WIDTH, HEIGHT));
        }
    }

    /// Four images of confidence 0.75, of which none to three are classified correctly.
    #[test]
    fn the_bar_shows_the_accuracy_and_the_gap_ends_at_the_confidence() {
        let of = |right: usize| drawn(&[0, 1, 2, 3].map(|i| (0.75, i < right)));
        let blue = super::super::blend(super::super::WHITE, super::super::BLUE, 0.75);
        let tall = |right| count(&of(right), blue) as f64;
        let legend = tall(0);
        let [one, two] = [1, 2].map(|right| tall(right) - legend);
        assert!(one > 2000.0 && (two / one - 2.0).abs() < 0.1, "{one}, {two}");
        let orange = super::super::blend(super::super::WHITE, super::super::ORANGE, 0.45);
        let [one, two, three] = [1, 2, 3].map(|right| count(&of(right), orange));
        assert!(one > two && two > three, "{one}, {two}, {three}");
    }
}
