//! The options of several commands, from the command line or a file. Those of training make a
//! [`TrainConfig`](alexnet::TrainConfig).

pub mod augmentation;
pub mod classifier;
pub mod data;
pub mod engine;
pub mod model;
pub mod optimization;
pub mod run;
pub mod tta;

pub use self::{
    augmentation::AugmentationOptions,
    classifier::ClassifierOptions,
    data::{BadImage, DataOptions, OrientationAction, OrientationOption},
    engine::{EngineOptions, Threads},
    model::ModelOptions,
    optimization::{OptimizationOptions, OptimizerOptions, RateOptions, StepOptions},
    run::{SetupOptions, TrainOptions},
    tta::Tta,
};
