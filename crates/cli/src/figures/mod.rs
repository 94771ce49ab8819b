//! The figures of a run: curves, confusion matrix, reliability diagram, labeled images. Each
//! function returns an image; [`save`] writes it.

mod annotate;
mod calibration;
mod chart;
mod confusion;
mod curves;
mod explanation;
mod fonts;
mod gallery;
mod grid;
mod lr_curve;
mod mosaic;
mod neighbors;
mod text;

use std::{
    io::{Cursor, Write},
    path::Path,
};

use alexnet::core::{files::write_atomically, text::shown_path};
use anyhow::{Context, Result};
use image::{ImageFormat, Rgb, RgbImage, codecs::jpeg::JpegEncoder};

pub use annotate::annotate;
pub use calibration::calibration;
pub use confusion::{confusion_matrix, normalized_confusion_matrix};
pub use curves::curves;
pub use explanation::{NO_EVIDENCE, explanation};
pub use gallery::gallery;
pub use grid::{Tile, answered, batch_image, grid, predictions, thumbnail, training_batch};
pub use lr_curve::lr_curve;
pub use mosaic::mosaic;
pub use neighbors::neighbors;

type Color = Rgb<u8>;

const WHITE: Color = Rgb([255, 255, 255]);
const INK: Color = Rgb([34, 48, 60]);
const MUTED: Color = Rgb([104, 117, 131]);
const FAINT: Color = Rgb([226, 231, 236]);
const BLUE: Color = Rgb([31, 95, 166]);
const ORANGE: Color = Rgb([222, 116, 40]);
const GREEN: Color = Rgb([28, 125, 72]);
const RED: Color = Rgb([196, 46, 40]);

/// Writes a figure atomically, in the format of the extension of `path`: JPEG, PNG, WebP, BMP, GIF
/// or TIFF.
pub fn save(figure: &RgbImage, path: &Path) -> Result<()> {
    if let Some(warning) = fonts::warning() {
        note!("warning: {warning}");
    }
    let bytes =
        encode(figure, path).with_context(|| format!("cannot write {}", shown_path(path)))?;
    Ok(write_atomically(path, |file| file.write_all(&bytes))?)
}

fn encode(figure: &RgbImage, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    match ImageFormat::from_path(path)? {
        // The default quality of 75 blurs text.
        ImageFormat::Jpeg => {
            figure.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 92))?
        }
        format => figure.write_to(&mut bytes, format)?,
    }
    Ok(bytes.into_inner())
}

/// Interpolates linearly from `a` to `b`.
fn blend(a: Color, b: Color, amount: f32) -> Color {
    let channel =
        |i: usize| (f32::from(a[i]) + (f32::from(b[i]) - f32::from(a[i])) * amount).round() as u8;
    Rgb([channel(0), channel(1), channel(2)])
}

/// Fills a rectangle, clipped to the canvas.
fn fill(canvas: &mut RgbImage, [x, y]: [u32; 2], [width, height]: [u32; 2], color: Color) {
    let right = x.saturating_add(width).min(canvas.width());
    let bottom = y.saturating_add(height).min(canvas.height());
    for row in y..bottom {
        for column in x..right {
            canvas.put_pixel(column, row, color);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides_the_format() {
        let folder = tempfile::tempdir().unwrap();
        let drawn = RgbImage::from_fn(8, 4, |x, _| if x < 4 { RED } else { WHITE });
        for name in ["a.png", "a.jpg", "a.JPEG", "a.webp", "a.bmp", "a.gif", "a.tiff"] {
            let path = folder.path().join(name);
            save(&drawn, &path).unwrap();
            let read = image::ImageReader::open(&path).unwrap().with_guessed_format().unwrap();
            assert_eq!(read.format(), Some(ImageFormat::from_path(&path).unwrap()));
            let read = read.decode().unwrap().into_rgb8();
            assert_eq!(read.dimensions(), (8, 4));
            if name == "a.png" {
                assert_eq!(read, drawn);
            }
        }
        let error = save(&drawn, &folder.path().join("a.txt")).unwrap_err();
        assert!(format!("{error:#}").contains("a.txt"), "{error:#}");
    }
}
