//! All options of a training run that may be in a file.

use alexnet::TrainConfig;
use clap::Parser;

use super::{AugmentationOptions, DataOptions, EngineOptions, ModelOptions, OptimizationOptions};
use crate::parse;

/// The options that determine the batches and the initial network.
#[derive(Clone, Debug, clap::Args)]
pub struct SetupOptions {
    #[command(flatten)]
    pub data: DataOptions,
    #[command(flatten)]
    pub model: ModelOptions,
    /// Images in a batch
    #[arg(short, long, help_heading = "Optimization", value_name = "N", default_value_t = TrainConfig::default().batch_size, value_parser = parse::at_least(1u32))]
    pub batch_size: u32,
    #[command(flatten)]
    pub augmentation: AugmentationOptions,
    /// Random seed of the split, the initial weights, the order of images, the augmentation and the
    /// dropout
    #[arg(long, help_heading = "Run", value_name = "N", default_value_t = TrainConfig::default().seed, value_parser = parse::at_least(0u64))]
    pub seed: u64,
}

impl SetupOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        let Self { data, model, batch_size, augmentation, seed } = self;
        data.apply(config);
        model.apply(config);
        augmentation.apply(config);
        config.batch_size = *batch_size;
        config.seed = *seed;
    }
}

/// The options of `train` that may be in a file.
#[derive(Clone, Debug, Parser)]
pub struct TrainOptions {
    #[command(flatten)]
    pub setup: SetupOptions,
    /// Passes over the training images [default: 10, or those of the resumed run]
    #[arg(long, help_heading = "Optimization", display_order = 0, value_name = "N", value_parser = parse::count)]
    pub epochs: Option<u64>,
    #[command(flatten)]
    pub optimization: OptimizationOptions,
    #[command(flatten)]
    pub engine: EngineOptions,
    /// Save a checkpoint after every N steps, in addition to after each epoch
    #[arg(long, help_heading = "Run", value_name = "N", value_parser = parse::at_least(1u64))]
    pub checkpoint_every: Option<u64>,
}

impl TrainOptions {
    /// Returns the configuration of a new run.
    pub fn config(&self) -> TrainConfig {
        let Self { setup, epochs, optimization, engine, checkpoint_every } = self;
        let mut config = TrainConfig::default();
        setup.apply(&mut config);
        optimization.apply(&mut config);
        config.epochs = epochs.unwrap_or(config.epochs);
        config.engine = engine.config();
        config.checkpoint_every = *checkpoint_every;
        config
    }
}
