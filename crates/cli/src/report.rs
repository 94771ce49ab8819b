//! What is known of weights after they were asked about photos: the report of `evaluate`, and its files.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use alexnet_core::{
    Error, Model,
    files::write_atomically,
    metrics::{Answer, Evaluation, Report},
};
use alexnet_data::{
    augment::views::Views,
    dataset::Item,
    decode::{self, decode},
    loader::Loader,
};
use anyhow::{Result, ensure};
use serde::Serialize;

use crate::{
    pictures::{self, Tile},
    progress,
};

/// Mistakes shown in `misclassified.jpg`.
const SHOWN: usize = 24;
const COLUMNS: usize = 6;

/// Photos with the answers to them.
pub struct Evaluated<'a> {
    evaluation: Evaluation,
    views: Views,
    /// How photos are read.
    decoding: decode::Options,
    /// The photo of each answer.
    photos: Vec<PathBuf>,
    classes: &'a [String],
}

/// The JSON of `evaluate`.
#[derive(Serialize)]
pub struct Everything {
    /// The numbers.
    #[serde(flatten)]
    pub report: Report,
    /// Pictures shown of each photo; more than one is test-time augmentation.
    pub views: usize,
    /// All mistakes, the most confident first.
    pub mistakes: Vec<Mistake>,
}

/// A photo that was taken for something else: a row of `misclassified.csv`.
#[derive(Debug, PartialEq, Serialize)]
pub struct Mistake {
    /// Of the photo.
    pub path: String,
    /// The true class.
    pub truth: String,
    /// The most probable class.
    pub predicted: String,
    /// Its probability.
    pub probability: f64,
    /// That of the true class.
    pub probability_of_truth: f64,
}

impl<'a> Evaluated<'a> {
    /// Asks `model`, whose classes are `classes`, about `items` of the loader's photos.
    ///
    /// # Errors
    /// The first of the engine or the photos; when there is no photo, or an answer is not finite.
    pub fn new(
        model: &mut dyn Model,
        loader: &Loader,
        items: &[Item],
        views: Views,
        classes: &'a [String],
    ) -> Result<Self> {
        let mut evaluation = Evaluation::new(classes.len());
        let mut photos = vec![];
        let (bar, mut done) = (progress::Items::new("evaluating"), 0);
        for batch in loader.evaluation_views(items, views) {
            let (positions, batch) = batch?;
            done += positions.len();
            bar.at(done, items.len());
            if batch.is_empty() {
                continue;
            }
            evaluation.add_views(&model.logits(&batch.images)?, &batch.targets, views.count());
            photos.extend(positions.into_iter().map(|i| loader.dataset().root.join(&items[i].path)));
        }
        ensure!(!photos.is_empty(), "there is no picture to evaluate on");
        ensure!(evaluation.loss().is_finite(), "the weights give no finite answer");
        Ok(Self { evaluation, views, decoding: loader.decoding(), photos, classes })
    }

    /// All that is printed as JSON.
    pub fn everything(&self) -> Everything {
        let mistake = |(photo, answer): (&Path, &Answer)| Mistake {
            path: photo.display().to_string(),
            truth: self.classes[answer.truth].clone(),
            predicted: self.classes[answer.predicted].clone(),
            probability: answer.probability,
            probability_of_truth: answer.probability_of_truth,
        };
        Everything {
            report: self.evaluation.report(self.classes),
            views: self.views.count(),
            mistakes: self.mistakes().map(mistake).collect(),
        }
    }

    /// The most confident first.
    fn mistakes(&self) -> impl Iterator<Item = (&Path, &Answer)> {
        let answers = self.evaluation.answers();
        self.evaluation.mistakes().into_iter().map(|index| (self.photos[index].as_path(), &answers[index]))
    }

    /// Writes `report.json`, both confusion matrices, the reliability diagram, and the mistakes as a table and as a gallery of the
    /// most confident, which is removed when there is none.
    ///
    /// # Errors
    /// When the disk refuses, or a photo is gone.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let everything = self.everything();
        let report = serde_json::to_vec_pretty(&everything)?;
        write_atomically(folder.join("report.json"), |file| file.write_all(&report))?;
        let table = folder.join("misclassified.csv");
        write_atomically(table, |file| write_csv(file, &everything.mistakes))?;

        let confusion = self.evaluation.confusion();
        let save = |picture, name| pictures::save(&picture, &folder.join(name));
        save(pictures::confusion_matrix(confusion, self.classes), "confusion_matrix.png")?;
        let normalized = pictures::normalized_confusion_matrix(confusion, self.classes);
        save(normalized, "confusion_matrix_normalized.png")?;
        save(pictures::calibration(&everything.report.calibration)?, "calibration.png")?;

        let gallery = folder.join("misclassified.jpg");
        if everything.mistakes.is_empty() {
            return match fs::remove_file(&gallery) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Error::io("remove", gallery)(error).into())
                }
                _ => Ok(()),
            };
        }
        let tile = |(photo, answer): (&Path, &Answer)| {
            let picture = pictures::thumbnail(&decode(photo, self.decoding)?.image);
            let name = photo.file_name().unwrap_or_default().to_string_lossy();
            Ok(pictures::answered(picture, answer, self.classes).remark(name))
        };
        let tiles: Vec<Tile> = self.mistakes().take(SHOWN).map(tile).collect::<Result<_>>()?;
        pictures::save(&pictures::grid(&tiles, COLUMNS), &gallery)
    }
}

fn write_csv(file: &mut File, mistakes: &[Mistake]) -> io::Result<()> {
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(file);
    // By hand, so that a table without rows has it too.
    csv.write_record(["path", "truth", "predicted", "probability", "probability_of_truth"])?;
    for mistake in mistakes {
        csv.serialize(mistake)?;
    }
    csv.flush()
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
