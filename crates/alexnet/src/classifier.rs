//! Classifying images with trained weights.

use std::path::{Path, PathBuf};

use alexnet_core::{
    Device, Error as CoreError, ExifOrientation, Images, Model, Options, Parameters, State,
    metrics::ranked,
    weights::{Metadata, Weights},
};
use alexnet_data::{augment::views::Views, decode, framing::Framing, preprocess::evaluation_image};
use image::RgbImage;
use rayon::prelude::*;

use crate::{
    EngineConfig, Error, Note, Observer, Result,
    explain::{ConvLayer, Explain, Explainer, Explanation, Map},
    prediction::{ClassProbability, Prediction},
    preprocess::{ImageSource, Preprocessed, Preprocessor, read},
    weights::WeightsFile,
};

/// Images per batch.
const BATCH: usize = 32;

/// Trained weights on an engine, ready to classify images.
///
/// ```no_run
/// let mut classifier = alexnet::Classifier::load("runs/train")?;
/// for class in classifier.predict("tulip.jpg")?.top(3) {
///     println!("{:10} {:.3}", class.name, class.probability);
/// }
/// # Ok::<(), alexnet::Error>(())
/// ```
pub struct Classifier {
    path: PathBuf,
    metadata: Metadata,
    engine: EngineConfig,
    model: Box<dyn Model>,
    /// Compiled on first use.
    explainer: Option<Explainer>,
    decoding: decode::Options,
    views: Views,
    notes: Vec<Note>,
}

/// The settings of a [`Classifier`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassifierBuilder {
    engine: EngineConfig,
    exif_orientation: Option<ExifOrientation>,
    views: Views,
}

impl ClassifierBuilder {
    /// Sets the engine; the default is `cpu`.
    pub fn engine(mut self, engine: impl Into<EngineConfig>) -> Self {
        self.engine = engine.into();
        self
    }

    /// Sets the device of the engine.
    pub fn device(mut self, device: Device) -> Self {
        self.engine.device = device;
        self
    }

    /// Sets whether the EXIF or XMP orientation is applied to images; the default is as in the
    /// training of the weights.
    pub fn exif_orientation(mut self, orientation: ExifOrientation) -> Self {
        self.exif_orientation = Some(orientation);
        self
    }

    /// Sets the views of each image, over which predictions average the probabilities (test-time
    /// augmentation); the default is the whole image. Explanations are of the whole image.
    pub fn views(mut self, views: Views) -> Self {
        self.views = views;
        self
    }

    /// Loads a weights file of any format, or the best weights of a run folder.
    ///
    /// # Errors
    /// Those of [`EngineConfig::start`] and [`WeightsFile::read`].
    pub fn load(self, path: impl AsRef<Path>) -> Result<Classifier> {
        let mut notes = Notes(vec![]);
        let mut classifier = self.load_observed(Some(path.as_ref()), &mut notes)?;
        classifier.notes = notes.0;
        Ok(classifier)
    }

    /// [`ClassifierBuilder::load`] that sends notes to an observer; `None` means the best weights
    /// of the newest run in `runs/`.
    ///
    /// # Errors
    /// As [`ClassifierBuilder::load`].
    pub fn load_observed(
        self,
        path: Option<&Path>,
        observer: &mut dyn Observer,
    ) -> Result<Classifier> {
        // A missing engine is reported before a file is read.
        let backend = self.engine.start()?;
        let WeightsFile { path, loaded } = WeightsFile::read(path, observer)?;
        let Weights { metadata, parameters } = loaded.weights;
        let orientation = orientation(self.exif_orientation, metadata.exif_orientation, observer);
        let topology = metadata.variant.topology(metadata.classes.len());
        let options = Options { device: self.engine.device, ..Options::default() };
        let model = backend.compile(&topology, State::from(parameters), &options)?;
        let decoding = decode::Options { orientation, ..decode::Options::default() };
        let Self { engine, views, .. } = self;
        Ok(Classifier {
            path,
            metadata,
            engine,
            model,
            explainer: None,
            decoding,
            views,
            notes: vec![],
        })
    }
}

/// The handling of the EXIF orientation for weights that were trained with `trained`. A difference
/// from the training, and images that are not turned, are noted.
pub fn orientation(
    asked: Option<ExifOrientation>,
    trained: ExifOrientation,
    observer: &mut dyn Observer,
) -> ExifOrientation {
    match asked {
        None if trained == ExifOrientation::Ignore => {
            observer.note(Note::OrientationIgnoredAsTrained)
        }
        Some(asked) if asked != trained => {
            observer.note(Note::OrientationUnlikeTraining { asked, trained });
        }
        _ => {}
    }
    asked.unwrap_or(trained)
}

