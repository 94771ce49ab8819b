//! What the library assumes, leaves out or replaces.

use std::{fmt, path::PathBuf};

use alexnet_core::{
    ExifOrientation,
    text::{escaped, shown, shown_path},
};

use crate::split::Split;

/// The most names of classes in a line.
const MOST_LISTED: usize = 20;

/// Something that was assumed, left out or replaced, which users should know.
/// [`Display`](fmt::Display) gives a sentence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// No data set was given, and this folder is used.
    UsingImages {
        /// The folder.
        folder: PathBuf,
    },
    /// No data set was given and none was found: drawn flowers are used.
    UsingDrawnFlowers {
        /// The folder that was searched.
        looked_in: PathBuf,
    },
    /// An assumption about a folder of images, or files that were left out.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// A clause about it.
        what: String,
    },
    /// A share for validation was given, but the folder has its own validation images.
    ShareUnused {
        /// The folder.
        folder: PathBuf,
    },
    /// No weights file was given, or a run folder, and this file is used.
    UsingWeights {
        /// The file.
        path: PathBuf,
    },
    /// Metadata that a weights file lacks, and the default used instead.
    Weights {
        /// The file.
        path: PathBuf,
        /// The missing metadata.
        note: alexnet_interchange::Note,
    },
    /// The weights have no names of classes; the classes of the data set are assumed.
    ClassesNamed {
        /// The data set.
        folder: PathBuf,
    },
    /// The weights have the classes of the data set in another order; the rows of the last layer
    /// were reordered.
    ClassesReordered {
        /// The weights file.
        path: PathBuf,
        /// The data set.
        folder: PathBuf,
    },
    /// The classes of the weights and of the data set differ; the last layer was replaced by an
    /// untrained one.
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
    /// Settings that were open are taken from the weights.
    TakenFromWeights {
        /// The weights file.
        path: PathBuf,
        /// The mean, if it was open.
        mean: Option<[f32; 3]>,
        /// The standard deviation, if it was open.
        std: Option<[f32; 3]>,
        /// The resized shorter side in validation, if it was open and the weights have one.
        resize_crop: Option<u32>,
        /// The handling of the EXIF orientation, if it was open.
        exif_orientation: Option<ExifOrientation>,
    },
    /// Layers are frozen although no weights were given for them.
    FrozenUntrained,
    /// A resumed run of an earlier version does not apply the EXIF orientation of images, as
    /// before.
    OrientationIgnoredByRun,
    /// The EXIF orientation of images is not applied, as in training.
    OrientationIgnoredAsTrained,
    /// The EXIF orientation is handled differently than in training.
    OrientationUnlikeTraining {
        /// The handling now.
        asked: ExifOrientation,
        /// The handling in training.
        trained: ExifOrientation,
    },
    /// Some of the images to evaluate were training images.
    TrainedOn {
        /// How many.
        images: usize,
    },
    /// The run that the weights belong to has no validation images, and other images of it are
    /// evaluated.
    NoValidationImages {
        /// These images.
        instead: Split,
    },
    /// The images are split as in the run that the weights belong to.
    SplitAsTheRun {
        /// `its 60 validation images`, or how many of them exist.
        what: String,
        /// Images that do not belong to the run.
        new: usize,
        /// Images of the run that are missing.
        missing: usize,
        /// Whether the folders here split the images differently.
        folders_differ: bool,
    },
    /// The images that are used, when no split of a run applies.
    ImagesUsed {
        /// Why no split of a run applies.
        why: &'static str,
        /// How many are used.
        used: usize,
        /// How many there are.
        all: usize,
        /// Their kind: `validation images`, ….
        kind: &'static str,
        /// Whether they were chosen by a new split with seed 0 and a tenth for validation.
        split_now: bool,
    },
    /// Images were added to the folder since the run started; the run does not use them.
    NewImages {
        /// How many.
        images: usize,
        /// The folder.
        folder: PathBuf,
    },
    /// A run is resumed.
    Resuming {
        /// After this step.
        step: u64,
        /// In this epoch, from 1.
        epoch: u64,
    },
    /// A run ends before its last epoch, because the validation accuracy has not increased.
    EndedEarly {
        /// The completed epochs.
        done: u64,
        /// The epochs that were requested.
        epochs: u64,
        /// The epochs without an increase.
        patience: u64,
    },
    /// All epochs of a run are complete.
    NothingLeft {
        /// Its epochs.
        epochs: u64,
    },
    /// The file system has no locks, so another process could write to the same run.
    NoLocks {
        /// The run's folder.
        folder: PathBuf,
    },
    /// The index of an earlier search for neighbors is used.
    UsingIndex {
        /// The file.
        path: PathBuf,
    },
    /// The index of an earlier search for neighbors cannot be used and is replaced.
    IndexReplaced {
        /// The file.
        path: PathBuf,
        /// Why, as a clause whose subject is the index.
        reason: String,
    },
    /// An index was written.
    IndexWritten {
        /// The file.
        path: PathBuf,
    },
    /// An index could not be written, so the next search has to compute it again.
    IndexNotWritten {
        /// Why.
        reason: String,
    },
    /// The image whose neighbors are searched belongs to the images to search, and is left out.
    ItselfLeftOut {
        /// Its file among them.
        path: PathBuf,
    },
    /// There are fewer neighbors than requested.
    FewerNeighbors {
        /// How many.
        found: usize,
    },
    /// An image cannot be read and was left out.
    LeftOut {
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An image was read although its file is damaged.
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
            Self::Folder { folder: path, what } => {
                write!(f, "{}: {}", shown_path(path), escaped(what))
            }
            Self::ShareUnused { folder } => write!(
                f,
                "{}: the share for validation has no effect, because the folder has its own validation images",
                shown_path(folder)
            ),
            Self::Weights { path, note } => write!(f, "{}: {note}", shown_path(path)),
            Self::UsingWeights { path } => write!(f, "using the weights {}", shown_path(path)),
            Self::ClassesNamed { folder } => {
                write!(
                    f,
                    "the classes are assumed to be those of {}, in alphabetical order",
                    shown_path(folder)
                )
            }
            Self::ClassesReordered { path, folder } => write!(
                f,
                "{} has the classes of {} in another order; the rows of its last layer are reordered",
                shown_path(path),
                shown_path(folder)
            ),
            Self::LastLayerReplaced { layer, path, known, wanted } => write!(
                f,
                "the last layer, `{layer}`, is replaced: {} has the classes {}, this run {}",
                shown_path(path),
                listed(known),
                listed(wanted)
            ),
            Self::TakenFromWeights { path, mean, std, resize_crop, exif_orientation } => {
                let colors = |name, value: &Option<[f32; 3]>| {
                    value.map(|[r, g, b]| format!("{name} {r},{g},{b}")).into_iter()
                };
                let orientation =
                    exif_orientation.map(|value| format!("EXIF orientation {}", value.name()));
                let resize_crop = resize_crop.map(|side| format!("validation resize {side}"));
                let taken: Vec<String> = colors("mean", mean)
                    .chain(colors("std", std))
                    .chain(resize_crop)
                    .chain(orientation)
                    .collect();
                write!(f, "taken from {}: {}", shown_path(path), taken.join(", "))
            }
            Self::FrozenUntrained => {
                f.write_str("layers are frozen without weights: they keep their initial values")
            }
            Self::OrientationIgnoredByRun => {
                f.write_str("the EXIF orientation of images is not applied, as in this run so far")
            }
            Self::OrientationIgnoredAsTrained => {
                f.write_str("the EXIF orientation of images is not applied, as in training")
            }
            Self::OrientationUnlikeTraining { asked, trained } => write!(
                f,
                "EXIF orientation {}, although the weights were trained with {}",
                asked.name(),
                trained.name()
            ),
            Self::TrainedOn { images } => write!(
                f,
                "warning: {images} of these images have the path of a training image of the weights"
            ),
            Self::NoValidationImages { instead } => {
                write!(
                    f,
                    "the run has no validation images; its {} are evaluated",
                    instead.kind()
                )?;
                match instead {
                    Split::Train => {
                        f.write_str(", for which the accuracy is higher than for new images")
                    }
                    _ => Ok(()),
                }
            }
            Self::SplitAsTheRun { what, new, missing, folders_differ } => {
                write!(f, "split as in the run, by the paths of the images: {what}")?;
                if *new > 0 {
                    write!(f, "; {new} images are new and in no subset")?;
                }
                if *missing > 0 {
                    write!(f, "; {missing} are missing")?;
                }
                if *folders_differ {
                    f.write_str("; the folders here split them differently")?;
                }
                Ok(())
            }
            Self::ImagesUsed { why, used, kind, split_now: true, all } => write!(
                f,
                "{why}: {used} of {all} images, the {kind} of a split with seed 0 and a tenth for validation"
            ),
            Self::ImagesUsed { why, used, all, .. } if used == all => {
                write!(f, "{why}: all {used} images are evaluated")
            }
            Self::ImagesUsed { why, used, all, kind, .. } => {
                write!(f, "{why}: the {used} {kind} of {all} images are evaluated")
            }
            Self::NewImages { images, folder } => write!(
                f,
                "{images} images in {} are new since the run started, and are not used",
                shown_path(folder)
            ),
            Self::Resuming { step, epoch } => {
                write!(f, "resuming after step {step}, in epoch {epoch}")
            }
            Self::EndedEarly { done, epochs, patience } => {
                let plural = if *patience == 1 { "" } else { "s" };
                write!(
                    f,
                    "training ends after {done} of {epochs} epochs: the validation accuracy has not increased for {patience} epoch{plural}"
                )
            }
            Self::NothingLeft { epochs } => write!(f, "all {epochs} epochs are done"),
            Self::NoLocks { folder } => write!(
                f,
                "the file system of {} has no locks: do not start another training in it",
                shown_path(folder)
            ),
            Self::UsingIndex { path } => write!(f, "using the index {}", shown_path(path)),
            Self::IndexReplaced { path, reason } => write!(
                f,
                "the index {} is not used, and a new one is made: {}",
                shown_path(path),
                escaped(reason)
            ),
            Self::IndexWritten { path } => {
                write!(f, "wrote an index for the next search: {}", shown_path(path))
            }
            Self::IndexNotWritten { reason } => {
                write!(f, "the index is not kept for the next search: {reason}")
            }
            Self::ItselfLeftOut { path } => {
                write!(f, "the image itself is left out: {}", shown_path(path))
            }
            Self::FewerNeighbors { found } => write!(f, "there are only {found} other images"),
            Self::LeftOut { path, reason } => {
                write!(f, "left out: {}: {}", shown_path(path), escaped(reason))
            }
            Self::Damaged { path, what } => {
                write!(f, "damaged, but read: {}: {}", shown_path(path), escaped(what))
            }
        }
    }
}

/// The names of classes separated by commas, or their number if there are too many for a line.
pub fn listed(names: &[String]) -> String {
    if names.len() > MOST_LISTED {
        return names.len().to_string();
    }
    names.iter().map(|name| shown(name).to_string()).collect::<Vec<_>>().join(", ")
}
