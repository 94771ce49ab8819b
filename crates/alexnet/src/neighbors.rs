//! The images of a data set that are nearest to an image in the space of the last hidden layer
//! (figure 4 of the paper).

mod index;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use alexnet_core::{
    Array, Backend, Error as CoreError, ExifOrientation, Images, Model, Normalization, Options,
    State,
    weights::{Weights, checksum},
};
use alexnet_data::{
    augment::views::Views,
    dataset::{Images as ImageList, Item},
    decode,
    framing::Framing,
    loader::{Loader, LoaderOptions, OnBadImage},
};
use rayon::prelude::*;

use self::index::{Index, Origin};
use crate::{
    DataSource, EngineConfig, Error, ImageSource, Note, Observer, Result, Selection, WeightsFile,
    classifier::orientation,
    observer::{ImageNotes, LoaderNotes, Work},
    preprocess::{Preprocessed, Preprocessor},
};

/// The settings of a search for neighbors.
///
/// ```no_run
/// use alexnet::NeighborSearch;
///
/// let search = NeighborSearch { weights: Some("runs/train".into()), ..NeighborSearch::default() };
/// for neighbor in search.open(&mut ())?.nearest("tulip.jpg", 6, &mut ())? {
///     println!("{:.3} {:10} {}", neighbor.distance, neighbor.class, neighbor.path.display());
/// }
/// # Ok::<(), alexnet::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct NeighborSearch {
    /// The weights file, or a run folder for its best weights; `None` means the best weights of the
    /// newest run in `runs/`.
    pub weights: Option<PathBuf>,
    /// The images to search, see [`Selection::all`].
    pub data: DataSource,
    /// Whether the EXIF or XMP orientation is applied to images; `None` means as in training.
    pub exif_orientation: Option<ExifOrientation>,
    /// The engine and its device.
    pub engine: EngineConfig,
}

/// Images with their activations in the last hidden layer.
pub struct Neighbors {
    layer: HiddenLayer,
    decoding: decode::Options,
    list: Arc<ImageList>,
    classes: Vec<String>,
    /// Sorted by path.
    images: Vec<Item>,
    /// The activations of these images, `[images, features]`.
    features: Array,
    index: PathBuf,
}

/// An image and its distance from the image that was searched for.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbor {
    /// The image in [`Neighbors::list`].
    pub item: Item,
    /// Its file.
    pub path: PathBuf,
    /// Its class.
    pub class: String,
    /// The Euclidean distance between the activations of both images.
    pub distance: f64,
}

impl NeighborSearch {
    /// Computes the activations of all images, or reads them from the index of an earlier search.
    /// Images that cannot be read are left out.
    ///
    /// The index is a file beside the weights, one for each folder of images. It is used only if
    /// the weights, the handling of the orientation, and the paths, sizes and modification times of
    /// the images are unchanged. Otherwise, or if it is damaged, it is replaced, and a note says
    /// why. If it cannot be written, a note says so.
    ///
    /// # Errors
    /// When the weights or the folder of images cannot be read; [`Error::NotFinite`] when an
    /// activation is not finite.
    pub fn open(&self, observer: &mut dyn Observer) -> Result<Neighbors> {
        let backend = self.engine.start()?;
        let WeightsFile { path, loaded } = WeightsFile::read(self.weights.as_deref(), observer)?;
        let orientation =
            orientation(self.exif_orientation, loaded.weights.metadata.exif_orientation, observer);
        let Selection { dataset, mut items } = Selection::all(&self.data, &path, observer)?;
        items.sort_by_cached_key(|item| dataset.images.path(*item));
        let (list, classes) = (Arc::clone(&dataset.images), dataset.classes.clone());
        let text = loaded.weights.metadata.to_text();
        let text = text.map_err(|error| CoreError::io("read", &path)(error.into()))?;
        let weights = checksum(&text, &loaded.weights.parameters);
        let origin = Origin::new(weights, orientation, &list, &items);
        let options = LoaderOptions {
            on_bad_image: OnBadImage::Skip,
            exif_orientation: orientation,
            ..LoaderOptions::of(&loaded.weights.metadata)
        };
        let loader = Loader::new(dataset, options)?;
        let mut layer = HiddenLayer::new(backend.as_ref(), loaded.weights, self.engine)?;

        let file = index::path(&path, list.root());
        let Index { left_out, features } = match layer.read(&file, &origin, &loader, &items) {
            Ok(Some(index)) => {
                observer.note(Note::UsingIndex { path: file.clone() });
                index
            }
            missing_or_stale => {
                if let Err(reason) = missing_or_stale {
                    observer.note(Note::IndexReplaced { path: file.clone(), reason });
                }
                let index = layer.index(&loader, &items, observer)?;
                observer.note(match index.write(&file, &origin) {
                    Ok(()) => Note::IndexWritten { path: file.clone() },
                    Err(error) => Note::IndexNotWritten { reason: error.to_string() },
                });
                index
            }
        };
        ImageNotes::default().send(LoaderNotes::of(&loader), observer);
        items.retain(|item| left_out.binary_search(&list.path(*item)).is_err());
        let decoding = loader.decoding();
        Ok(Neighbors { layer, decoding, list, classes, images: items, features, index: file })
    }
}

