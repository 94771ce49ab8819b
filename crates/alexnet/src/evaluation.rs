//! Evaluating weights on images: the report and its files.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use alexnet_core::{
    Error as CoreError, ExifOrientation, Images, Model, Options, State,
    files::write_atomically,
    metrics::{Answer, Evaluation, Report},
    weights::Weights,
};
use alexnet_data::{
    augment::views::Views,
    dataset::{Images as ImageList, Item},
    decode,
    framing::Framing,
    loader::{Loader, LoaderOptions, OnBadImage},
    preprocess::evaluation_image,
};
use serde::Serialize;

use crate::{
    ClassNames, CorruptionReport, DataSource, EngineConfig, Error, Observer, Result, Selection,
    Split, WeightsFile,
    classifier::orientation,
    corruptions,
    explain::{Explain, Explainer, Map},
    observer::{ImageNotes, LoaderNotes, Work},
};

/// Images with the predictions for them.
#[derive(Clone, Debug)]
pub struct Evaluated {
    evaluation: Evaluation,
    views: Views,
    decoding: decode::Options,
    images: Arc<ImageList>,
    /// The image of each prediction.
    items: Vec<Item>,
    classes: Vec<String>,
    /// The Grad-CAM maps of the first mistakes.
    maps: Vec<Map>,
    corruptions: Option<CorruptionReport>,
}

/// All numbers of an evaluation. As JSON, the output of the command `evaluate`.
#[derive(Clone, Debug, Serialize)]
pub struct EvaluationOutput {
    /// Loss, accuracy, quality by class, confusion, calibration.
    #[serde(flatten)]
    pub report: Report,
    /// Views of each image; more than one is test-time augmentation.
    pub views: usize,
    /// The accuracy on corrupted images, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corruptions: Option<CorruptionReport>,
    /// All wrong predictions, the most confident first.
    pub mistakes: Vec<Mistake>,
}

/// A misclassified image: a row of `misclassified.csv`.
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
    /// The probability of the true class.
    pub probability_of_truth: f64,
}

impl Evaluated {
    /// Evaluates `model`, whose classes are `classes`, on `items` of the loader's images.
    ///
    /// # Errors
    /// The first error of the engine or the images; [`Error::NothingToEvaluate`] when there is no
    /// image, [`Error::NotFinite`] when a logit is not finite.
    pub fn new(
        model: &mut dyn Model,
        loader: &Loader,
        items: &[Item],
        views: Views,
        classes: &[String],
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut evaluation = Evaluation::new(classes.len());
        let mut evaluated = vec![];
        let mut done = 0;
        for batch in loader.evaluation_views(items, views) {
            let (positions, batch) = batch?;
            done += positions.len();
            observer.progress(Work::Evaluating, done as u64, items.len() as u64);
            if batch.is_empty() {
                continue;
            }
            evaluation.add_views(&model.logits(&batch.images)?, &batch.targets, views.count());
            evaluated.extend(positions.into_iter().map(|position| items[position]));
        }
        if evaluated.is_empty() {
            return Err(Error::NothingToEvaluate);
        }
        if !evaluation.loss().is_finite() {
            return Err(Error::NotFinite);
        }
        Ok(Self {
            evaluation,
            views,
            decoding: loader.decoding(),
            images: Arc::clone(&loader.dataset().images),
            items: evaluated,
            classes: classes.to_vec(),
            maps: vec![],
            corruptions: None,
        })
    }

    /// The predictions and the metrics.
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
        let mistake = |(item, answer): (Item, &Answer)| Mistake {
            path: self.images.file(item).display().to_string(),
            truth: self.classes[answer.truth].clone(),
            predicted: self.classes[answer.predicted].clone(),
            probability: answer.probability,
            probability_of_truth: answer.probability_of_truth,
        };
        EvaluationOutput {
            report: self.evaluation.report(&self.classes),
            views: self.views.count(),
            corruptions: self.corruptions.clone(),
            mistakes: self.mistakes().map(mistake).collect(),
        }
    }

    /// The images that the evaluated ones are of.
    pub fn images(&self) -> &ImageList {
        &self.images
    }

    /// The misclassified images, the most confident first.
    pub fn mistakes(&self) -> impl Iterator<Item = (Item, &Answer)> {
        let answers = self.evaluation.answers();
        self.evaluation.mistakes().into_iter().map(|index| (self.items[index], &answers[index]))
    }

    /// The Grad-CAM maps of the predicted classes of the first [`Evaluated::mistakes`], see
    /// [`Evaluator::explained_mistakes`].
    pub fn maps(&self) -> &[Map] {
        &self.maps
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
    // Written explicitly, so that a table without rows has a header.
    csv.write_record(["path", "truth", "predicted", "probability", "probability_of_truth"])?;
    for mistake in mistakes {
        csv.serialize(mistake)?;
    }
    csv.flush()
}