/// Returns an input of the network, `size`×`size` pixels, as an image.
fn input_image(size: usize, pixels: Vec<u8>) -> RgbImage {
    RgbImage::from_raw(size as u32, size as u32, pixels).unwrap_or_default()
}

/// Collects notes.
struct Notes(Vec<Note>);

impl Observer for Notes {
    fn note(&mut self, note: Note) {
        self.0.push(note);
    }
}

impl Classifier {
    /// Loads a weights file of any format, or the best weights of a run folder, for the engine
    /// `cpu`.
    ///
    /// # Errors
    /// Those of [`WeightsFile::read`]; [`Error::NoEngine`] when this build lacks the engine.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().load(path)
    }

    /// Chooses the engine and its device.
    ///
    /// ```no_run
    /// use alexnet::{Classifier, Engine};
    ///
    /// let classifier = Classifier::builder().engine(Engine::Candle).load("AlexNet.pth")?;
    /// assert_eq!(classifier.classes().len(), 5);
    /// # Ok::<(), alexnet::Error>(())
    /// ```
    pub fn builder() -> ClassifierBuilder {
        ClassifierBuilder::default()
    }

    /// The names of the classes, in the order of the logits.
    pub fn classes(&self) -> &[String] {
        &self.metadata.classes
    }

    /// The metadata of the weights file.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The weights file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The engine and its settings.
    pub fn engine(&self) -> EngineConfig {
        self.engine
    }

    /// The options for decoding image files.
    pub fn decoding(&self) -> decode::Options {
        self.decoding
    }

    /// What was assumed when the weights were loaded.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Classifies one image.
    ///
    /// # Errors
    /// [`Error::Data`] when it cannot be read; [`Error::NotFinite`] when a logit is not finite.
    pub fn predict<'a>(&mut self, image: impl Into<ImageSource<'a>>) -> Result<Prediction> {
        // There is one prediction per image.
        self.predict_batch([image])?.remove(0)
    }

    /// Classifies many images and returns one result per image, in their order. An image that
    /// cannot be read does not stop the others. At most 32 images are in memory at a time.
    ///
    /// # Errors
    /// Errors of the engine; errors of an image are in its own result.
    pub fn predict_batch<'a, I>(
        &mut self,
        images: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Result<Prediction>>>
    where
        I: Into<ImageSource<'a>>,
    {
        let images: Vec<ImageSource> = images.into_iter().map(Into::into).collect();
        let mut predictions = Vec::with_capacity(images.len());
        let preprocessor = self.preprocessor();
        for chunk in images.chunks((BATCH / self.views.count()).max(1)) {
            // Images are freed as soon as they are resized, so that memory does not grow with their
            // number.
            let mut results: Vec<Result<Preprocessed>> =
                chunk.par_iter().map(|image| preprocessor.preprocess(image)).collect();
            let read = results.iter_mut().flatten().map(std::mem::take).collect();
            let mut answers = self.predict_preprocessed(read)?.into_iter();
            // There is one answer per image that was read.
            let answer = |result: Result<Preprocessed>| {
                result.and_then(|_| answers.next().unwrap_or(Err(Error::NotFinite)))
            };
            predictions.extend(results.into_iter().map(answer));
        }
        Ok(predictions)
    }

    /// Returns the preprocessor of the images, which other threads can use.
    pub fn preprocessor(&self) -> Preprocessor {
        let Self { decoding, views, .. } = *self;
        Preprocessor { decoding, framing: Framing::of(&self.metadata), views }
    }

    /// Classifies preprocessed images as one batch and returns one result per image, in their
    /// order.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when an image was preprocessed for another input size; errors of the
    /// engine.
    pub fn predict_preprocessed(
        &mut self,
        images: Vec<Preprocessed>,
    ) -> Result<Vec<Result<Prediction>>> {
        if images.is_empty() {
            return Ok(vec![]);
        }
        let mut pixels = Vec::with_capacity(images.iter().map(|image| image.pixels.len()).sum());
        images.iter().for_each(|image| pixels.extend_from_slice(&image.pixels));
        let logits = self.model.logits(&self.batch(pixels))?;
        let rows: Vec<&[f32]> = logits.rows().collect();
        let answer = |(rows, image): (&[&[f32]], Preprocessed)| {
            let finite = rows.iter().all(|row| row.iter().all(|logit| logit.is_finite()));
            if finite { Ok(self.prediction(rows, image.damage)) } else { Err(Error::NotFinite) }
        };
        Ok(rows.chunks(self.views.count()).zip(images).map(answer).collect())
    }

    /// Explains which regions of an image raise the logit of a class, or for occlusion its
    /// probability.
    ///
    /// ```no_run
    /// use alexnet::{Classifier, explain::Explain};
    ///
    /// let mut classifier = Classifier::load("runs/train")?;
    /// let explanation = classifier.explain("tulip.jpg", &Explain::default())?;
    /// explanation.overlay(0.5).save("explanation.png")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// If the weights were validated with the center of images, the image of the explanation is the
    /// network's input.
    ///
    /// # Errors
    /// As [`Classifier::predict`]; [`alexnet_core::Error::Invalid`] when there is no such class;
    /// those of the engine.
    pub fn explain<'a>(
        &mut self,
        image: impl Into<ImageSource<'a>>,
        options: &Explain,
    ) -> Result<Explanation> {
        let (image, damage) = read(&image.into(), self.decoding)?;
        let framing = Framing::of(&self.metadata);
        let pixels = evaluation_image(&image, framing);
        let image = match framing.resize_crop {
            None => image,
            Some(_) => input_image(framing.size, pixels.clone()),
        };
        let (prediction, class, map) = self.explain_pixels(pixels, damage, options)?;
        let Explain { method, layer, .. } = *options;
        Ok(Explanation { prediction, class, method, layer, map, image })
    }

    /// Does the same as [`Classifier::explain`] for a preprocessed image. The image of the
    /// explanation has the size of the network's input.
    ///
    /// # Errors
    /// As [`Classifier::explain`], except those of reading the image.
    pub fn explain_preprocessed(
        &mut self,
        image: Preprocessed,
        options: &Explain,
    ) -> Result<Explanation> {
        let Preprocessed { pixels, size, damage } = image;
        let image = input_image(size, pixels.clone());
        let (prediction, class, map) = self.explain_pixels(pixels, damage, options)?;
        let Explain { method, layer, .. } = *options;
        Ok(Explanation { prediction, class, method, layer, map, image })
    }

    fn explain_pixels(
        &mut self,
        pixels: Vec<u8>,
        damage: Vec<String>,
        options: &Explain,
    ) -> Result<(Prediction, ClassProbability, Map)> {
        let input = self.batch(pixels);
        let logits = self.model.logits(&input)?;
        let row = logits.rows().next().unwrap_or_default();
        if row.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::NotFinite);
        }
        let prediction = self.prediction(&[row], damage);
        let index = options.class.unwrap_or(prediction.best().index);
        let Some(class) = prediction.classes().iter().find(|class| class.index == index).cloned()
        else {
            return Err(CoreError::Invalid {
                field: "class",
                value: index.to_string(),
                reason: format!("there are {} classes", self.metadata.classes.len()),
            }
            .into());
        };
        let map = self.explainer()?.explain(&input, index, options.method, options.layer)?;
        Ok((prediction, class, map))
    }

    /// Returns the activations of a convolutional layer for an image, after its ReLU, `[channels,
    /// height, width]`.
    ///
    /// # Errors
    /// As [`Classifier::predict`].
    pub fn activations<'a>(
        &mut self,
        image: impl Into<ImageSource<'a>>,
        layer: ConvLayer,
    ) -> Result<Map> {
        let (image, _) = read(&image.into(), self.decoding)?;
        let input = self.batch(evaluation_image(&image, Framing::of(&self.metadata)));
        self.explainer()?.activations(&input, layer)
    }

    /// Returns the parameters of the network.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn parameters(&self) -> Result<Parameters> {
        Ok(self.model.parameters()?)
    }

    /// Returns the network that explains, compiled from the parameters of the one that predicts.
    fn explainer(&mut self) -> Result<&mut Explainer> {
        let explainer = match self.explainer.take() {
            Some(explainer) => explainer,
            None => {
                let backend = self.engine.start()?;
                let topology = self.metadata.variant.topology(self.metadata.classes.len());
                let options = Options { device: self.engine.device, ..Options::default() };
                Explainer::new(backend.as_ref(), topology, self.model.parameters()?, options)?
            }
        };
        Ok(self.explainer.insert(explainer))
    }

    /// Preprocessed images as a batch.
    fn batch(&self, pixels: Vec<u8>) -> Images {
        let Metadata { input_size, normalization, .. } = self.metadata;
        Images { pixels, height: input_size, width: input_size, normalization }
    }

    /// The prediction from the logits of the views of an image.
    fn prediction(&self, views: &[&[f32]], damage: Vec<String>) -> Prediction {
        let class = |(index, probability): (usize, f64)| ClassProbability {
            name: self.metadata.classes[index].clone(),
            index,
            probability,
        };
        Prediction { classes: ranked(views).into_iter().map(class).collect(), damage }
    }
}