impl Neighbors {
    /// The images, sorted by path relative to the folder.
    pub fn images(&self) -> impl ExactSizeIterator<Item = PathBuf> {
        self.images.iter().map(|item| self.list.file(*item))
    }

    /// The images of the data set.
    pub fn list(&self) -> &ImageList {
        &self.list
    }

    /// The activations of the images, `[images, features]`, in the order of
    /// [`Neighbors::images`].
    pub fn features(&self) -> &Array {
        &self.features
    }

    /// The file of the index.
    pub fn index(&self) -> &Path {
        &self.index
    }

    /// The options for decoding image files.
    pub fn decoding(&self) -> decode::Options {
        self.decoding
    }

    /// Returns the `k` nearest images, the nearest first; images with the same distance are sorted
    /// by path. If `image` is one of the files, it is left out, which is noted, and so is a smaller
    /// number of images than `k`.
    ///
    /// # Errors
    /// [`Error::Data`] when the image cannot be read; [`CoreError::Invalid`] when `k` is 0;
    /// [`Error::NoOtherImage`]; those of the engine.
    pub fn nearest<'a>(
        &mut self,
        image: impl Into<ImageSource<'a>>,
        k: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Neighbor>> {
        if k == 0 {
            let reason = "it must be at least 1".into();
            return Err(CoreError::Invalid { field: "k", value: k.to_string(), reason }.into());
        }
        let image = image.into();
        let (decoding, views) = (self.decoding, Views::Whole);
        let preprocessor = Preprocessor { decoding, framing: self.layer.framing, views };
        let Preprocessed { pixels, damage, .. } = preprocessor.preprocess(&image)?;
        let (path, file) = match image {
            ImageSource::Path(path) => (path.clone(), fs::canonicalize(path).ok()),
            _ => ("-".into(), None),
        };
        damage.into_iter().for_each(|what| {
            observer.note(Note::Damaged { path: path.clone(), what });
        });
        let distances = distances(&self.layer.features(pixels)?, &self.features);
        let is_itself = |found: &Path| file.is_some() && fs::canonicalize(found).ok() == file;
        let mut nearest = Vec::new();
        for image in nearest_first(&distances) {
            let item = self.images[image];
            let path = self.list.file(item);
            if is_itself(&path) {
                observer.note(Note::ItselfLeftOut { path });
                continue;
            }
            let class = self.classes[self.list.class(item)].clone();
            nearest.push(Neighbor { item, path, class, distance: distances[image] });
            if nearest.len() == k {
                return Ok(nearest);
            }
        }
        if nearest.is_empty() {
            return Err(Error::NoOtherImage { folder: self.list.root().to_owned() });
        }
        observer.note(Note::FewerNeighbors { found: nearest.len() });
        Ok(nearest)
    }
}

/// Returns the Euclidean distance of `from` from each row of `features`.
fn distances(from: &[f32], features: &Array) -> Vec<f64> {
    let distance = |row: &[f32]| {
        let squares = row.iter().zip(from).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
        squares.sum::<f64>().sqrt()
    };
    features.values.par_chunks_exact(from.len()).map(distance).collect()
}

/// Returns the indices of the distances in ascending order; equal distances keep their order, which
/// is that of the paths.
fn nearest_first(distances: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..distances.len()).collect();
    order.sort_by(|a, b| distances[*a].total_cmp(&distances[*b]));
    order
}

/// A network without its last layer.
struct HiddenLayer {
    model: Box<dyn Model>,
    features: usize,
    framing: Framing,
    normalization: Normalization,
}

