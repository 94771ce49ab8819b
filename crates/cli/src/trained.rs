//! Weights ready to answer and photos to ask about: what `evaluate`, `predict` and `parity` begin with.

use std::path::{Path, PathBuf};

use alexnet_core::{
    Backend, Model, Options, State,
    text::shown_path,
    weights::{Metadata, Weights},
};
use alexnet_interchange::{Loaded, Note};
use anyhow::{Result, ensure};

use crate::{
    classes,
    engine::{Choice, EngineArgs},
    run_folder::RunFolder,
    split_for::{self, Asked, Wanted},
};

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
        let engine = engine.start()?;
        let (path, loaded) = read(weights)?;
        Self::compile(path, loaded, engine)
    }

    /// The same of weights that were read and an engine that was started.
    ///
    /// # Errors
    /// When the engine cannot take them.
    pub fn compile(path: PathBuf, loaded: Loaded, engine: (Choice, Box<dyn Backend>)) -> Result<Self> {
        let Weights { metadata, parameters } = loaded.weights;
        let (choice, backend) = engine;
        let topology = metadata.variant.topology(metadata.classes.len());
        let options = Options { device: choice.device, ..Options::default() };
        let model = backend.compile(&topology, &State { parameters, ..State::default() }, &options)?;
        Ok(Self { path, metadata, model })
    }
}

/// Whether a file is to be ONNX, by its name.
pub fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// Reads `weights` of whatever format, or the best of the newest run, and says where from and what is assumed of them.
///
/// # Errors
/// When there are no such weights.
pub fn read(weights: Option<&Path>) -> Result<(PathBuf, Loaded)> {
    let path = locate(weights)?;
    let loaded = alexnet_interchange::load(&path)?;
    note_assumed(&path, &loaded);
    Ok((path, loaded))
}

/// The file that `weights` stand for: for the folder of a run its best, without any the best of the newest run.
///
/// # Errors
/// When there is none, or one that is only written.
pub fn locate(weights: Option<&Path>) -> Result<PathBuf> {
    let path = match weights {
        Some(folder) if folder.is_dir() => {
            let best = RunFolder::weights_in(folder)?;
            note!("using the weights {}", shown_path(&best));
            best
        }
        Some(path) => path.to_owned(),
        None => {
            let newest = RunFolder::newest_weights()?;
            note!("using the weights {}", shown_path(&newest));
            newest
        }
    };
    ensure!(
        !is_onnx(&path),
        "{} is ONNX, which `export` writes and nothing here reads; name the weights that it was made from",
        shown_path(&path)
    );
    Ok(path)
}

/// Says what a file leaves open.
pub fn note_assumed(path: &Path, loaded: &Loaded) {
    for note in &loaded.notes {
        let next = match note {
            Note::SameShapes { other } => format!("; `convert --variant {other}` makes it that"),
            _ => String::new(),
        };
        note!("{}: {note}{next}", shown_path(path));
    }
}

/// The images to try weights on, see [`split_for::images`]. The weights get the classes of the images, see [`classes::adopt`].
///
/// # Errors
/// When there are no images there, or the weights are of other classes.
pub fn photos(data: Option<&Path>, weights: &Path, wanted: Wanted, loaded: &mut Loaded) -> Result<Asked> {
    let asked = split_for::images(data, weights, wanted)?;
    let dataset = &asked.dataset;
    ensure!(
        classes::adopt(loaded, weights, dataset),
        "{} has the classes {}, but the weights {} know {}; name others with `--data` or `--weights`",
        shown_path(&dataset.root),
        classes::listed(&dataset.classes),
        shown_path(weights),
        classes::listed(&loaded.weights.metadata.classes)
    );
    Ok(asked)
}
