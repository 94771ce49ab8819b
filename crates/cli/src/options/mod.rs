//! The options of the commands that train, as they are typed or stand in a file; together they give a
//! [`TrainConfig`](alexnet::TrainConfig).

pub mod augmentation;
pub mod data;
pub mod engine;
pub mod model;
pub mod optimisation;
pub mod run;

pub use self::{
    augmentation::AugmentationOptions,
    data::{BadImage, DataOptions, OrientationOption, Turning},
    engine::{EngineOptions, Threads},
    model::ModelOptions,
    optimisation::{OptimisationOptions, OptimizerOptions, RateOptions, StepOptions},
    run::{SetupOptions, TrainOptions},
};
