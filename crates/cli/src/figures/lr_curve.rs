//! Chart of the loss against the learning rate.

use alexnet::core::lr_find::Point;
use anyhow::Result;
use image::RgbImage;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::chart::{self, Area, OVERSAMPLE, font, pixels, rgb, style_axes};

/// Draws a figure of 900×500: the loss of each step, the smoothed loss, and the suggested rate as a
/// dashed line.
pub fn lr_curve(points: &[Point], suggestion: Option<f32>) -> Result<RgbImage> {
    chart::chart(900, 500, |area| draw(area, points, suggestion))
}

fn draw(area: &Area, points: &[Point], suggestion: Option<f32>) -> Result<()> {
    let at = |point: &Point, value: f64| (f64::from(point.lr), value);
    let smoothed: Vec<(f64, f64)> = points.iter().map(|p| at(p, p.smoothed)).collect();
    let (first, last) =
        (smoothed.first().map_or(1e-6, |p| p.0), smoothed.last().map_or(1.0, |p| p.0));
    let lowest = smoothed.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let start = smoothed.first().map_or(1.0, |p| p.1);
    // Limits the axis, because a loss that diverges at the end would make the rest of the curve
    // flat.
    let (bottom, top) = ((0.8 * lowest).min(start), 1.5 * start.max(1e-3));
    let faint = super::blend(super::WHITE, super::BLUE, 0.35);
    let mut legend = vec![("loss of a step", faint), ("smoothed", super::BLUE)];
    legend.extend(suggestion.map(|_| ("suggested rate", super::ORANGE)));
    let area = &chart::headed(area, "loss against the learning rate", &legend)?;
    let mut chart = ChartBuilder::on(area)
        .margin(pixels(14))
        .x_label_area_size(pixels(44))
        .y_label_area_size(pixels(62))
        .build_cartesian_2d((first..last.max(2.0 * first)).log_scale(), bottom..top)?;
    let mut mesh = chart.configure_mesh();
    style_axes(&mut mesh, area);
    mesh.x_desc("learning rate")
        .y_desc("loss")
        .x_label_formatter(&|lr| format!("{lr:.0e}"))
        .draw()?;
    let dots =
        points.iter().map(|p| at(p, p.loss)).filter(|(_, loss)| (bottom..top).contains(loss));
    chart.draw_series(dots.map(|p| Circle::new(p, pixels(2), rgb(faint).filled())))?;
    let line = rgb(super::BLUE).stroke_width(pixels(2));
    chart.draw_series(LineSeries::new(smoothed.into_iter().filter(|p| p.1 < top), line))?;
    if let Some(lr) = suggestion {
        let (x, dash) = (f64::from(lr), rgb(super::ORANGE).stroke_width(pixels(2)));
        chart.draw_series(DashedLineSeries::new(
            [(x, bottom), (x, top)],
            pixels(6),
            pixels(6),
            dash,
        ))?;
        let (side, offset) = if x * x < first * last { (HPos::Left, 6) } else { (HPos::Right, -6) };
        let style = font(area, 16, super::ORANGE).pos(Pos::new(side, VPos::Top));
        let place = (offset * OVERSAMPLE as i32, pixels(4) as i32);
        let label = Text::new(format!("{lr:.1e}"), place, style);
        chart.draw_series([EmptyElement::at((x, top)) + label])?;
    }
    Ok(())
}
