//! How training varies images and targets.

use alexnet::{TrainConfig, data::augment::Augmentation};

use crate::parse;

/// How training varies images and targets.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentationOptions {
    /// Smallest and largest share of an image's area that a training crop covers
    #[arg(long, value_name = "MIN,MAX", default_value = "0.08,1", value_parser = parse::shares)]
    pub crop_scale: [f64; 2],
    /// Multiply brightness, contrast and saturation by random factors within 1 ± STRENGTH
    #[arg(long, value_name = "STRENGTH", default_value_t = Augmentation::TUTORIAL.color_jitter, value_parser = parse::not_negative)]
    pub color_jitter: f64,
    /// Probability of erasing a rectangle of a training image
    #[arg(long, value_name = "P", default_value_t = Augmentation::TUTORIAL.random_erasing, value_parser = parse::probability)]
    pub random_erasing: f64,
    /// Share of each target that is distributed evenly over all classes
    #[arg(long, value_name = "ε", default_value_t = Augmentation::TUTORIAL.label_smoothing, value_parser = parse::fraction)]
    pub label_smoothing: f64,
    /// Blend pairs of images of a batch and their targets, with a weight drawn from Beta(α, α)
    #[arg(long, value_name = "α", default_value_t = Augmentation::TUTORIAL.mixup, value_parser = parse::not_negative)]
    pub mixup: f64,
    /// Replace a rectangle of each image by that of another image of the batch, with a share of the
    /// area drawn from Beta(α, α); with --mixup too, one of the two is used for each batch
    #[arg(long, value_name = "α", default_value_t = Augmentation::TUTORIAL.cutmix, value_parser = parse::not_negative)]
    pub cutmix: f64,
}

impl AugmentationOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        let Self { crop_scale, color_jitter, random_erasing, label_smoothing, mixup, cutmix } =
            *self;
        config.augmentation = Augmentation {
            crop_scale,
            color_jitter,
            random_erasing,
            label_smoothing,
            mixup,
            cutmix,
        };
    }
}
