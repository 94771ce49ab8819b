//! Draws small images of the same size side by side.

use image::{RgbImage, imageops};

use super::WHITE;

/// Pixels between two images.
const GAP: u32 = 2;
/// The least side of an image in the figure; smaller ones are enlarged by a whole factor.
const SMALLEST: u32 = 48;

/// Draws `tiles`, which have the same size, row by row.
pub fn mosaic(tiles: &[RgbImage], columns: usize) -> RgbImage {
    let (width, height) = tiles.first().map_or((0, 0), RgbImage::dimensions);
    let factor = SMALLEST.div_ceil(width.max(height).max(1));
    let (width, height) = (width * factor, height * factor);
    let columns = columns.clamp(1, tiles.len().max(1)) as u32;
    let rows = (tiles.len() as u32).div_ceil(columns);
    let side = |count: u32, extent: u32| count * (extent + GAP) + GAP;
    let mut canvas = RgbImage::from_pixel(side(columns, width), side(rows, height), WHITE);
    for (tile, index) in tiles.iter().zip(0u32..) {
        let tile = imageops::resize(tile, width, height, imageops::FilterType::Nearest);
        let (x, y) = (side(index % columns, width), side(index / columns, height));
        imageops::replace(&mut canvas, &tile, x.into(), y.into());
    }
    canvas
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn tiles_are_enlarged_and_in_order() {
        let tiles: Vec<_> = (0..5).map(|i| RgbImage::from_pixel(11, 11, Rgb([i, 0, 0]))).collect();
        let drawn = mosaic(&tiles, 3);
        assert_eq!(drawn.dimensions(), (3 * 57 + 2, 2 * 57 + 2));
        for i in 0..5u8 {
            let (x, y) = (u32::from(i) % 3 * 57 + 30, u32::from(i) / 3 * 57 + 30);
            assert_eq!(*drawn.get_pixel(x, y), Rgb([i, 0, 0]));
        }
        assert_eq!(*drawn.get_pixel(2 * 57 + 30, 57 + 30), WHITE);
        assert_eq!(mosaic(&[], 3).dimensions(), (4, 2));
    }
}
