//! A figure of an image and the images that are nearest to it.

use alexnet::Neighbor;
use image::RgbImage;

use super::{
    BLUE,
    grid::{Line, Tile, grid},
};

/// The most neighbors in a row.
const COLUMNS: usize = 6;

/// Draws the image at the left, and at the right the images of its neighbors, the nearest first,
/// each with its class and its distance.
pub fn neighbors(query: RgbImage, images: Vec<RgbImage>, found: &[Neighbor]) -> RgbImage {
    let columns = COLUMNS.min(found.len());
    let caption = vec![Line { text: "nearest to this image:".into(), color: BLUE }];
    let mut tiles = vec![Tile { image: Some(query), caption }];
    for (number, (image, neighbor)) in images.into_iter().zip(found).enumerate() {
        if number > 0 && number % columns == 0 {
            tiles.push(Tile::text(""));
        }
        let distance = format!("distance {:.2}", neighbor.distance);
        tiles.push(Tile::new(image, neighbor.class.clone()).with_line(distance));
    }
    grid(&tiles, columns + 1)
}

#[cfg(test)]
mod tests {
    use alexnet::data::dataset::Images;
    use image::Rgb;

    use super::*;

    #[test]
    fn the_image_is_left_of_all_rows_of_its_neighbors() {
        let tile = |red| RgbImage::from_pixel(112, 112, Rgb([red, 0, 0]));
        for (count, columns, rows) in [(2u32, 3, 1), (6, 7, 1), (8, 7, 2)] {
            let (_, items) = Images::of_files("", [("", 0)]).unwrap();
            let neighbor = |_| Neighbor {
                item: items[0],
                path: "".into(),
                class: "roses".into(),
                distance: 1.0,
            };
            let found: Vec<_> = (0..count).map(neighbor).collect();
            let figure = neighbors(tile(200), (0..count as u8).map(tile).collect(), &found);
            let (across, down) = (112 + 10, 112 + 2 * 20 + 10);
            assert_eq!(figure.dimensions(), (columns * across + 10, rows * down + 10));
            assert_eq!(figure.get_pixel(60, 60).0, [200, 0, 0]);
            for number in 0..count {
                let (x, y) = ((1 + number % 6) * across + 60, number / 6 * down + 60);
                assert_eq!(figure.get_pixel(x, y).0, [number as u8, 0, 0]);
            }
        }
    }
}
