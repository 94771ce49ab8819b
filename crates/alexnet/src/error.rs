//! The errors of the library, in its own terms. A program adds the next step in the terms of its
//! interface.

use std::path::PathBuf;

use alexnet_core::{
    Device, Error as CoreError,
    alexnet::Variant,
    text::{shown, shown_path},
};

use crate::{
    engine::{Engine, NoInstructionSet},
    parallel::Parallel,
    split::Split,
};

/// An error of an observer, returned unchanged.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of an engine, a topology, a file of a run or a setting.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// An error of an image, a folder or an archive.
    #[error(transparent)]
    Data(#[from] alexnet_data::Error),
    /// The observer ended the run.
    #[error(transparent)]
    Observer(BoxError),

    /// This build lacks an engine.
    #[error("this build lacks the engine `{}`; it has: {}", engine.name(), compiled.join(", "))]
    NoEngine {
        /// The requested engine.
        engine: Engine,
        /// The engines of this build.
        compiled: Vec<&'static str>,
    },
    /// The engine does not have the requested device on this machine.
    #[error("the engine `{}` has no device `{device}` here; it has: {}", engine.name(), listed(devices))]
    NoDevice {
        /// The engine.
        engine: Engine,
        /// The requested device.
        device: Device,
        /// The devices of the engine on this machine.
        devices: Vec<Device>,
    },
    /// The processor lacks an instruction set.
    #[error(transparent)]
    NoInstructionSet(#[from] NoInstructionSet),
    /// An instruction set or a convolution algorithm was set for another engine than `cpu`.
    #[error(
        "instruction set and convolution can be set for the engine `cpu`, not for `{}`",
        engine.name()
    )]
    OnlyForCpu {
        /// The engine.
        engine: Engine,
    },
    /// The engine cannot compute in bf16.
    #[error("the engine `{}` computes in f32 only; `cpu` and `tch` have bf16", engine.name())]
    NoBf16 {
        /// The engine.
        engine: Engine,
    },

    /// No data set was given, and the default folders are missing.
    #[error("there are no images in {}", shown_path(looked_in))]
    NoImages {
        /// The folder that was searched.
        looked_in: PathBuf,
    },
    /// The path of a data set does not exist.
    #[error("there is nothing at {}", shown_path(path))]
    NoData {
        /// The path.
        path: PathBuf,
    },
    /// A name that is not UTF-8 and cannot be stored in the files of a run.
    #[error(
        "the name of {what} {} is not UTF-8, so a run cannot store it: rename it",
        shown_path(path)
    )]
    NotUtf8 {
        /// The folder or file.
        path: PathBuf,
        /// `the folder` or `the archive`.
        what: &'static str,
    },
    /// The name of an archive is only an extension, so the folder of its images would have no name.
    #[error(
        "{} has no name before its extension, which the folder in {}/ would have: rename it",
        shown_path(path),
        shown_path(into)
    )]
    NamelessArchive {
        /// The archive.
        path: PathBuf,
        /// The folder that archives are unpacked into.
        into: PathBuf,
    },
    /// Some images of a data set cannot be read.
    #[error(
        "{images} of {of} images cannot be read: {}{}",
        named.join("; "),
        if images > &named.len() { "; …" } else { "" }
    )]
    Unreadable {
        /// Their number.
        images: usize,
        /// The number of all images.
        of: usize,
        /// The first of them with their errors.
        named: Vec<String>,
    },
    /// The images of a run are no longer in their folder.
    #[error("the images of this run are no longer in {}", shown_path(folder))]
    ImagesMoved {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder does not have all images of a run.
    #[error(
        "{} does not have the images of this run: {missing} of {all} are missing, such as {first}",
        shown_path(folder)
    )]
    ImagesMissing {
        /// The folder.
        folder: PathBuf,
        /// The number of missing images.
        missing: usize,
        /// The number of images of the run.
        all: usize,
        /// The first missing image.
        first: String,
    },
    /// Shards have the images of a run in another order.
    #[error(
        "{} has the images in another order than the shards of this run, on which a run with \
         blocks depends",
        shown_path(folder)
    )]
    OtherOrder {
        /// The folder of the shards.
        folder: PathBuf,
    },
    /// A run has no images of a subset.
    #[error("the run has no {}", split.kind())]
    RunHasNone {
        /// The subset.
        split: Split,
    },
    /// None of a run's images of a subset is in a folder.
    #[error("none of the run's {of} {} is in {}", split.kind(), shown_path(folder))]
    NoneOfTheRun {
        /// The subset.
        split: Split,
        /// The number of such images of the run.
        of: usize,
        /// The folder.
        folder: PathBuf,
    },
    /// A data set has no images of a subset.
    #[error("{}", match split {
        Split::Test => format!(
            "{} has no test subset: a folder named test/ with the class folders in it, beside train/",
            shown_path(folder)
        ),
        split => format!("there are no {} in {}", split.kind(), shown_path(folder)),
    })]
    NoSuchImages {
        /// The subset.
        split: Split,
        /// The folder.
        folder: PathBuf,
    },

    /// No run has weights.
    #[error("there are no weights yet in {}/", shown_path(folder))]
    NoWeights {
        /// The folder of runs.
        folder: PathBuf,
    },
    /// A folder has no weights file where run folders have one.
    #[error(
        "{} is a folder without weights/best.safetensors, which run folders have; name a file",
        shown_path(folder)
    )]
    NoBestWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// ONNX files can only be written.
    #[error(
        "{} is ONNX, which can be written but not read; name the weights file that it was exported from",
        shown_path(path)
    )]
    Onnx {
        /// The file.
        path: PathBuf,
    },
    /// The classes of weights and images differ.
    #[error(
        "{} has the classes {wanted}, but the weights {} have {known}",
        shown_path(folder),
        shown_path(path)
    )]
    OtherClasses {
        /// The data set.
        folder: PathBuf,
        /// Its classes.
        wanted: String,
        /// The weights file.
        path: PathBuf,
        /// Its classes.
        known: String,
    },
    /// A file of names has none for the classes of a data set.
    #[error("{} has no name for a folder of {}", shown_path(path), shown_path(folder))]
    NoClassNamed {
        /// The file of names.
        path: PathBuf,
        /// The data set.
        folder: PathBuf,
    },
    /// A file does not have the weights of the classes.
    #[error("{} is not a file of class weights: {reason}", shown_path(path))]
    ClassWeights {
        /// The file.
        path: PathBuf,
        /// What is wrong, as a clause.
        reason: String,
    },
    /// Weights belong to another network than that of the run.
    #[error("{} holds `{found}`, but this run is `{wanted}`", shown_path(path))]
    OtherVariant {
        /// The weights file.
        path: PathBuf,
        /// Its network.
        found: Variant,
        /// The run's.
        wanted: Variant,
    },
    /// A frozen layer would be replaced.
    #[error("`{layer}` is replaced because the classes differ, so it cannot be frozen")]
    ReplacedLayerFrozen {
        /// The layer.
        layer: String,
    },

    /// The folder of a run cannot be created.
    #[error("the run folder cannot be created: {error}")]
    NoPlace {
        /// The cause.
        error: CoreError,
    },
    /// There is no run.
    #[error("there are no runs in {}/", shown_path(folder))]
    NoRuns {
        /// The folder of runs.
        folder: PathBuf,
    },
    /// A folder already contains a run.
    #[error("{} already contains a run", shown_path(folder))]
    RunExists {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder of a new run contains a file that the run would overwrite.
    #[error("{} exists and is not of a run: it would be overwritten", shown_path(file))]
    Taken {
        /// The file.
        file: PathBuf,
    },
    /// Another process trains in a run's folder.
    #[error(
        "{} is in use by {}: wait until that training has ended, or stop it",
        shown_path(folder),
        shown(by)
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process and its host.
        by: String,
    },
    /// A folder is not a run folder.
    #[error("{} is not a run folder: it has no args.toml", shown_path(folder))]
    NotARun {
        /// The folder.
        folder: PathBuf,
    },
    /// Settings that cannot be written to a file without loss.
    #[error("these settings cannot be saved in a file: {reason}")]
    Unsaveable {
        /// Which, and why.
        reason: String,
    },
    /// A file of a run is not as the run wrote it.
    #[error("{} {reason}", shown_path(path))]
    RunFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, as a clause whose subject is the file.
        reason: String,
    },
    /// A setting of a run differs from the one in its checkpoint.
    #[error("the run was started with `{key}` {started_with}, but its args.toml has {found}")]
    SettingChanged {
        /// The setting.
        key: String,
        /// Its value in the checkpoint.
        started_with: String,
        /// Its value in `args.toml`.
        found: String,
    },
    /// A run has weights or results, but no checkpoint.
    #[error(
        "{} is missing, but {} has weights or results: copy the checkpoint from the original run folder",
        shown_path(path),
        shown_path(folder)
    )]
    CheckpointMissing {
        /// The checkpoint.
        path: PathBuf,
        /// The run's folder.
        folder: PathBuf,
        /// Its `args.toml`, for a new run.
        settings: PathBuf,
    },
    /// A run has no split.
    #[error(
        "{} is missing: copy it from the original run folder, since it lists the training images",
        shown_path(path)
    )]
    SplitMissing {
        /// The file.
        path: PathBuf,
    },
    /// A run has no best weights although epochs are complete.
    #[error(
        "{} is missing: copy it from the original run folder; or put a copy of {} there to use it as the best weights",
        shown_path(path),
        shown_path(last)
    )]
    BestMissing {
        /// The file.
        path: PathBuf,
        /// The weights of the last epoch.
        last: PathBuf,
    },
    /// The best weights of a run are damaged, or do not fit the run.
    #[error(
        "{reason}; copy the file from the original run folder, or put a copy of {} in its place to use it as the best weights",
        shown_path(last)
    )]
    BestUnusable {
        /// What is wrong, with the file.
        reason: String,
        /// The weights of the last epoch.
        last: PathBuf,
    },
    /// A run has completed more epochs than requested.
    #[error("{done} epochs are complete, more than {epochs}")]
    MoreEpochsDone {
        /// The completed epochs.
        done: u64,
        /// The requested epochs.
        epochs: u64,
    },
    /// An image ended a run; its files remain.
    #[error("the run was saved and stopped: {error}")]
    StoppedByImage {
        /// The run's folder.
        folder: PathBuf,
        /// The image and what is wrong with it.
        error: CoreError,
    },

    /// An engine cannot divide the layers among ranks.
    #[error("{parallel} parallelism needs the engine `cpu`, not `{}`", engine.name())]
    CannotDivide {
        /// How the layers are to be divided.
        parallel: Parallel,
        /// The engine.
        engine: Engine,
    },
    /// A rank that trains with others differs from rank 0.
    #[error("{rank} differs from {first}: {what} is {found}, not {expected}")]
    RankDiffers {
        /// The rank that differs.
        rank: String,
        /// Rank 0.
        first: String,
        /// The setting, file or property that differs.
        what: String,
        /// Its value on the rank that differs.
        found: String,
        /// Its value on rank 0.
        expected: String,
    },

    /// There is no image to compare an image with.
    #[error("there is no other image to compare with in {}", shown_path(folder))]
    NoOtherImage {
        /// The folder of the images.
        folder: PathBuf,
    },
    /// There is no image to evaluate.
    #[error("there is no image to evaluate")]
    NothingToEvaluate,
    /// A logit is not finite.
    #[error("the weights give logits that are not finite")]
    NotFinite,
}

fn listed(devices: &[Device]) -> String {
    devices.iter().map(Device::to_string).collect::<Vec<_>>().join(", ")
}
