//! Weights ready to answer and photos to ask about: what `evaluate`, `predict` and `parity` begin with.

use std::path::{Path, PathBuf};

use alexnet_core::{
    Model, Options, State,
    weights::{Metadata, Weights},
};
use alexnet_data::split::Dataset;
use alexnet_interchange::Loaded;
use anyhow::{Result, ensure};

use crate::{dataset, engine::EngineArgs, run_folder::RunFolder};

/// A trained network on an engine.
pub struct Trained {
    /// The weights file.
    pub path: PathBuf,
    /// Variant, classes, input size, normalisation.
    pub metadata: Metadata,
    /// Whether the names of the classes are known.
    pub named: bool,
    /// The network.
    pub model: Box<dyn Model>,
}

impl Trained {
    /// Reads `weights`, or the best of the newest run, and compiles them on the engine asked for.
    ///
    /// # Errors
    /// When there are no such weights, or the engine is not here.
    pub fn load(weights: Option<&Path>, engine: &EngineArgs) -> Result<Self> {
        let (path, Loaded { weights, named, .. }) = read(weights)?;
        let (choice, backend) = engine.start()?;
        let Weights { metadata, parameters } = weights;
        let topology = metadata.variant.topology(metadata.classes.len());
        let options = Options { device: choice.device, ..Options::default() };
        let model = backend.compile(&topology, &State { parameters, ..State::default() }, &options)?;
        Ok(Self { path, metadata, named, model })
    }
}

/// Whether a file is to be ONNX, by its name.
pub fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// Reads `weights` of whatever format, or the best of the newest run, and tells where from and what is assumed of them.
///
/// # Errors
/// When there are no such weights.
pub fn read(weights: Option<&Path>) -> Result<(PathBuf, Loaded)> {
    let path = match weights {
        Some(path) => path.to_owned(),
        None => {
            let newest = RunFolder::newest_weights()?;
            note!("using the weights {}", newest.display());
            newest
        }
    };
    ensure!(
        !is_onnx(&path),
        "{} is ONNX, which `export` writes and nothing here reads; name the weights that it was made from",
        path.display()
    );
    let loaded = alexnet_interchange::load(&path)?;
    for sentence in &loaded.notes {
        note!("{}: {sentence}", path.display());
    }
    Ok((path, loaded))
}

/// The photos to try weights on: `data`, or those of the run that they come from. A run's own split is used for its own photos,
/// so that none it trained on is taken for a validation photo. Weights whose classes have no names (`named` is false) get those
/// of the photos, if they are as many.
///
/// # Errors
/// When there are no photos there, or the weights are of other classes.
pub fn photos(data: Option<&Path>, weights: &Path, metadata: &mut Metadata, named: bool) -> Result<Dataset> {
    let split = weights
        .parent()
        .and_then(Path::parent)
        .and_then(|run| RunFolder::open(run).ok())
        .map(|run| run.split());
    let known = split.filter(|split| split.is_file()).map(|split| Dataset::load(&split)).transpose()?;
    let opened = data.map(|data| dataset::open(Some(data), dataset::VAL_FRACTION, 0)).transpose()?;
    let dataset = match (opened, known) {
        (Some(opened), Some(known)) if known.root == opened.root => {
            note!("split as the run was");
            known
        }
        (Some(dataset), _) | (None, Some(dataset)) => dataset,
        (None, None) => dataset::open(None, dataset::VAL_FRACTION, 0)?,
    };
    if !named && dataset.classes.len() == metadata.classes.len() {
        note!("the classes are taken for those of {}, in alphabetical order", dataset.root.display());
        metadata.classes = dataset.classes.clone();
    }
    ensure!(
        dataset.classes == metadata.classes,
        "{} has the classes {}, but the weights {} know {}; name others with `--data` or `--weights`",
        dataset.root.display(),
        dataset.classes.join(", "),
        weights.display(),
        metadata.classes.join(", ")
    );
    Ok(dataset)
}
