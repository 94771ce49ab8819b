//! What a program can learn while the library works, and what the library assumes.

use std::{
    collections::BTreeSet,
    fmt,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use alexnet_core::{
    ExifOrientation, Model, Progress, StepReport, Topology,
    metrics::Evaluation,
    text::{escaped, shown_path},
    weights::Metadata,
};
use alexnet_data::loader::Loader;

use crate::{BoxError, Evaluated, RunFolder, TrainConfig, classes::listed};

/// Watches what the library does. Every method has a default that does nothing, and `()` is an observer.
pub trait Observer: Send {
    /// Something was assumed, left out or replaced.
    fn note(&mut self, note: Note) {
        let _ = note;
    }

    /// `done` of `total` are done of `work`; when they are equal the work has ended.
    fn progress(&mut self, work: Work<'_>, done: u64, total: u64) {
        let _ = (work, done, total);
    }

    /// A run is about to take its first step, or to go on.
    ///
    /// # Errors
    /// Ends the run.
    fn started(&mut self, run: &RunInfo<'_>) -> Result<(), BoxError> {
        let _ = run;
        Ok(())
    }

    /// A training step is done. `Break` stops the run here, with a checkpoint.
    fn step(&mut self, run: &RunInfo<'_>, report: &StepReport) -> ControlFlow<()> {
        let _ = (run, report);
        ControlFlow::Continue(())
    }

    /// An epoch is done, and its files are written: the last row of the run's history is new, and `evaluation` is that of its
    /// weights on the validation images.
    fn epoch(&mut self, run: &RunInfo<'_>, evaluation: &Evaluation) {
        let _ = (run, evaluation);
    }

    /// All epochs are done: `evaluated` is what the best weights say of the validation images, and `model` has these weights.
    ///
    /// # Errors
    /// Those of the program; the run is kept all the same.
    fn finished(
        &mut self,
        run: &RunInfo<'_>,
        model: &mut dyn Model,
        evaluated: &Evaluated,
    ) -> Result<(), BoxError> {
        let _ = (run, model, evaluated);
        Ok(())
    }
}

impl Observer for () {}

/// A training run as an [`Observer`] sees it.
#[derive(Clone, Copy)]
pub struct RunInfo<'a> {
    /// Its folder.
    pub folder: &'a RunFolder,
    /// Its configuration, in which nothing is left to be decided.
    pub config: &'a TrainConfig,
    /// The network.
    pub topology: &'a Topology,
    /// What its weights files say beside their parameters.
    pub metadata: &'a Metadata,
    /// Its images.
    pub loader: &'a Loader,
    /// How far it is.
    pub progress: &'a Progress,
}