impl HiddenLayer {
    fn new(backend: &dyn Backend, weights: Weights, engine: EngineConfig) -> Result<Self> {
        let Weights { metadata, mut parameters } = weights;
        let topology = metadata.variant.topology(metadata.classes.len()).without_last_layer()?;
        let kept: Vec<String> = topology.parameters()?.into_iter().map(|p| p.name).collect();
        parameters.retain(|name, _| kept.contains(name));
        let options = Options { device: engine.device, ..Options::default() };
        let model = backend.compile(&topology, State::from(parameters), &options)?;
        Ok(Self {
            model,
            features: topology.classes()?,
            framing: Framing::of(&metadata),
            normalization: metadata.normalization,
        })
    }

    /// Returns the activations for a batch of preprocessed images.
    fn features(&mut self, pixels: Vec<u8>) -> Result<Vec<f32>> {
        let Self { model, framing, normalization, .. } = self;
        let (height, width) = (framing.size, framing.size);
        let images = Images { pixels, height, width, normalization: *normalization };
        let features = model.logits(&images)?.values;
        if features.iter().all(|value| value.is_finite()) {
            Ok(features)
        } else {
            Err(Error::NotFinite)
        }
    }

    /// Reads an index. Returns `None` when the file does not exist.
    ///
    /// # Errors
    /// Why it cannot be used, as a clause whose subject is the index.
    fn read(
        &self,
        file: &Path,
        origin: &Origin,
        loader: &Loader,
        items: &[Item],
    ) -> Result<Option<Index>, String> {
        let Some(index) = Index::read(file, origin, self.features)? else { return Ok(None) };
        // For example, the permissions of a file are no part of the origin.
        let images = &loader.dataset().images;
        let left_out = |item: &Item| index.left_out.contains(&images.path(*item));
        let left_out = items.iter().copied().filter(left_out);
        let left_out: Vec<Item> = left_out.collect();
        let mut batches = loader.evaluation(&left_out);
        if batches.any(|batch| batch.is_ok_and(|(readable, _)| !readable.is_empty())) {
            return Err("it lacks an image that can be read now".into());
        }
        Ok(Some(index))
    }

    /// Computes the activations of all images that can be read.
    fn index(
        &mut self,
        loader: &Loader,
        items: &[Item],
        observer: &mut dyn Observer,
    ) -> Result<Index> {
        let mut is_read = vec![false; items.len()];
        let mut values = Vec::new();
        let mut done = 0;
        for batch in loader.evaluation(items) {
            let (positions, batch) = batch?;
            done += positions.len();
            observer.progress(Work::Indexing, done as u64, items.len() as u64);
            if !positions.is_empty() {
                values.extend(self.features(batch.images.pixels)?);
            }
            positions.into_iter().for_each(|position| is_read[position] = true);
        }
        if done < items.len() {
            observer.progress(Work::Indexing, items.len() as u64, items.len() as u64);
        }
        let left_out = items.iter().zip(&is_read).filter(|(_, is_read)| !**is_read);
        let left_out: Vec<String> =
            left_out.map(|(item, _)| loader.dataset().images.path(*item)).collect();
        let shape = vec![items.len() - left_out.len(), self.features];
        Ok(Index { left_out, features: Array { shape, values } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_euclidean() {
        let features = Array { shape: vec![3, 2], values: vec![0.0, 0.0, 3.0, 4.0, 1.0, 0.0] };
        assert_eq!(distances(&[0.0, 0.0], &features), [0.0, 5.0, 1.0]);
        let none = Array { shape: vec![0, 2], values: vec![] };
        assert_eq!(distances(&[0.0, 0.0], &none), [0.0; 0]);
    }

    #[test]
    fn the_order_is_that_of_repeated_search_for_the_first_minimum() {
        // Whole numbers, so that many distances are equal.
        let values: Vec<f32> = (0..600u32).map(|i| (i * i * 31 % 7) as f32).collect();
        let features = Array { shape: vec![200, 3], values };
        let found = distances(&[2.0, 0.0, 5.0], &features);
        let mut left = found.clone();
        for image in nearest_first(&found) {
            let smallest = left.iter().copied().fold(f64::INFINITY, f64::min);
            assert_eq!(left.iter().position(|distance| *distance == smallest), Some(image));
            left[image] = f64::INFINITY;
        }
        assert!(left.iter().all(|distance| distance.is_infinite()));
    }
}
