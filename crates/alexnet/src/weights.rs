//! Weights files: finding and reading them, and what they assume.

use std::path::{Path, PathBuf};

use alexnet_interchange::Loaded;

use crate::{DataSource, Error, Note, Observer, Result, RunFolder, Split, Subset, classes, classes::listed};

/// A weights file that was read.
#[derive(Clone, Debug)]
pub struct WeightsFile {
    /// The file.
    pub path: PathBuf,
    /// Its content.
    pub loaded: Loaded,
}

impl WeightsFile {
    /// Reads weights of any format: `path` is a file, or the folder of a run for its best weights; without one the best of the
    /// newest run in `runs/` are read. What the file does not say is assumed and noted.
    ///
    /// # Errors
    /// [`Error::NoWeights`], [`Error::NoBestWeights`], [`Error::Onnx`]; those of [`alexnet_interchange::load`].
    pub fn read(path: Option<&Path>, observer: &mut dyn Observer) -> Result<Self> {
        let path = locate(path, observer)?;
        let loaded = alexnet_interchange::load(&path)?;
        note_assumed(&path, &loaded, observer);
        Ok(Self { path, loaded })
    }

    /// The images to ask these weights about, see [`Subset::choose`]. The weights get the classes of the images, in their order.
    ///
    /// # Errors
    /// As [`Subset::choose`]; [`Error::OtherClasses`] when the weights are of other classes.
    pub fn subset(
        &mut self,
        data: &DataSource,
        split: Option<Split>,
        observer: &mut dyn Observer,
    ) -> Result<Subset> {
        let subset = Subset::choose(data, &self.path, split, observer)?;
        let Subset { dataset, .. } = &subset;
        if !classes::adopt(&mut self.loaded, &self.path, dataset, observer) {
            return Err(Error::OtherClasses {
                folder: dataset.root.clone(),
                wanted: listed(&dataset.classes),
                path: self.path.clone(),
                known: listed(&self.loaded.weights.metadata.classes),
            });
        }
        Ok(subset)
    }
}

/// Whether a file is to be ONNX, by its name.
pub fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// The file that `weights` stand for: for the folder of a run its best, without any the best of the newest run in `runs/`.
///
/// # Errors
/// [`Error::NoWeights`], [`Error::NoBestWeights`]; [`Error::Onnx`] for a format that is only written.
pub fn locate(weights: Option<&Path>, observer: &mut dyn Observer) -> Result<PathBuf> {
    let path = match weights {
        Some(file) if !file.is_dir() => file.to_owned(),
        folder => {
            let path = match folder {
                Some(folder) => RunFolder::weights_in(folder)?,
                None => RunFolder::newest_weights()?,
            };
            observer.note(Note::UsingWeights { path: path.clone() });
            path
        }
    };
    if is_onnx(&path) {
        return Err(Error::Onnx { path });
    }
    Ok(path)
}

/// Notes what a file does not say.
pub fn note_assumed(path: &Path, loaded: &Loaded, observer: &mut dyn Observer) {
    for note in &loaded.notes {
        observer.note(Note::Weights { path: path.to_owned(), note: note.clone() });
    }
}
