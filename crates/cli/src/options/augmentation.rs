//! How training varies images and targets.

use alexnet::{
    TrainConfig,
    data::augment::{
        Augmentation,
        auto::{AutoAugment, MAGNITUDES},
        crop_flip::CropMode,
    },
};
use clap::ValueEnum;

use crate::parse;

/// How training varies images and targets.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentationOptions {
    /// How the network's input is cropped from a training image
    #[arg(long, value_name = "MODE", value_enum, default_value = "random-resized")]
    pub crop: Mode,
    /// For --crop random and center, resize the shorter side of training images to N pixels
    #[arg(long, value_name = "N", default_value_t = Augmentation::TUTORIAL.resize_short, value_parser = parse::at_least(1u32))]
    pub resize_short: u32,
    /// Smallest and largest share of an image's area that a training crop covers
    #[arg(long, value_name = "MIN,MAX", default_value = "0.08,1", value_parser = parse::shares)]
    pub crop_scale: [f64; 2],
    /// Probability of mirroring a training image horizontally
    #[arg(long, value_name = "P", default_value_t = Augmentation::TUTORIAL.hflip, value_parser = parse::probability)]
    pub hflip: f64,
    /// Probability of mirroring a training image vertically
    #[arg(long, value_name = "P", default_value_t = Augmentation::TUTORIAL.vflip, value_parser = parse::probability)]
    pub vflip: f64,
    /// Rotate training images by random angles of up to ±DEGREES
    #[arg(long, value_name = "DEGREES", default_value_t = Augmentation::TUTORIAL.rotation, value_parser = parse::angle)]
    pub rotation: f64,
    /// Change training images by random operations
    #[arg(long, value_name = "POLICY", value_enum)]
    pub auto_augment: Option<Policy>,
    /// Magnitude of the operations of randaugment, from 0 to 30
    #[arg(long, value_name = "N", default_value_t = Augmentation::TUTORIAL.ra_magnitude, value_parser = parse::between(0, MAGNITUDES - 1))]
    pub ra_magnitude: u32,
    /// Multiply brightness, contrast and saturation by random factors within 1 ± STRENGTH
    #[arg(long, value_name = "STRENGTH", default_value_t = Augmentation::TUTORIAL.color_jitter, value_parser = parse::not_negative)]
    pub color_jitter: f64,
    /// Add color noise along the principal components of ImageNet's colors, with weights from N(0,
    /// STD²)
    #[arg(long, value_name = "STD", default_value_t = Augmentation::TUTORIAL.pca_noise, value_parser = parse::not_negative)]
    pub pca_noise: f64,
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
        let Self {
            crop,
            resize_short,
            crop_scale,
            hflip,
            vflip,
            rotation,
            auto_augment,
            ra_magnitude,
            color_jitter,
            pca_noise,
            random_erasing,
            label_smoothing,
            mixup,
            cutmix,
        } = *self;
        config.augmentation = Augmentation {
            crop: crop.into(),
            resize_short,
            crop_scale,
            hflip,
            vflip,
            rotation,
            auto_augment: auto_augment.map(AutoAugment::from),
            ra_magnitude,
            color_jitter,
            pca_noise,
            random_erasing,
            label_smoothing,
            mixup,
            cutmix,
        };
    }
}

/// How the network's input is cropped from a training image.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mode {
    /// A random part of random size and ratio, resized
    RandomResized,
    /// A random part of the center square of the resized image, as in the paper
    Random,
    /// The center of the resized image
    Center,
}

impl From<Mode> for CropMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::RandomResized => Self::RandomResized,
            Mode::Random => Self::Random,
            Mode::Center => Self::Center,
        }
    }
}

/// How the operations of automatic augmentation are chosen.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Policy {
    /// Two operations of one magnitude
    RandAugment,
    /// One operation of any magnitude, up to larger ones
    TrivialAugment,
}

impl From<Policy> for AutoAugment {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::RandAugment => Self::RandAugment,
            Policy::TrivialAugment => Self::TrivialAugment,
        }
    }
}
