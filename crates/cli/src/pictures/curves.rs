//! Loss and accuracy against the epoch.

use std::ops::Range;

use alexnet_core::train::{EpochRow, Progress};
use anyhow::{Result, anyhow};
use image::{RgbImage, imageops};
use plotters::{
    coord::Shift,
    prelude::*,
    style::{
        FontStyle, register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::text::FONTS;

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 500;
/// Drawn larger and shrunk, because the library smooths neither thick lines nor the places of letters.
const OVERSAMPLE: u32 = 2;
const FONT: &str = "pictures";
/// With more epochs than this, a dot for each hides the line.
const DOTS: usize = 60;

/// A picture of 1200×500 with two panels: the losses, and the validation accuracy. The best epoch is marked in both. Numbers
/// that are not finite are left out.
pub fn curves(progress: &Progress) -> Result<RgbImage> {
    // Registering again replaces the font by itself.
    register_font(FONT, FontStyle::Normal, FONTS[0]).map_err(|_| anyhow!("the font cannot be read"))?;
    let size = (WIDTH * OVERSAMPLE, HEIGHT * OVERSAMPLE);
    let mut canvas = RgbImage::new(size.0, size.1);
    draw(&BitMapBackend::with_buffer(&mut canvas, size).into_drawing_area(), progress)?;
    Ok(imageops::resize(&canvas, WIDTH, HEIGHT, imageops::FilterType::Triangle))
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

fn draw(area: &Area, progress: &Progress) -> Result<()> {
    let series = |label, color, value: fn(&EpochRow) -> f64| Series {
        label,
        color,
        points: progress
            .history
            .iter()
            .map(|row| (row.epoch as f64, value(row)))
            .filter(|(_, value)| value.is_finite())
            .collect(),
    };
    let losses = [
        series("training", super::BLUE, |row| row.train_loss),
        series("validation", super::ORANGE, |row| row.val_loss),
    ];
    let accuracy = series("validation", super::GREEN, |row| row.accuracy);

    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally((50).percent());
    let last = progress.history.last().map_or(1, |row| row.epoch);
    let epochs = 0.5..last as f64 + 0.5;
    let highest = losses.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    let best = progress.best();
    let highest = if highest > 0.0 { highest * 1.05 } else { 1.0 };
    panel(&left, "loss", epochs.clone(), 0.0..highest, &losses, best.map(|row| (row.epoch, None)))?;
    let marked = best.map(|row| (row.epoch, Some(row.accuracy)));
    panel(&right, "validation accuracy", epochs, 0.0..1.0, &[accuracy], marked)?;
    Ok(area.present()?)
}

struct Series {
    label: &'static str,
    color: super::Color,
    points: Vec<(f64, f64)>,
}

/// One chart; `best` is the epoch to mark, with its value where it is to be written.
fn panel(
    area: &Area,
    title: &str,
    epochs: Range<f64>,
    values: Range<f64>,
    series: &[Series],
    best: Option<(u64, Option<f64>)>,
) -> Result<()> {
    let pixels = |n: u32| n * OVERSAMPLE;
    let font = |size: u32, color: super::Color| {
        (FONT, f64::from(pixels(size))).into_font().color(&rgb(color)).into_text_style(area)
    };
    let mut chart = ChartBuilder::on(area)
        .margin(pixels(14))
        .caption(title, font(22, super::INK))
        .x_label_area_size(pixels(44))
        .y_label_area_size(pixels(56))
        .build_cartesian_2d(epochs.clone(), values.clone())?;
    let whole = |epoch: &f64| match (epoch - epoch.round()).abs() < 1e-6 {
        true => format!("{epoch:.0}"),
        false => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(rgb(super::FAINT).stroke_width(OVERSAMPLE))
        .axis_style(rgb(super::MUTED).stroke_width(OVERSAMPLE))
        .label_style(font(15, super::INK))
        .axis_desc_style(font(16, super::MUTED))
        .x_desc("epoch")
        .x_label_formatter(&whole)
        .draw()?;

    for line in series {
        let style = rgb(line.color).stroke_width(pixels(2));
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(line.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + pixels(20) as i32, y)], style));
        if line.points.len() <= DOTS {
            let dot = |point: &(f64, f64)| Circle::new(*point, pixels(3), style.filled());
            chart.draw_series(line.points.iter().map(dot))?;
        }
    }

    if let Some((epoch, value)) = best {
        let (epoch, dash) = (epoch as f64, rgb(super::MUTED).stroke_width(OVERSAMPLE));
        let ends = [(epoch, values.start), (epoch, values.end)];
        chart.draw_series(DashedLineSeries::new(ends, pixels(5), pixels(5), dash))?;
        if let Some(value) = value.filter(|value| value.is_finite()) {
            chart.draw_series([Circle::new((epoch, value), pixels(6), dash.stroke_width(pixels(2)))])?;
            let (side, offset) = match epoch < (epochs.start + epochs.end) / 2.0 {
                true => (HPos::Left, 10),
                false => (HPos::Right, -10),
            };
            let anchor = Pos::new(side, VPos::Top);
            let at = EmptyElement::at((epoch, value));
            let place = (offset * OVERSAMPLE as i32, pixels(10) as i32);
            let words = format!("best: {value:.3}, epoch {epoch}");
            chart.draw_series([at + Text::new(words, place, font(16, super::INK).pos(anchor))])?;
        }
    }
    if series.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .legend_area_size(pixels(26))
            .margin(pixels(8))
            .background_style(WHITE.mix(0.85))
            .label_font(font(16, super::INK))
            .draw()?;
    }
    Ok(())
}

fn rgb(color: super::Color) -> RGBColor {
    RGBColor(color[0], color[1], color[2])
}
