//! What is known of weights after they were asked about images: the report of an evaluation, and its files.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use alexnet_core::{
    Error as CoreError, Model,
    files::write_atomically,
    metrics::{Answer, Evaluation, Report},
};
use alexnet_data::{decode, loader::Loader, split::Item, views::Views};
use serde::Serialize;

use crate::{
    Error, Observer, Result,
    observer::Work,
};

/// Images with the answers to them.
#[derive(Clone, Debug)]
pub struct Evaluated {
    evaluation: Evaluation,
    views: Views,
    decoding: decode::Options,
    /// The image file of each answer.
    images: Vec<PathBuf>,
    classes: Vec<String>,
}

/// All numbers of an evaluation; as JSON what the command `evaluate` prints.
#[derive(Clone, Debug, Serialize)]
pub struct EvaluationOutput {
    /// Loss, accuracy, quality by class, confusion, calibration.
    #[serde(flatten)]
    pub report: Report,
    /// Views shown of each image; more than one is test-time augmentation.
    pub views: usize,
    /// All mistakes, the most confident first.
    pub mistakes: Vec<Mistake>,
}

/// An image that was taken for something else: a row of `misclassified.csv`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mistake {
    /// The image file.
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

impl Evaluated {
    /// Asks `model`, whose classes are `classes`, about `items` of the loader's images.
    ///
    /// # Errors
    /// The first of the engine or the images; [`Error::NothingToEvaluate`] when there is no image, [`Error::NotFinite`] when an
    /// answer is not finite.
    pub fn new(
        model: &mut dyn Model,
        loader: &Loader,
        items: &[Item],
        views: Views,
        classes: &[String],
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut evaluation = Evaluation::new(classes.len());
        let mut images = vec![];
        let mut done = 0;
        for batch in loader.evaluation_views(items, views) {
            let (positions, batch) = batch?;
            done += positions.len();
            observer.progress(Work::Evaluating, done as u64, items.len() as u64);
            if batch.is_empty() {
                continue;
            }
            evaluation.add_views(&model.logits(&batch.images)?, &batch.targets, views.count());
            images.extend(positions.into_iter().map(|i| loader.dataset().root.join(&items[i].path)));
        }
        if images.is_empty() {
            return Err(Error::NothingToEvaluate);
        }
        if !evaluation.loss().is_finite() {
            return Err(Error::NotFinite);
        }
        Ok(Self { evaluation, views, decoding: loader.decoding(), images, classes: classes.to_vec() })
    }

    /// The answers, and what is measured of them.
    pub fn evaluation(&self) -> &Evaluation {
        &self.evaluation
    }

    /// The names of the classes, in the order of the logits.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How the images were decoded.
    pub fn decoding(&self) -> decode::Options {
        self.decoding
    }

    /// All numbers.
    pub fn output(&self) -> EvaluationOutput {
        let mistake = |(image, answer): (&Path, &Answer)| Mistake {
            path: image.display().to_string(),
            truth: self.classes[answer.truth].clone(),
            predicted: self.classes[answer.predicted].clone(),
            probability: answer.probability,
            probability_of_truth: answer.probability_of_truth,
        };
        EvaluationOutput {
            report: self.evaluation.report(&self.classes),
            views: self.views.count(),
            mistakes: self.mistakes().map(mistake).collect(),
        }
    }

    /// The image files with wrong answers, the most confident first.
    pub fn mistakes(&self) -> impl Iterator<Item = (&Path, &Answer)> {
        let answers = self.evaluation.answers();
        self.evaluation.mistakes().into_iter().map(|index| (self.images[index].as_path(), &answers[index]))
    }

    /// Writes `report.json`, and the mistakes as `misclassified.csv`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let output = self.output();
        let report = folder.join("report.json");
        let text = serde_json::to_vec_pretty(&output);
        let text = text.map_err(|error| CoreError::io("write", &report)(error.into()))?;
        write_atomically(report, |file| file.write_all(&text))?;
        let table = folder.join("misclassified.csv");
        Ok(write_atomically(table, |file| write_csv(file, &output.mistakes))?)
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