/// Work that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work<'a> {
    /// An archive is unpacked; counted in bytes.
    Unpacking(&'a Path),
    /// Flowers are drawn to this folder; counted in images.
    Drawing(&'a Path),
    /// The images are looked at before training; counted in images.
    LookingAtImages,
    /// Weights are asked about images; counted in images.
    Evaluating,
}

/// Something that was assumed, left out or replaced, for the program's user to know. [`Display`](fmt::Display) gives a sentence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// No data set was named, and this folder is used.
    UsingImages {
        /// The folder.
        folder: PathBuf,
    },
    /// No data set was named and none was found: drawn flowers are used.
    UsingDrawnFlowers {
        /// Where the images would be.
        looked_in: PathBuf,
    },
    /// What was assumed about a folder of images, or left out of it.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// A clause about it.
        what: String,
    },
    /// No weights were named, or a run's folder, and this file is used.
    UsingWeights {
        /// The file.
        path: PathBuf,
    },
    /// What a weights file does not say, and what is assumed.
    Weights {
        /// The file.
        path: PathBuf,
        /// What it does not say.
        note: alexnet_interchange::Note,
    },
    /// The weights name no classes; those of the data set are taken for them.
    ClassesNamed {
        /// The data set.
        folder: PathBuf,
    },
    /// The weights know the classes of the data set in another order; the rows of the last layer were reordered.
    ClassesReordered {
        /// The weights file.
        path: PathBuf,
        /// The data set.
        folder: PathBuf,
    },
    /// The weights know other classes than the data set has; the last layer was replaced by an untrained one.
    LastLayerReplaced {
        /// Its name.
        layer: String,
        /// The weights file.
        path: PathBuf,
        /// The classes of the weights.
        known: Vec<String>,
        /// The classes of the data set.
        wanted: Vec<String>,
    },
    /// What was not configured is taken from the weights.
    TakenFromWeights {
        /// The weights file.
        path: PathBuf,
        /// The mean, if it was not configured.
        mean: Option<[f32; 3]>,
        /// The standard deviation, if it was not configured.
        std: Option<[f32; 3]>,
        /// The handling of the EXIF orientation, if it was not configured.
        exif_orientation: Option<ExifOrientation>,
    },
    /// Layers are frozen that were not trained before.
    FrozenUntrained,
    /// A run of an earlier version goes on without turning images by their EXIF orientation, as it was begun.
    OrientationIgnoredByRun,
    /// Images are not turned by their EXIF orientation, as in training.
    OrientationIgnoredAsTrained,
    /// The EXIF orientation is handled in another way than in training.
    OrientationUnlikeTraining {
        /// As it is handled now.
        asked: ExifOrientation,
        /// As it was handled in training.
        trained: ExifOrientation,
    },
    /// Images that the weights were trained on are among those that they are asked about.
    TrainedOn {
        /// How many.
        images: usize,
    },
    /// The images are split as the run was that the weights come from.
    SplitAsTheRun {
        /// `its 60 validation images`, or how many of them are there.
        what: String,
        /// Images that the run does not know.
        new: usize,
        /// Images of the run that are not there.
        missing: usize,
        /// Whether the folders here divide the images otherwise.
        folders_differ: bool,
    },
    /// Which images of a data set are used, when the run of the weights does not say.
    ImagesUsed {
        /// Why the run does not say.
        why: &'static str,
        /// How many are used.
        used: usize,
        /// How many there are.
        all: usize,
        /// What they are: `validation images`, ….
        kind: &'static str,
        /// Whether they were chosen by a split that was made now, with seed 0 and a tenth to validate.
        split_now: bool,
    },
    /// Images were added to the folder of a run since it began; they take no part in it.
    NewImages {
        /// How many.
        images: usize,
        /// The folder.
        folder: PathBuf,
    },
    /// A run goes on.
    Resuming {
        /// After this step.
        step: u64,
        /// In this epoch, from 1.
        epoch: u64,
    },
    /// A run has nothing left to do.
    NothingLeft {
        /// Its epochs.
        epochs: u64,
    },
    /// The file system has no locks: nothing keeps another process from writing to the run.
    NoLocks {
        /// The run's folder.
        folder: PathBuf,
    },
    /// An image cannot be read and was left out.
    LeftOut {
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An image was read though its file is damaged.
    Damaged {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UsingImages { folder } => write!(f, "using the images in {}", shown_path(folder)),
            Self::UsingDrawnFlowers { looked_in } => {
                write!(f, "there are no images in {}: using drawn flowers", shown_path(looked_in))
            }
            Self::Folder { folder: path, what } => write!(f, "{}: {}", shown_path(path), escaped(what)),
            Self::Weights { path, note } => write!(f, "{}: {note}", shown_path(path)),
            Self::UsingWeights { path } => write!(f, "using the weights {}", shown_path(path)),
            Self::ClassesNamed { folder } => {
                write!(f, "the classes are taken for those of {}, in alphabetical order", shown_path(folder))
            }
            Self::ClassesReordered { path, folder } => write!(
                f,
                "{} knows the classes of {} in another order; the rows of its last layer are put in this order",
                shown_path(path),
                shown_path(folder)
            ),
            Self::LastLayerReplaced { layer, path, known, wanted } => write!(
                f,
                "the last layer, `{layer}`, is replaced: {} knows the classes {}, this run {}",
                shown_path(path),
                listed(known),
                listed(wanted)
            ),
            Self::TakenFromWeights { path, mean, std, exif_orientation } => {
                let colors = |name, value: &Option<[f32; 3]>| {
                    value.map(|[r, g, b]| format!("{name} {r},{g},{b}")).into_iter()
                };
                let orientation = exif_orientation.map(|value| format!("EXIF orientation {}", value.name()));
                let taken: Vec<String> =
                    colors("mean", mean).chain(colors("std", std)).chain(orientation).collect();
                write!(f, "taken from {}: {}", shown_path(path), taken.join(", "))
            }
            Self::FrozenUntrained => {
                f.write_str("layers are frozen without weights: they stay as they were initialized")
            }
            Self::OrientationIgnoredByRun => {
                f.write_str("images are not turned by their EXIF orientation, as when the run was begun")
            }
            Self::OrientationIgnoredAsTrained => {
                f.write_str("images are not turned by their EXIF orientation, as in training")
            }
            Self::OrientationUnlikeTraining { asked, trained } => write!(
                f,
                "EXIF orientation {}, though the weights were trained with {}",
                asked.name(),
                trained.name()
            ),
            Self::TrainedOn { images } => write!(
                f,
                "warning: {images} of all have the path of an image that the weights were trained on"
            ),
            Self::SplitAsTheRun { what, new, missing, folders_differ } => {
                write!(f, "split as the run was, by the paths of the images: {what}")?;
                if *new > 0 {
                    write!(f, "; {new} images are new since, and in no subset")?;
                }
                if *missing > 0 {
                    write!(f, "; {missing} are missing")?;
                }
                if *folders_differ {
                    f.write_str("; the folders here divide them otherwise")?;
                }
                Ok(())
            }
            Self::ImagesUsed { why, used, kind, split_now: true, all } => write!(
                f,
                "{why}: {used} of {all} images, the {kind} of a split with seed 0 that leaves a tenth to validate"
            ),
            Self::ImagesUsed { why, used, all, .. } if used == all => {
                write!(f, "{why}: all {used} images are asked about")
            }
            Self::ImagesUsed { why, used, all, kind, .. } => {
                write!(f, "{why}: the {used} {kind} of {all} images are asked about")
            }
            Self::NewImages { images, folder } => write!(
                f,
                "{images} images in {} are new since the run began, and take no part in it",
                shown_path(folder)
            ),
            Self::Resuming { step, epoch } => write!(f, "going on after step {step}, in epoch {epoch}"),
            Self::NothingLeft { epochs } => write!(f, "all {epochs} epochs are done"),
            Self::NoLocks { folder } => write!(
                f,
                "the file system of {} has no locks: let no other training use it",
                shown_path(folder)
            ),
            Self::LeftOut { path, reason } => {
                write!(f, "left out: {}: {}", shown_path(path), escaped(reason))
            }
            Self::Damaged { path, what } => {
                write!(f, "damaged, but read: {}: {}", shown_path(path), escaped(what))
            }
        }
    }
}

