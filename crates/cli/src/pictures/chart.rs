//! What the charts have in common.

use anyhow::{Result, anyhow};
use image::{RgbImage, imageops};
use plotters::{
    chart::MeshStyle,
    coord::{Shift, ranged1d::Ranged},
    prelude::*,
    style::{Color as _, FontStyle, register_font},
};

use super::{Color, text::FONTS};

/// Drawn larger and shrunk, because the library smooths neither thick lines nor the places of letters.
pub const OVERSAMPLE: u32 = 2;
const FONT: &str = "pictures";

/// What a chart is drawn on.
pub type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// A white picture of `width`×`height` with what `draw` draws, on an area [`OVERSAMPLE`] times as large.
pub fn chart(width: u32, height: u32, draw: impl FnOnce(&Area) -> Result<()>) -> Result<RgbImage> {
    // Registering again replaces the font by itself.
    register_font(FONT, FontStyle::Normal, FONTS[0]).map_err(|_| anyhow!("the font cannot be read"))?;
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

/// Pixels of the picture in those of the area.
pub fn pixels(n: u32) -> u32 {
    n * OVERSAMPLE
}

/// Letters of `size` pixels.
pub fn font<'a>(area: &Area, size: u32, color: Color) -> TextStyle<'a> {
    (FONT, f64::from(pixels(size))).into_font().color(&rgb(color)).into_text_style(area)
}

/// The look of axes, their ticks and their grid.
pub fn style_axes<X: Ranged, Y: Ranged, DB: DrawingBackend>(mesh: &mut MeshStyle<X, Y, DB>, area: &Area) {
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(rgb(super::FAINT).stroke_width(OVERSAMPLE))
        .axis_style(rgb(super::MUTED).stroke_width(OVERSAMPLE))
        .set_all_tick_mark_size(pixels(6))
        .label_style(font(area, 15, super::INK))
        .axis_desc_style(font(area, 16, super::MUTED));
}

/// In the library's type.
pub fn rgb(color: Color) -> RGBColor {
    RGBColor(color[0], color[1], color[2])
}
