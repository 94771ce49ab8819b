//! Options for the data set and how its images are read.

use std::path::PathBuf;

use alexnet::{
    ClassWeights, DataSource, TrainConfig,
    core::ExifOrientation,
    data::{
        loader::{OnBadImage, Sampler, Shuffle},
        split::Fold,
    },
};
use clap::ValueEnum;

use crate::parse;

/// The data set and how its images are read.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Data")]
pub struct DataOptions {
    /// Folder of class folders, folder with train/ and val/, an archive (.tgz, .tar, .zip) of such a
    /// folder, or a folder of shards (see `data pack`) [default: data/flower_photos, else drawn
    /// flowers]
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Share of each class for the validation set, unless the folder has train/ and val/; with 0,
    /// there is no validation and the last weights are the best
    #[arg(long, value_name = "SHARE", default_value_t = TrainConfig::default().val_fraction, value_parser = parse::fraction)]
    pub val_fraction: f64,
    /// Cross-validation: use fold I of K folds for validation, instead of --val-fraction; each image
    /// is in the validation set of one fold
    #[arg(long, value_name = "I/K")]
    pub fold: Option<Fold>,
    /// What to do with an image that cannot be read [default: error]
    #[arg(long, value_name = "ACTION", value_enum)]
    pub on_bad_image: Option<BadImage>,
    /// How to shuffle the training images in each epoch
    #[arg(long, value_name = "ORDER", value_enum, default_value = "full")]
    pub shuffle: ShuffleOrder,
    /// Which training images to use in each epoch
    #[arg(long, value_name = "NAME", value_enum, default_value = "uniform")]
    pub sampler: SamplerName,
    /// Weights of the classes in the training loss: `balanced` for weights inverse to the number of
    /// training images, numbers in the order of the classes, or a JSON file such as
    /// {"daisy": 1, "roses": 2.5}
    #[arg(long, value_name = "balanced|FILE")]
    pub class_weights: Option<ClassWeights>,
    /// Whether to apply the EXIF or XMP orientation of images [default: that of --weights, else
    /// apply]
    #[arg(long, value_name = "ACTION", value_enum)]
    pub exif_orientation: Option<OrientationAction>,
}

impl DataOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        config.data = source(self.data.as_ref());
        config.val_fraction = self.val_fraction;
        config.fold = self.fold;
        config.on_bad_image = self.on_bad_image.unwrap_or_default().into();
        config.shuffle = self.shuffle.into();
        config.sampler = self.sampler.into();
        config.class_weights.clone_from(&self.class_weights);
        config.exif_orientation = self.exif_orientation.map(ExifOrientation::from);
    }
}

/// How to shuffle the training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShuffleOrder {
    /// All images
    Full,
    /// Blocks of 128 images, for shards on hard disks and network file systems
    Blocks,
}

impl From<ShuffleOrder> for Shuffle {
    fn from(order: ShuffleOrder) -> Self {
        match order {
            ShuffleOrder::Full => Self::Full,
            ShuffleOrder::Blocks => Self::Blocks,
        }
    }
}

/// Which training images to use in each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SamplerName {
    /// Each image once
    Uniform,
    /// As many images, drawn with replacement so that each class has the same probability
    Balanced,
}

impl From<SamplerName> for Sampler {
    fn from(name: SamplerName) -> Self {
        match name {
            SamplerName::Uniform => Self::Uniform,
            SamplerName::Balanced => Self::Balanced,
        }
    }
}

/// Returns the data set named by `--data`, or the default one.
pub fn source(path: Option<&PathBuf>) -> DataSource {
    path.map(DataSource::from).unwrap_or_default()
}

/// `--exif-orientation` for commands that read the default from a weights file.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OrientationOption {
    /// Whether to apply the EXIF or XMP orientation of images [default: as in training]
    #[arg(long, value_name = "ACTION", value_enum)]
    exif_orientation: Option<OrientationAction>,
}

impl OrientationOption {
    /// Returns the given value.
    pub fn given(self) -> Option<ExifOrientation> {
        self.exif_orientation.map(ExifOrientation::from)
    }
}

/// What to do with the EXIF or XMP orientation of images.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum OrientationAction {
    /// Rotate images upright, as image viewers do
    Apply,
    /// Use images as they are stored, as torchvision does; TIFF images are always rotated
    Ignore,
}

impl From<OrientationAction> for ExifOrientation {
    fn from(action: OrientationAction) -> Self {
        match action {
            OrientationAction::Apply => Self::Apply,
            OrientationAction::Ignore => Self::Ignore,
        }
    }
}

/// What to do with an image that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BadImage {
    /// Stop with an error that names the image
    #[default]
    Error,
    /// Leave the image out and print its name
    Skip,
}

impl From<BadImage> for OnBadImage {
    fn from(choice: BadImage) -> Self {
        match choice {
            BadImage::Error => Self::Error,
            BadImage::Skip => Self::Skip,
        }
    }
}
