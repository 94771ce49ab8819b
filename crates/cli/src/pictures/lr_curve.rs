//! Loss against the learning rate.

use alexnet_core::lr_find::Point;
use anyhow::{Result, anyhow};
use image::{RgbImage, imageops};
use plotters::{
    prelude::*,
    style::{FontStyle, register_font},
};

use super::text::FONTS;

const WIDTH: u32 = 900;
const HEIGHT: u32 = 500;
/// Drawn larger and shrunk, because the library smooths neither thick lines nor the places of letters.
const OVERSAMPLE: u32 = 2;
const FONT: &str = "pictures";

/// A picture of 900×500: each step's loss, the smoothed loss, and the suggested rate as a dashed line.
pub fn lr_curve(points: &[Point], suggestion: Option<f32>) -> Result<RgbImage> {
    register_font(FONT, FontStyle::Normal, FONTS[0]).map_err(|_| anyhow!("the font cannot be read"))?;
    let size = (WIDTH * OVERSAMPLE, HEIGHT * OVERSAMPLE);
    let mut canvas = RgbImage::new(size.0, size.1);
    draw(&BitMapBackend::with_buffer(&mut canvas, size).into_drawing_area(), points, suggestion)?;
    Ok(imageops::resize(&canvas, WIDTH, HEIGHT, imageops::FilterType::Triangle))
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    points: &[Point],
    suggestion: Option<f32>,
) -> Result<()>
where
    B::ErrorType: 'static,
{
    let pixels = |n: u32| n * OVERSAMPLE;
    let rgb = |color: super::Color| RGBColor(color[0], color[1], color[2]);
    let font = |size: u32, color| {
        (FONT, f64::from(pixels(size))).into_font().color(&rgb(color)).into_text_style(area)
    };
    area.fill(&WHITE)?;
    let at = |point: &Point, value: f64| (f64::from(point.lr), value);
    let smoothed: Vec<(f64, f64)> = points.iter().map(|p| at(p, p.smoothed)).collect();
    let (first, last) = (smoothed.first().map_or(1e-6, |p| p.0), smoothed.last().map_or(1.0, |p| p.0));
    let lowest = smoothed.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let start = smoothed.first().map_or(1.0, |p| p.1);
    // What diverges at the end would press all else flat.
    let (bottom, top) = ((lowest - 0.3 * (start - lowest).abs()).max(0.0).min(start), 1.5 * start.max(1e-3));
    let mut chart = ChartBuilder::on(area)
        .margin(pixels(14))
        .caption("loss against the learning rate", font(22, super::INK))
        .x_label_area_size(pixels(44))
        .y_label_area_size(pixels(56))
        .build_cartesian_2d((first..last.max(2.0 * first)).log_scale(), bottom..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(rgb(super::FAINT).stroke_width(OVERSAMPLE))
        .axis_style(rgb(super::MUTED).stroke_width(OVERSAMPLE))
        .set_all_tick_mark_size(pixels(6))
        .label_style(font(15, super::INK))
        .axis_desc_style(font(16, super::MUTED))
        .x_desc("learning rate")
        .x_label_formatter(&|lr| format!("{lr:.0e}"))
        .draw()?;
    let dots = points.iter().map(|p| at(p, p.loss)).filter(|(_, loss)| (bottom..top).contains(loss));
    chart.draw_series(dots.map(|p| Circle::new(p, pixels(2), rgb(super::BLUE).mix(0.35).filled())))?;
    let line = rgb(super::BLUE).stroke_width(pixels(2));
    chart.draw_series(LineSeries::new(smoothed.into_iter().filter(|p| p.1 < top), line))?;
    if let Some(lr) = suggestion {
        let (x, dash) = (f64::from(lr), rgb(super::ORANGE).stroke_width(pixels(2)));
        chart.draw_series(DashedLineSeries::new([(x, bottom), (x, top)], pixels(6), pixels(6), dash))?;
        let label = EmptyElement::at((x, top))
            + Text::new(format!("{lr:.1e}"), (pixels(6) as i32, pixels(4) as i32), font(16, super::ORANGE));
        chart.draw_series([label])?;
    }
    Ok(area.present()?)
}
