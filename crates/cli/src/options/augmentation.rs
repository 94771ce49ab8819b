//! How training varies images and targets.

use alexnet::{TrainConfig, data::augment::Augmentation};

use crate::parse;

/// How training varies images and targets.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentationOptions {
    /// Least and largest share of an image's area that a training crop covers
    #[arg(long, value_name = "MIN,MAX", default_value = "0.08,1", value_parser = parse::shares)]
    pub crop_scale: [f64; 2],
    /// Vary brightness, contrast and saturation by factors of 1 ± this
    #[arg(long, value_name = "STRENGTH", default_value_t = 0.0, value_parser = parse::not_negative)]
    pub color_jitter: f64,
    /// Probability that a rectangle of a training image is erased
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse::probability)]
    pub random_erasing: f64,
    /// Share of each target that is spread evenly over all classes
    #[arg(long, value_name = "ε", default_value_t = 0.0, value_parser = parse::fraction)]
    pub label_smoothing: f64,
    /// Blend the images of a batch and their targets, by shares of Beta(α, α)
    #[arg(long, value_name = "α", default_value_t = 0.0, value_parser = parse::not_negative)]
    pub mixup: f64,
    /// Paste a part of another image of the batch, of an area of Beta(α, α); with --mixup a batch gets one or the other
    #[arg(long, value_name = "α", default_value_t = 0.0, value_parser = parse::not_negative)]
    pub cutmix: f64,
}

impl AugmentationOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        let Self { crop_scale, color_jitter, random_erasing, label_smoothing, mixup, cutmix } = *self;
        config.augmentation =
            Augmentation { crop_scale, color_jitter, random_erasing, label_smoothing, mixup, cutmix };
    }
}
