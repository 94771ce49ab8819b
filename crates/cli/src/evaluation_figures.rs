//! The figures of an evaluation, written to the same folder as its report.

use std::{fs, io, path::Path};

use alexnet::{
    Evaluated,
    core::{Error, metrics::Answer},
    data::dataset::Item,
    explain::{Map, overlay},
};
use anyhow::Result;
use image::RgbImage;

use crate::figures::{self, Tile};

/// The most misclassified images shown in `misclassified.jpg`.
pub const SHOWN: usize = 24;
/// Even, so that an image and its map are in one row.
const COLUMNS: usize = 6;
/// The opacity of a map over its image.
const ALPHA: f32 = 0.5;

/// Writes both confusion matrices, the reliability diagram, and a gallery of the misclassified
/// images with the highest confidence, with their maps if there are any. If no image is
/// misclassified, removes an older gallery.
///
/// # Errors
/// If a file cannot be written, or an image can no longer be read.
pub fn write(evaluated: &Evaluated, folder: &Path) -> Result<()> {
    let (evaluation, classes) = (evaluated.evaluation(), evaluated.classes());
    let confusion = evaluation.confusion();
    let save = |figure, name| figures::save(&figure, &folder.join(name));
    save(figures::confusion_matrix(confusion, classes), "confusion_matrix.png")?;
    save(
        figures::normalized_confusion_matrix(confusion, classes),
        "confusion_matrix_normalized.png",
    )?;
    let report = evaluation.report(classes);
    save(figures::calibration(&report.calibration)?, "calibration.png")?;

    let mut maps = evaluated.maps().iter();
    let images = evaluated.images();
    let tiles = |(item, answer): (Item, &Answer)| {
        let shown = figures::thumbnail(&images.decode(item, evaluated.decoding())?.image);
        let predicted = &classes[answer.predicted];
        let map = maps.next().map(|map| map_tile(&shown, map, predicted));
        let (_, name) = images.parts(item);
        let image = figures::answered(shown, answer, classes).with_line(name);
        Ok([image].into_iter().chain(map))
    };
    let tiles = evaluated.mistakes().take(SHOWN).map(tiles).collect::<Result<Vec<_>>>()?;
    let tiles: Vec<Tile> = tiles.into_iter().flatten().collect();
    write_gallery(&tiles, &folder.join("misclassified.jpg"))
}

/// Creates a tile of the image with the map over it.
fn map_tile(image: &RgbImage, map: &Map, class: &str) -> Tile {
    let tile = Tile::new(overlay(image, map, map.max(), ALPHA), format!("Grad-CAM of {class}"));
    if map.has_positive_evidence() { tile } else { tile.with_line(figures::NO_EVIDENCE) }
}

fn write_gallery(tiles: &[Tile], gallery: &Path) -> Result<()> {
    if !tiles.is_empty() {
        return figures::save(&figures::grid(tiles, COLUMNS), gallery);
    }
    match fs::remove_file(gallery) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", gallery)(error).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gallery_is_removed_when_no_image_is_misclassified() {
        let folder = tempfile::tempdir().unwrap();
        let gallery = folder.path().join("misclassified.jpg");
        let tile = || Tile::new(RgbImage::from_pixel(256, 256, image::Rgb([60, 90, 9])), "roses");
        write_gallery(&[tile(), tile()], &gallery).unwrap();
        let (width, height) = image::image_dimensions(&gallery).unwrap();
        assert!(width > 2 * 256 && height > 256, "{width}×{height}");
        write_gallery(&[], &gallery).unwrap();
        assert!(!gallery.exists());
        write_gallery(&[], &gallery).unwrap();
    }
}
