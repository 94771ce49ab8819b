//! The pictures of an evaluation, beside its report.

use std::{fs, io, path::Path};

use alexnet::{
    Evaluated,
    core::{Error, metrics::Answer},
    data::decode::decode,
};
use anyhow::Result;

use crate::pictures::{self, Tile};

/// Mistakes shown in `misclassified.jpg`.
const SHOWN: usize = 24;
const COLUMNS: usize = 6;

/// Writes both confusion matrices, the reliability diagram, and a gallery of the most confident mistakes, which is removed when there
/// is none.
///
/// # Errors
/// When the disk refuses, or an image is gone.
pub fn write(evaluated: &Evaluated, folder: &Path) -> Result<()> {
    let (evaluation, classes) = (evaluated.evaluation(), evaluated.classes());
    let confusion = evaluation.confusion();
    let save = |picture, name| pictures::save(&picture, &folder.join(name));
    save(pictures::confusion_matrix(confusion, classes), "confusion_matrix.png")?;
    save(pictures::normalized_confusion_matrix(confusion, classes), "confusion_matrix_normalized.png")?;
    let report = evaluation.report(classes);
    save(pictures::calibration(&report.calibration)?, "calibration.png")?;

    let tile = |(image, answer): (&Path, &Answer)| {
        let picture = pictures::thumbnail(&decode(image, evaluated.decoding())?.image);
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        Ok(pictures::answered(picture, answer, classes).remark(name))
    };
    let tiles: Vec<Tile> = evaluated.mistakes().take(SHOWN).map(tile).collect::<Result<_>>()?;
    write_gallery(&tiles, &folder.join("misclassified.jpg"))
}

fn write_gallery(tiles: &[Tile], gallery: &Path) -> Result<()> {
    if !tiles.is_empty() {
        return pictures::save(&pictures::grid(tiles, COLUMNS), gallery);
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
    use alexnet_core::Logits;
    use image::RgbImage;

    use super::*;

    const CLASSES: [&str; 2] = ["daisy", "roses"];

    fn classes() -> Vec<String> {
        CLASSES.map(String::from).to_vec()
    }

    /// Four pictures, and how each is answered: right or wrong, with logits of this difference.
    fn evaluated<'a>(folder: &Path, answers: [(bool, f32); 4], classes: &'a [String]) -> Evaluated<'a> {
        let mut evaluation = Evaluation::new(2);
        let mut photos = vec![];
        for (index, (right, difference)) in (0..).zip(answers) {
            let photo = folder.join(format!("{index}.png"));
            RgbImage::from_pixel(400, 300, image::Rgb([60 * index, 90, 9])).save(&photo).unwrap();
            photos.push(photo);
            let target = if right { [1.0, 0.0] } else { [0.0, 1.0] };
            evaluation.add(&Logits { values: vec![difference, 0.0], classes: 2 }, &target);
        }
        Evaluated { evaluation, views: Views::Whole, decoding: decode::Options::default(), photos, classes }
    }

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(String::from).collect()
    }

    #[test]
    fn mistakes_are_shown_until_there_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let classes = classes();
        let photos = tempfile::tempdir().unwrap();
        let name = |index: u8| photos.path().join(format!("{index}.png")).display().to_string();
        let [table, gallery] =
            ["misclassified.csv", "misclassified.jpg"].map(|file| folder.path().join(file));

        let some = [(false, 1.0), (true, 3.0), (false, 2.0), (true, 3.0)];
        evaluated(photos.path(), some, &classes).write(folder.path()).unwrap();
        let rows = lines(&table);
        assert_eq!(rows[0], "path,truth,predicted,probability,probability_of_truth");
        let starts = [2, 0].map(|index| format!("{},roses,daisy,0.", name(index)));
        assert_eq!(rows.len(), 3);
        assert!(rows[1..].iter().zip(starts).all(|(row, start)| row.starts_with(&start)), "{rows:?}");
        let (width, height) = image::image_dimensions(&gallery).unwrap();
        assert!(width > 2 * 256 && height > 256, "{width}×{height}");

        evaluated(photos.path(), [(true, 1.0); 4], &classes).write(folder.path()).unwrap();
        assert_eq!(lines(&table), rows[..1]);
        assert!(!gallery.exists());
    }
}