/// Calls an observer from several threads: the progress of work that is divided.
pub(crate) fn shared<'a>(
    observer: &'a mut dyn Observer,
    work: Work<'a>,
) -> impl Fn(usize, usize) + Sync + 'a {
    let observer = Mutex::new(observer);
    move |done, total| {
        let mut observer = observer.lock().unwrap_or_else(PoisonError::into_inner);
        observer.progress(work, done as u64, total as u64);
    }
}

/// Notes about images, each once.
#[derive(Default)]
pub(crate) struct ImageNotes {
    noted: BTreeSet<PathBuf>,
}

impl ImageNotes {
    /// Notes the images that the loader left out or found damaged since the last call. An image found late can sort before the
    /// others.
    pub fn send(&mut self, loader: &Loader, observer: &mut dyn Observer) {
        for (path, reason) in self.unseen(loader.skipped()) {
            observer.note(Note::LeftOut { path, reason });
        }
        for (path, what) in self.unseen(loader.notes()) {
            observer.note(Note::Damaged { path, what });
        }
    }

    fn unseen(&mut self, found: Vec<(PathBuf, String)>) -> Vec<(PathBuf, String)> {
        found.into_iter().filter(|(path, _)| self.noted.insert(path.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_is_noted_once_in_whatever_order_they_are_found() {
        let image = |name: &str| (PathBuf::from(name), "cut".to_owned());
        let mut notes = ImageNotes::default();
        assert_eq!(notes.unseen(vec![image("m.jpg")]), [image("m.jpg")]);
        let found = vec![image("a.jpg"), image("m.jpg"), image("z.jpg")];
        assert_eq!(notes.unseen(found.clone()), [image("a.jpg"), image("z.jpg")]);
        assert_eq!(notes.unseen(found), []);
    }
}