/// The settings of an evaluation.
///
/// ```no_run
/// use alexnet::Evaluator;
///
/// let evaluator = Evaluator { weights: Some("runs/train".into()), ..Evaluator::default() };
/// let report = evaluator.run(&mut ())?.output().report;
/// println!("accuracy {:.3} on {} images", report.top1, report.images);
/// # Ok::<(), alexnet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Evaluator {
    /// The weights file, or a run folder for its best weights; `None` means the best weights of the
    /// newest run in `runs/`.
    pub weights: Option<PathBuf>,
    /// The images; by default those of the run that the weights come from.
    pub data: DataSource,
    /// The subset of the images, see [`Selection::choose`].
    pub split: Option<Split>,
    /// A file of names for the classes, see [`ClassNames::read`].
    pub class_names: Option<PathBuf>,
    /// The views of each image that the network evaluates.
    pub views: Views,
    /// Whether the accuracy on corrupted images is measured too, with one view of each.
    pub corruptions: bool,
    /// Views per batch.
    pub batch_size: usize,
    /// What happens when an image cannot be read.
    pub on_bad_image: OnBadImage,
    /// Whether the EXIF or XMP orientation is applied to images; `None` means as in training.
    pub exif_orientation: Option<ExifOrientation>,
    /// The number of mistakes, the most confident first, whose predicted classes are explained by
    /// Grad-CAM. The maps are those of the first view of [`Views::Whole`], also if there are more
    /// views.
    pub explained_mistakes: usize,
    /// The engine and its device.
    pub engine: EngineConfig,
}

impl Default for Evaluator {
    fn default() -> Self {
        Self {
            weights: None,
            data: DataSource::default(),
            split: None,
            class_names: None,
            views: Views::default(),
            corruptions: false,
            batch_size: 32,
            on_bad_image: OnBadImage::default(),
            exif_orientation: None,
            explained_mistakes: 0,
            engine: EngineConfig::default(),
        }
    }
}

impl Evaluator {
    /// Evaluates the weights on the images.
    ///
    /// # Errors
    /// When weights or images cannot be read, or their classes differ.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Evaluated> {
        let backend = self.engine.start()?;
        let mut file = WeightsFile::read(self.weights.as_deref(), observer)?;
        let names = self.class_names.as_deref().map(ClassNames::read).transpose()?;
        let Selection { dataset, items } =
            file.selection(&self.data, self.split, names.as_ref(), observer)?;
        let Weights { metadata, parameters } = file.loaded.weights;
        let topology = metadata.variant.topology(metadata.classes.len());
        let options = Options { device: self.engine.device, ..Options::default() };
        let mut model = backend.compile(&topology, State::from(parameters), &options)?;
        let loading = LoaderOptions {
            batch_size: self.batch_size,
            on_bad_image: self.on_bad_image,
            exif_orientation: orientation(
                self.exif_orientation,
                metadata.exif_orientation,
                observer,
            ),
            ..LoaderOptions::of(&metadata)
        };
        let loader = Loader::new(dataset, loading)?;
        let mut evaluated = Evaluated::new(
            model.as_mut(),
            &loader,
            &items,
            self.views,
            &metadata.classes,
            observer,
        )?;
        if self.corruptions {
            let classes = metadata.classes.len();
            let report = corruptions::evaluate(model.as_mut(), &loader, &items, classes, observer)?;
            evaluated.corruptions = Some(report);
        }
        ImageNotes::default().send(LoaderNotes::of(&loader), observer);
        if self.explained_mistakes > 0 {
            let parameters = model.parameters()?;
            drop(model);
            let mut explainer = Explainer::new(backend.as_ref(), topology, parameters, options)?;
            let mistakes = evaluated.mistakes().take(self.explained_mistakes);
            let map = |(item, answer): (Item, &Answer)| {
                let image = evaluated.images.decode(item, evaluated.decoding)?.image;
                let (height, width) = (metadata.input_size, metadata.input_size);
                let pixels = evaluation_image(&image, Framing::of(&metadata));
                let input = Images { pixels, height, width, normalization: metadata.normalization };
                let Explain { method, layer, .. } = Explain::default();
                explainer.explain(&input, answer.predicted, method, layer)
            };
            evaluated.maps = mistakes.map(map).collect::<Result<_>>()?;
        }
        Ok(evaluated)
    }
}

#[cfg(test)]
mod tests {
    use alexnet_core::Logits;

    use super::*;

    /// Four images with right or wrong predictions, whose logits have this difference.
    fn evaluated(answers: [(bool, f32); 4]) -> Evaluated {
        let mut evaluation = Evaluation::new(2);
        for (right, difference) in answers {
            let target = if right { [1.0, 0.0] } else { [0.0, 1.0] };
            evaluation.add(&Logits { values: vec![difference, 0.0], classes: 2 }, &target);
        }
        let names = (0..4).map(|index| (format!("{index}.png"), 0));
        let (images, items) = ImageList::of_files("", names).unwrap();
        Evaluated {
            evaluation,
            views: Views::Whole,
            decoding: decode::Options::default(),
            images: Arc::new(images),
            items,
            classes: ["daisy", "roses"].map(String::from).to_vec(),
            maps: vec![],
            corruptions: None,
        }
    }

    #[test]
    fn mistakes_are_listed_the_most_confident_first_until_there_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let rows = || -> Vec<String> {
            let text = std::fs::read_to_string(folder.path().join("misclassified.csv")).unwrap();
            text.lines().map(String::from).collect()
        };
        evaluated([(false, 1.0), (true, 3.0), (false, 2.0), (true, 3.0)])
            .write(folder.path())
            .unwrap();
        let some = rows();
        assert_eq!(some[0], "path,truth,predicted,probability,probability_of_truth");
        assert_eq!(some.len(), 3);
        assert!(
            some[1].starts_with("2.png,roses,daisy,0.")
                && some[2].starts_with("0.png,roses,daisy,0.")
        );
        evaluated([(true, 1.0); 4]).write(folder.path()).unwrap();
        assert_eq!(rows(), some[..1]);
    }
}
