//! Shared parts of the charts.

use anyhow::{Result, anyhow};
use image::{RgbImage, imageops};
use plotters::{
    chart::MeshStyle,
    coord::{Shift, ranged1d::Ranged},
    prelude::*,
    style::{
        Color as _, FontStyle, register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{Color, fonts::BUNDLED};

/// Charts are drawn at this factor and shrunk, because plotters does not anti-alias thick lines and
/// places letters on whole pixels.
pub const OVERSAMPLE: u32 = 2;
const FONT: &str = "figures";

/// The area that a chart is drawn on.
pub type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Returns an image of `width`×`height` pixels. `draw` draws on a white area that is [`OVERSAMPLE`]
/// times as large.
pub fn chart(width: u32, height: u32, draw: impl FnOnce(&Area) -> Result<()>) -> Result<RgbImage> {
    // Registering the same font more than once is harmless.
    register_font(FONT, FontStyle::Normal, BUNDLED[0])
        .map_err(|_| anyhow!("the font cannot be read"))?;
    let size = (width * OVERSAMPLE, height * OVERSAMPLE);
    let mut canvas = RgbImage::new(size.0, size.1);
    {
        let area = BitMapBackend::with_buffer(&mut canvas, size).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(imageops::resize(&canvas, width, height, imageops::FilterType::Triangle))
}

/// Converts a length in pixels of the figure to pixels of the area.
pub fn pixels(n: u32) -> u32 {
    n * OVERSAMPLE
}

/// Returns a text style of `size` pixels.
pub fn font<'a>(area: &Area, size: u32, color: Color) -> TextStyle<'a> {
    (FONT, f64::from(pixels(size))).into_font().color(&rgb(color)).into_text_style(area)
}

/// Draws a title and a legend below it at the upper edge of `area`. Returns the remaining area. The
/// legend is not drawn inside the chart, where it could cover the curves.
pub fn headed<'a>(area: &Area<'a>, title: &str, legend: &[(&str, Color)]) -> Result<Area<'a>> {
    const TITLE: u32 = 22;
    const LABEL: u32 = 16;
    const SWATCH: [u32; 2] = [18, 6];
    const GAP: u32 = 7;
    let (head, rest) = area.split_vertically(pixels(14 + TITLE + GAP + LABEL));
    let middle = head.dim_in_pixel().0 / 2;
    let center = Pos::new(HPos::Center, VPos::Top);
    let place = (middle as i32, pixels(14) as i32);
    head.draw(&Text::new(title, place, font(area, TITLE, super::INK).pos(center)))?;

    let style = font(area, LABEL, super::INK);
    let entry = |label: &str| {
        Ok::<_, anyhow::Error>(area.estimate_text_size(label, &style)?.0 + pixels(SWATCH[0] + GAP))
    };
    let widths = legend.iter().map(|(label, _)| entry(label)).collect::<Result<Vec<u32>>>()?;
    let between = pixels(3 * GAP);
    let all = widths.iter().sum::<u32>() + between * widths.len().saturating_sub(1) as u32;
    let (mut x, y) = (middle.saturating_sub(all / 2) as i32, pixels(14 + TITLE + GAP) as i32);
    for ((label, color), width) in legend.iter().zip(widths) {
        let [across, down] = SWATCH.map(|side| pixels(side) as i32);
        // The middle of lowercase letters is above the middle of their line.
        let top = y + (pixels(LABEL) as i32 - down) / 2 - pixels(2) as i32;
        head.draw(&Rectangle::new([(x, top), (x + across, top + down)], rgb(*color).filled()))?;
        head.draw(&Text::new(*label, (x + across + pixels(GAP) as i32, y), style.clone()))?;
        x += (width + between) as i32;
    }
    Ok(rest)
}

/// Sets the style of axes, ticks and grid.
pub fn style_axes<X: Ranged, Y: Ranged, DB: DrawingBackend>(
    mesh: &mut MeshStyle<X, Y, DB>,
    area: &Area,
) {
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(rgb(super::FAINT).stroke_width(OVERSAMPLE))
        .axis_style(rgb(super::MUTED).stroke_width(OVERSAMPLE))
        .set_all_tick_mark_size(pixels(6))
        .label_style(font(area, 15, super::INK))
        .axis_desc_style(font(area, 16, super::MUTED));
}

/// Converts a color to the type of plotters.
pub fn rgb(color: Color) -> RGBColor {
    RGBColor(color[0], color[1], color[2])
}
