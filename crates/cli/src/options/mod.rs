//! The options of the commands that train, from the command line or a file. Together they make a
//! [`TrainConfig`](alexnet::TrainConfig).

pub mod augmentation;
pub mod data;
pub mod engine;
pub mod model;
pub mod optimization;
pub mod run;

pub use self::{
    augmentation::AugmentationOptions,
    data::{BadImage, DataOptions, OrientationAction, OrientationOption},
    engine::{EngineOptions, Threads},
    model::ModelOptions,
    optimization::{OptimizationOptions, OptimizerOptions, RateOptions, StepOptions},
    run::{SetupOptions, TrainOptions},
};
