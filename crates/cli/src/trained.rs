//! Weights ready to answer and photos to ask about: what `evaluate`, `predict` and `parity` begin with.

use std::path::{Path, PathBuf};

use alexnet_core::{
    Model, Options, State,
    weights::{Metadata, Weights},
};
use alexnet_interchange::Loaded;
use anyhow::{Result, ensure};

use crate::{
    engine::EngineArgs,
    run_folder::RunFolder,
    split_for::{self, Asked, Split},
};

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
    let loaded = alexnet_interchange::load(&path)?;
    for sentence in &loaded.notes {
        note!("{}: {sentence}", path.display());
    }
    Ok((path, loaded))
}

/// The images to try weights on, see [`split_for::images`]. Weights whose classes have no names (`named` is false) get those of the
/// images, if they are as many.
///
/// # Errors
/// When there are no images there, or the weights are of other classes.
pub fn photos(
    data: Option<&Path>,
    weights: &Path,
    split: Option<Split>,
    metadata: &mut Metadata,
    named: bool,
) -> Result<Asked> {
    let asked = split_for::images(data, weights, split)?;
    let dataset = &asked.dataset;
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
    Ok(asked)
}
