//! The errors of the library: each says what is wrong in the library's own terms; a program adds the next step in its own.

use std::path::PathBuf;

use alexnet_core::{
    Device, Error as CoreError,
    alexnet::Variant,
    text::{shown, shown_path},
};

use crate::{Engine, Split, source::FOLDER};

/// An error of a program that uses the library, handed through it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An engine, a topology, a file of a run or a setting was refused.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// Images, folders or archives were refused.
    #[error(transparent)]
    Data(#[from] alexnet_data::Error),
    /// The observer ended the run.
    #[error(transparent)]
    Observer(BoxError),

    /// This build lacks an engine.
    #[error("this build lacks the engine `{}`; it has: {}", engine.name(), compiled.join(", "))]
    NoEngine {
        /// The engine asked for.
        engine: Engine,
        /// The engines of this build.
        compiled: Vec<&'static str>,
    },
    /// An engine has no such device here.
    #[error("the engine `{}` has no device `{device}` here; it has: {}", engine.name(), listed(devices))]
    NoDevice {
        /// The engine.
        engine: Engine,
        /// The device asked for.
        device: Device,
        /// The devices that it has.
        devices: Vec<Device>,
    },
    /// The processor lacks an instruction set.
    #[error("this processor has no `{isa}`; it has: {}", available.join(", "))]
    NoInstructionSet {
        /// The instruction set asked for.
        isa: String,
        /// Those that it has.
        available: Vec<String>,
    },
    /// An instruction set or a way to convolve was chosen for another engine than `cpu`.
    #[error("instruction set and convolution can be chosen for the engine `cpu`, not for `{}`", engine.name())]
    OnlyForCpu {
        /// The engine.
        engine: Engine,
    },

    /// No data set is named, and none is in the usual places.
    #[error("there are no images in {}", shown_path(looked_in))]
    NoImages {
        /// Where the flower photos would be.
        looked_in: PathBuf,
    },
    /// There is nothing at the path of a data set.
    #[error("there is nothing at {}", shown_path(path))]
    NoData {
        /// The path.
        path: PathBuf,
    },
    /// A name that a run could not keep.
    #[error("the name of {what} {} is not UTF-8, so no run could keep it: rename it", shown_path(path))]
    NotUtf8 {
        /// The folder or file.
        path: PathBuf,
        /// `the folder` or `the archive`.
        what: &'static str,
    },
    /// An archive whose folder would have no name.
    #[error(
        "{} has no name before its ending, which the folder in {FOLDER}/ would be called: rename it",
        shown_path(path)
    )]
    NamelessArchive {
        /// The archive.
        path: PathBuf,
    },
    /// Some images of a data set cannot be read.
    #[error(
        "{images} of {of} images cannot be read: {}{}",
        named.join("; "),
        if images > &named.len() { "; …" } else { "" }
    )]
    Unreadable {
        /// How many.
        images: usize,
        /// Of how many.
        of: usize,
        /// The first of them, with their reasons.
        named: Vec<String>,
    },
    /// The images of a run are not where they were.
    #[error("the images of this run are no longer in {}", shown_path(folder))]
    ImagesMoved {
        /// Where they were.
        folder: PathBuf,
    },
    /// A folder does not hold the images of a run.
    #[error(
        "{} does not have the images of this run: {missing} of {all} are missing, such as {first}",
        shown_path(folder)
    )]
    ImagesMissing {
        /// The folder.
        folder: PathBuf,
        /// Images that it lacks.
        missing: usize,
        /// Images of the run.
        all: usize,
        /// The first that it lacks.
        first: String,
    },
    /// A run has no images in a part of its split.
    #[error("the run has no {}", split.kind())]
    RunHasNone {
        /// The part.
        split: Split,
    },
    /// None of a run's images in a part of its split are in a folder.
    #[error("none of the run's {of} {} is in {}", split.kind(), shown_path(folder))]
    NoneOfTheRun {
        /// The part.
        split: Split,
        /// How many the run has.
        of: usize,
        /// The folder.
        folder: PathBuf,
    },
    /// A data set has no images in a part of its split.
    #[error("{}", match split {
        Split::Test => format!(
            "{} has no test subset: a folder named test/ with the class folders in it, beside train/",
            shown_path(folder)
        ),
        split => format!("there are no {} in {}", split.kind(), shown_path(folder)),
    })]
    NoSuchImages {
        /// The part.
        split: Split,
        /// The folder.
        folder: PathBuf,
    },

    /// There are no weights of any run.
    #[error("there are no weights yet in {}/", shown_path(folder))]
    NoWeights {
        /// The folder of runs.
        folder: PathBuf,
    },
    /// A folder has no weights as that of a run has.
    #[error(
        "{} is a folder, and holds no weights/best.safetensors as that of a run does; name a file",
        shown_path(folder)
    )]
    NoBestWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// ONNX is only written.
    #[error(
        "{} is ONNX, which is written and not read here; name the weights that it was made from",
        shown_path(path)
    )]
    Onnx {
        /// The file.
        path: PathBuf,
    },
    /// Weights and images are of other classes.
    #[error(
        "{} has the classes {wanted}, but the weights {} know {known}",
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
    /// Weights are of another network than the run's.
    #[error("{} holds `{found}`, but this run is `{wanted}`", shown_path(path))]
    OtherVariant {
        /// The weights file.
        path: PathBuf,
        /// Its network.
        found: Variant,
        /// The run's.
        wanted: Variant,
    },
    /// A layer that has to be trained anew is frozen.
    #[error("`{layer}` is replaced, because the classes are others, and cannot be frozen too")]
    ReplacedLayerFrozen {
        /// The layer.
        layer: String,
    },

    /// The folder of a run cannot be made.
    #[error("there is no place for the run: {error}")]
    NoPlace {
        /// Why.
        error: CoreError,
    },
    /// A folder already holds a run.
    #[error("{} already holds a run", shown_path(folder))]
    RunExists {
        /// The folder.
        folder: PathBuf,
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
    /// A folder is not that of a run.
    #[error("{} is not the folder of a run: it has no args.toml", shown_path(folder))]
    NotARun {
        /// The folder.
        folder: PathBuf,
    },
    /// Settings that would be lost in a file.
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
    /// A setting of a run is not that which it was begun with.
    #[error("the run was begun with `{key}` {begun_with}, and its args.toml has it {found}")]
    SettingChanged {
        /// The setting.
        key: String,
        /// Its value by the checkpoint.
        begun_with: String,
        /// Its value now.
        found: String,
    },
    /// A run has weights or results, but no checkpoint.
    #[error(
        "{} is missing, but {} has weights or results: copy the checkpoint from where the run was made",
        shown_path(path),
        shown_path(folder)
    )]
    CheckpointMissing {
        /// The checkpoint.
        path: PathBuf,
        /// The run's folder.
        folder: PathBuf,
        /// Its settings, for another run.
        settings: PathBuf,
    },
    /// A run has no split.
    #[error(
        "{} is missing: copy it from where the run was made, since it says which images train",
        shown_path(path)
    )]
    SplitMissing {
        /// The file.
        path: PathBuf,
    },
    /// A run has no best weights, though epochs are done.
    #[error(
        "{} is missing: copy it from where the run was made; or put a copy of {} there, and the run goes on with that as its best",
        shown_path(path),
        shown_path(last)
    )]
    BestMissing {
        /// The file.
        path: PathBuf,
        /// The weights of the last epoch.
        last: PathBuf,
    },
    /// A run has more epochs behind it than it is to have.
    #[error("{done} epochs are done, more than {epochs}")]
    MoreEpochsDone {
        /// Epochs done.
        done: u64,
        /// Epochs asked for.
        epochs: u64,
    },
    /// An image ended a run; what was done is kept.
    #[error("what was done is kept: {error}")]
    StoppedByImage {
        /// The run's folder.
        folder: PathBuf,
        /// The image and what is wrong with it.
        error: CoreError,
    },

    /// There is no image to evaluate on.
    #[error("there is no image to evaluate on")]
    NothingToEvaluate,
    /// Weights give an answer that is not finite.
    #[error("the weights give no finite answer")]
    NotFinite,
}

fn listed(devices: &[Device]) -> String {
    devices.iter().map(Device::to_string).collect::<Vec<_>>().join(", ")
}
