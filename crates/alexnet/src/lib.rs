//! AlexNet as a library: trains the network on a folder of images, evaluates it and classifies
//! images.
//!
//! ```no_run
//! use alexnet::Classifier;
//!
//! let mut classifier = Classifier::load("runs/train")?;
//! for class in classifier.predict("tulip.jpg")?.top(3) {
//!     println!("{:10} {:.3}", class.name, class.probability);
//! }
//! # Ok::<(), alexnet::Error>(())
//! ```
//!
//! [`Classifier`] takes any weights file: safetensors, PyTorch's `.pth`, or a run folder.
//! [`Trainer`] makes runs from a [`TrainConfig`]; [`Recipe`] has presets. A [`TrainObserver`]
//! receives its events. [`Evaluator`] measures weights on a set of images. [`NeighborSearch`] finds
//! the images that are nearest to an image.
//!
//! Engines are features of this crate: `cpu` (on by default, pure Rust), `candle` and `tch`
//! (libtorch). They give the same answers; [`Engine`] chooses one at run time.
//!
//! The library never prints, exits or reads the environment. It uses the folders `data/` and
//! `runs/` of the working directory only when no path is given.
#![forbid(unsafe_code)]

pub mod class_names;
pub mod class_weights;
pub mod classes;
pub mod classifier;
pub mod config;
pub mod corruptions;
pub mod engine;
pub mod engine_config;
pub mod error;
pub mod evaluation;
pub mod explain;
pub mod neighbors;
pub mod note;
pub mod observer;
pub mod parallel;
pub mod prediction;
pub mod prepare;
pub mod preprocess;
pub mod run_folder;
pub mod runs;
mod saved;
pub mod selection;
pub mod source;
pub mod split;
pub mod train_observer;
pub mod trainer;
pub mod weights;

pub use alexnet_core as core;
pub use alexnet_data as data;
pub use alexnet_interchange as interchange;
pub use image;

pub use self::{
    class_names::ClassNames,
    class_weights::ClassWeights,
    classifier::{Classifier, ClassifierBuilder},
    config::{LrScheduler, Opt, Recipe, TrainConfig},
    corruptions::{CorruptionAccuracy, CorruptionReport},
    engine::{Convolution, Engine, InstructionSet, NoInstructionSet},
    engine_config::{EngineChanges, EngineConfig},
    error::{BoxError, Error, Result},
    evaluation::{Evaluated, EvaluationOutput, Evaluator, Mistake},
    explain::{Explain, Explanation},
    neighbors::{Neighbor, NeighborSearch, Neighbors},
    note::Note,
    observer::{Observer, Work},
    parallel::Parallel,
    prediction::{ClassProbability, Prediction},
    prepare::Prepared,
    preprocess::{ImageSource, Preprocessed, Preprocessor},
    run_folder::RunFolder,
    runs::RunSummary,
    saved::MAX_BYTES as MAX_SETTINGS_BYTES,
    selection::Selection,
    source::DataSource,
    split::Split,
    train_observer::{RunInfo, TrainObserver},
    trainer::{Resume, Run, Trainer},
    weights::WeightsFile,
};
