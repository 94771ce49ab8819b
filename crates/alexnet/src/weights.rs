//! Finding and reading weights files, with notes about missing metadata.

use std::path::{Path, PathBuf};

use alexnet_interchange::Loaded;

use crate::{
    ClassNames, DataSource, Error, Note, Observer, Result, RunFolder, Selection, Split, classes,
    classes::listed,
};

/// A weights file and its content.
#[derive(Clone, Debug)]
pub struct WeightsFile {
    /// The file.
    pub path: PathBuf,
    /// Its content.
    pub loaded: Loaded,
}

impl WeightsFile {
    /// Reads weights of any format. `path` is a file, or a run folder for its best weights; `None`
    /// means the best weights of the newest run in `runs/`. Missing metadata gets defaults, which
    /// are noted.
    ///
    /// # Errors
    /// [`Error::NoWeights`], [`Error::NoBestWeights`], [`Error::Onnx`]; those of
    /// [`alexnet_interchange::load`].
    pub fn read(path: Option<&Path>, observer: &mut dyn Observer) -> Result<Self> {
        let path = locate(path, observer)?;
        let loaded = alexnet_interchange::load(&path)?;
        note_assumed(&path, &loaded, observer);
        Ok(Self { path, loaded })
    }

    /// Chooses the images to evaluate these weights on, see [`Selection::choose`]. The weights get
    /// the classes of the images, in their order. `names` replace the classes of both first.
    ///
    /// # Errors
    /// As [`Selection::choose`]; [`Error::OtherClasses`] when the classes of the weights differ;
    /// [`Error::NoClassNamed`].
    pub fn selection(
        &mut self,
        data: &DataSource,
        split: Option<Split>,
        names: Option<&ClassNames>,
        observer: &mut dyn Observer,
    ) -> Result<Selection> {
        let mut selection = Selection::choose(data, &self.path, split, observer)?;
        let Selection { dataset, .. } = &mut selection;
        if let Some(names) = names {
            names.apply(&mut self.loaded.weights.metadata.classes);
            if !names.apply(&mut dataset.classes) {
                return Err(Error::NoClassNamed {
                    path: names.path().to_owned(),
                    folder: dataset.root().to_owned(),
                });
            }
        }
        if !classes::adopt(&mut self.loaded, &self.path, dataset, observer) {
            return Err(Error::OtherClasses {
                folder: dataset.root().to_owned(),
                wanted: listed(&dataset.classes),
                path: self.path.clone(),
                known: listed(&self.loaded.weights.metadata.classes),
            });
        }
        Ok(selection)
    }
}

/// Whether the name of a file has the extension of ONNX.
pub fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// The weights file that `weights` refers to: the best of a run for its folder, the best of the
/// newest run in `runs/` for `None`.
///
/// # Errors
/// [`Error::NoWeights`], [`Error::NoBestWeights`]; [`Error::Onnx`] for ONNX, which can only be
/// written.
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

/// Notes the metadata that a file lacks.
pub fn note_assumed(path: &Path, loaded: &Loaded, observer: &mut dyn Observer) {
    for note in &loaded.notes {
        observer.note(Note::Weights { path: path.to_owned(), note: note.clone() });
    }
}
