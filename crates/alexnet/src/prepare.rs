//! Preparing a run: the images as batches, initialized or loaded weights, and values for open
//! settings.

use std::{collections::BTreeSet, path::Path};

use alexnet_core::{
    ExifOrientation, Normalization, Parameters, State, Topology,
    alexnet::Variant,
    ema::Ema,
    init::initialize,
    train::Batches,
    weights::{Metadata, Weights},
};
use alexnet_data::{
    dataset::Dataset,
    loader::{Loader, LoaderOptions},
};

use crate::{Error, Note, Observer, Result, TrainConfig, classes, weights::WeightsFile};

/// A complete configuration with the network, the images and the initial state.
pub struct Prepared {
    /// The configuration, without open settings.
    pub config: TrainConfig,
    /// The network.
    pub topology: Topology,
    /// The names of the parameters that are not trained.
    pub frozen: BTreeSet<String>,
    /// The images as batches.
    pub loader: Loader,
    /// The state before the first step.
    pub state: State,
}

impl Prepared {
    /// Reads or initializes the weights for a data set, and chooses values for open settings.
    /// Values taken from [`TrainConfig::weights`] are noted.
    ///
    /// # Errors
    /// When a setting is invalid, an image's path or class is invalid, or the weights cannot be
    /// read or belong to another network.
    pub fn new(
        mut config: TrainConfig,
        dataset: Dataset,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        config.check()?;
        let topology = config.variant.topology(dataset.classes.len());
        let frozen = config.frozen(&topology)?;
        let (state, preprocessing) = match config.weights.clone() {
            None => (initialize(&topology, config.init, config.seed)?, Preprocessing::default()),
            Some(path) => read_state(&config, &path, &dataset, &topology, &frozen, observer)?,
        };
        let Preprocessing {
            normalization: Normalization { mean, std },
            resize_crop,
            exif_orientation,
        } = preprocessing;
        let class_weights = config.class_weights.take();
        config.class_weights =
            class_weights.map(|weights| weights.read(&dataset.classes)).transpose()?;
        config.mean.get_or_insert(mean);
        config.std.get_or_insert(std);
        config.val_resize_crop.get_or_insert(resize_crop.unwrap_or_default());
        config.exif_orientation.get_or_insert(exif_orientation);
        let loader = loader(&config, dataset)?;
        let steps_per_epoch = loader.steps_per_epoch() as u64;
        config.model_ema_steps.get_or_insert(Ema::default_steps(steps_per_epoch));
        Ok(Self { config, topology, frozen, loader, state })
    }
}

/// The preprocessing that weights were trained with.
#[derive(Clone, Copy)]
struct Preprocessing {
    normalization: Normalization,
    resize_crop: Option<u32>,
    exif_orientation: ExifOrientation,
}

impl Default for Preprocessing {
    fn default() -> Self {
        Self {
            normalization: Normalization::HALF,
            resize_crop: None,
            exif_orientation: ExifOrientation::default(),
        }
    }
}

/// The images as batches.
///
/// # Errors
/// When the data set is invalid.
pub(crate) fn loader(config: &TrainConfig, dataset: Dataset) -> Result<Loader> {
    let [_, size, _] = config.variant.topology(dataset.classes.len()).input;
    let options = LoaderOptions {
        batch_size: config.batch_size as usize,
        accumulate: config.accumulate as usize,
        seed: config.seed,
        shuffle: config.shuffle,
        sampler: config.sampler,
        size,
        resize_crop: config.resize_crop(),
        normalization: config.normalization(),
        augmentation: config.augmentation,
        on_bad_image: config.on_bad_image,
        exif_orientation: config.exif_orientation.unwrap_or_default(),
        ..LoaderOptions::default()
    };
    let weights = config.class_weights.as_ref().map(|weights| weights.of(&dataset)).transpose()?;
    let loader = Loader::new(dataset, options)?;
    Ok(match weights {
        Some(weights) => loader.with_class_weights(weights),
        None => loader,
    })
}

/// The metadata in the weights files of a run.
pub(crate) fn metadata(config: &TrainConfig, topology: &Topology, dataset: &Dataset) -> Metadata {
    Metadata {
        variant: config.variant,
        classes: dataset.classes.clone(),
        input_size: topology.input[1],
        resize_crop: config.resize_crop(),
        normalization: config.normalization(),
        exif_orientation: config.exif_orientation.unwrap_or_default(),
        precision: config.engine.precision.unwrap_or_default(),
    }
}

/// The state in a weights file, and the preprocessing its weights were trained with.
fn read_state(
    config: &TrainConfig,
    path: &Path,
    dataset: &Dataset,
    topology: &Topology,
    frozen: &BTreeSet<String>,
    observer: &mut dyn Observer,
) -> Result<(State, Preprocessing)> {
    let WeightsFile { mut loaded, .. } = WeightsFile::read(Some(path), observer)?;
    let found = loaded.weights.metadata.variant;
    let of = |variant: Variant| variant.topology(dataset.classes.len()).parameters();
    if of(found)? != of(config.variant)? {
        return Err(Error::OtherVariant { path: path.to_owned(), found, wanted: config.variant });
    }
    let adopted = classes::adopt(&mut loaded, path, dataset, observer);
    let Weights { metadata, mut parameters } = loaded.weights;
    if !adopted && let Some(last) = topology.nodes.last() {
        replace_layer(&last.name, &mut parameters, config, topology, frozen)?;
        observer.note(Note::LastLayerReplaced {
            layer: last.name.clone(),
            path: path.to_owned(),
            known: metadata.classes,
            wanted: dataset.classes.clone(),
        });
    }
    let state = State::from(parameters);
    state.check(topology)?;
    let Metadata { normalization, resize_crop, exif_orientation, .. } = metadata;
    let taken = Note::TakenFromWeights {
        path: path.to_owned(),
        mean: config.mean.is_none().then_some(normalization.mean),
        std: config.std.is_none().then_some(normalization.std),
        resize_crop: resize_crop.filter(|_| config.val_resize_crop.is_none()),
        exif_orientation: config.exif_orientation.is_none().then_some(exif_orientation),
    };
    if !matches!(
        taken,
        Note::TakenFromWeights {
            mean: None,
            std: None,
            resize_crop: None,
            exif_orientation: None,
            ..
        }
    ) {
        observer.note(taken);
    }
    Ok((state, Preprocessing { normalization, resize_crop, exif_orientation }))
}

/// Replaces the parameters of a layer by its initial ones. The layer must not be frozen.
fn replace_layer(
    layer: &str,
    parameters: &mut Parameters,
    config: &TrainConfig,
    topology: &Topology,
    frozen: &BTreeSet<String>,
) -> Result<()> {
    let names = topology.parameters_of(layer)?;
    if !frozen.is_disjoint(&names) {
        return Err(Error::ReplacedLayerFrozen { layer: layer.to_owned() });
    }
    let initial = initialize(topology, config.init, config.seed)?.parameters;
    parameters.extend(initial.into_iter().filter(|(name, _)| names.contains(name)));
    Ok(())
}
