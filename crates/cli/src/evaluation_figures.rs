//! The figures of an evaluation, written to the same folder as its report.

use std::{fs, io, path::Path};

use alexnet::{
    Evaluated,
    core::{Error, metrics::Answer},
    data::decode::decode,
};
use anyhow::Result;

use crate::figures::{self, Tile};

/// The most misclassified images shown in `misclassified.jpg`.
const SHOWN: usize = 24;
const COLUMNS: usize = 6;

/// Writes both confusion matrices, the reliability diagram, and a gallery of the misclassified
/// images with the highest confidence. If no image is misclassified, removes an older gallery.
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

    let tile = |(image, answer): (&Path, &Answer)| {
        let shown = figures::thumbnail(&decode(image, evaluated.decoding())?.image);
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        Ok(figures::answered(shown, answer, classes).with_line(name))
    };
    let tiles: Vec<Tile> = evaluated.mistakes().take(SHOWN).map(tile).collect::<Result<_>>()?;
    write_gallery(&tiles, &folder.join("misclassified.jpg"))
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
    use image::RgbImage;

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
