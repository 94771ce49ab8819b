//! What training begins with: images as batches, weights as drawn or read.

use alexnet_core::{
    ExifOrientation, Normalization, Parameters, State, Topology,
    alexnet::Variant,
    init::initialise,
    text::shown_path,
    weights::{Metadata, Weights},
};
use alexnet_data::{
    dataset::Dataset,
    loader::{DEFAULT_CACHE_BYTES, Loader, LoaderOptions},
};
use anyhow::{Result, ensure};

use crate::{classes, recipe::Setup, trained::read};

/// How images are shown to weights.
struct Shown {
    normalization: Normalization,
    exif_orientation: ExifOrientation,
}

/// The state before the first step and the images as batches. The setup gets the normalization and the EXIF orientation that both
/// go with: those of `--weights`, which is said, where it names none.
///
/// # Errors
/// When the data set makes no sense, or the weights cannot be read or are of another network.
pub fn begin(setup: &mut Setup, dataset: Dataset) -> Result<(State, Loader)> {
    let (state, known) = initial_state(setup, &dataset)?;
    say_what_comes_along(setup, &known);
    let Shown { normalization: Normalization { mean, std }, exif_orientation } = known;
    setup.model.mean.get_or_insert(mean);
    setup.model.std.get_or_insert(std);
    setup.data.exif_orientation.get_or_insert(exif_orientation.into());
    Ok((state, loader(setup, dataset)?))
}

/// Names what weights bring, as the options that would change it.
fn say_what_comes_along(setup: &Setup, known: &Shown) {
    let Setup { model, data, .. } = setup;
    let Some(path) = &model.weights else { return };
    let Shown { normalization: Normalization { mean, std }, exif_orientation } = known;
    let [mean, std] = [mean, std].map(|[r, g, b]| format!("{r},{g},{b}"));
    let along = [
        (model.mean.is_none(), "mean", mean.as_str()),
        (model.std.is_none(), "std", &std),
        (data.exif_orientation.is_none(), "exif-orientation", exif_orientation.name()),
    ];
    let along: Vec<String> = along
        .into_iter()
        .filter(|(comes, ..)| *comes)
        .map(|(_, option, value)| format!("--{option} {value}"))
        .collect();
    if !along.is_empty() {
        note!("taken from {}: `{}`", shown_path(path), along.join(" "));
    }
}

/// The images of a run that goes on as batches: its setup has the normalization.
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
        augmentation: setup.augmentation.augmentation(),
        cache_bytes: DEFAULT_CACHE_BYTES,
        on_bad_image: setup.data.on_bad_image.unwrap_or_default().into(),
        exif_orientation: setup.data.exif_orientation(),
    };
    Ok(Loader::new(dataset, options)?)
}

/// The state before the first step: drawn from the seed, or read from `--weights`, with how images are shown to them.
fn initial_state(setup: &Setup, dataset: &Dataset) -> Result<(State, Shown)> {
    let topology = setup.topology(dataset);
    let Some(path) = &setup.model.weights else {
        let shown =
            Shown { normalization: Normalization::HALF, exif_orientation: ExifOrientation::default() };
        return Ok((initialise(&topology, setup.model.init.into(), setup.seed)?, shown));
    };
    let (_, mut loaded) = read(Some(path))?;
    let found = loaded.weights.metadata.variant;
    let of = |variant: Variant| variant.topology(dataset.classes.len()).parameters();
    ensure!(
        of(found)? == of(setup.model.variant)?,
        "{} holds `{found}`, but this run is `{}`; add `--variant {found}`, or choose other weights",
        shown_path(path),
        setup.model.variant
    );
    let adopted = classes::adopt(&mut loaded, path, dataset);
    let Weights { metadata, mut parameters } = loaded.weights;
    if !adopted && let Some(last) = topology.nodes.last() {
        replace_layer(&last.name, &mut parameters, setup, &topology)?;
        note!(
            "the last layer, `{}`, is replaced: {} knows the classes {}, this run {}",
            last.name,
            shown_path(path),
            classes::listed(&metadata.classes),
            classes::listed(&dataset.classes)
        );
    }
    let state = State { parameters, ..State::default() };
    state.check(&topology)?;
    let Metadata { normalization, exif_orientation, .. } = metadata;
    Ok((state, Shown { normalization, exif_orientation }))
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
