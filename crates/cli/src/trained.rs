//! Weights ready to answer: what `evaluate` and `predict` begin with.

use std::path::{Path, PathBuf};

use alexnet_core::{
    Model, Options, State,
    weights::{Metadata, Weights},
};
use anyhow::Result;

use crate::{engine::EngineArgs, run_folder::RunFolder};

/// A trained network on an engine.
pub struct Trained {
    /// The weights file.
    pub path: PathBuf,
    /// Variant, classes, input size, normalisation.
    pub metadata: Metadata,
    /// The network.
    pub model: Box<dyn Model>,
}

impl Trained {
    /// Reads `weights`, or the best of the newest run, and compiles them on the engine asked for.
    ///
    /// # Errors
    /// When there are no such weights, or the engine is not here.
    pub fn load(weights: Option<&Path>, engine: &EngineArgs) -> Result<Self> {
        let path = match weights {
            Some(path) => path.to_owned(),
            None => {
                let newest = RunFolder::newest_weights()?;
                note!("using the weights {}", newest.display());
                newest
            }
        };
        let Weights { metadata, parameters } = Weights::load(&path)?;
        let backend = engine.start()?;
        let topology = metadata.variant.topology(metadata.classes.len());
        let options = Options { device: engine.device, ..Options::default() };
        let model = backend.compile(&topology, &State { parameters, ..State::default() }, &options)?;
        Ok(Self { path, metadata, model })
    }
}
