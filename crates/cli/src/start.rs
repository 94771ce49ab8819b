//! What training begins with: photos as batches, weights as drawn or read.

use alexnet_core::{
    Normalization, Parameters, State, Topology, alexnet::Variant, init::initialise, weights::Weights,
};
use alexnet_data::{
    loader::{DEFAULT_CACHE_BYTES, Loader, LoaderOptions},
    split::Dataset,
};
use alexnet_interchange::Loaded;
use anyhow::{Result, ensure};

use crate::{recipe::Setup, trained::read};

/// The photos as batches.
///
/// # Errors
/// When the data set makes no sense.
pub fn loader(setup: &Setup, dataset: Dataset) -> Result<Loader> {
    let [_, size, _] = setup.topology(&dataset).input;
    let options = LoaderOptions {
        batch_size: setup.batch_size as usize,
        seed: setup.seed,
        size,
        normalization: setup.normalization(),
        policy: setup.augmentation.policy(),
        cache_bytes: DEFAULT_CACHE_BYTES,
        on_bad_image: setup.data.on_bad_image.into(),
        exif_orientation: setup.data.exif_orientation(),
    };
    Ok(Loader::new(dataset, options)?)
}

/// The state before the first step: drawn from the seed, or read from `--weights`, with the normalisation that goes with them.
///
/// # Errors
/// When the weights cannot be read or are of another network.
pub fn initial_state(setup: &Setup, dataset: &Dataset) -> Result<(State, Normalization)> {
    let topology = setup.topology(dataset);
    let Some(path) = &setup.model.weights else {
        return Ok((initialise(&topology, setup.model.init.into(), setup.seed)?, Normalization::HALF));
    };
    let (_, Loaded { weights, named, .. }) = read(Some(path))?;
    let Weights { metadata, mut parameters } = weights;
    let of = |variant: Variant| variant.topology(dataset.classes.len()).parameters();
    ensure!(
        of(metadata.variant)? == of(setup.model.variant)?,
        "{} holds `{}`, but this run is `{}`; add `--variant {1}`, or choose other weights",
        path.display(),
        metadata.variant,
        setup.model.variant
    );
    let as_many = metadata.classes.len() == dataset.classes.len();
    if !named && as_many {
        note!("the classes are taken for those of {}, in alphabetical order", dataset.root.display());
    } else if metadata.classes != dataset.classes
        && let Some(last) = topology.nodes.last()
    {
        replace_layer(&last.name, &mut parameters, setup, &topology)?;
        let classes =
            |names: &[String]| if names.len() > 8 { names.len().to_string() } else { names.join(", ") };
        note!(
            "the last layer, `{}`, is replaced: {} knows the classes {}, this run {}",
            last.name,
            path.display(),
            classes(&metadata.classes),
            classes(&dataset.classes)
        );
    }
    let state = State { parameters, ..State::default() };
    state.check(&topology)?;
    Ok((state, metadata.normalization))
}

/// Puts a layer as it is drawn into others' parameters. It has to learn.
fn replace_layer(layer: &str, parameters: &mut Parameters, setup: &Setup, topology: &Topology) -> Result<()> {
    let names = topology.parameters_of(layer)?;
    ensure!(
        setup.frozen(topology)?.is_disjoint(&names),
        "`{layer}` is replaced, because the classes are others, and cannot be frozen too; leave it out of `--freeze`"
    );
    let drawn = initialise(topology, setup.model.init.into(), setup.seed)?.parameters;
    parameters.extend(drawn.into_iter().filter(|(name, _)| names.contains(name)));
    Ok(())
}
