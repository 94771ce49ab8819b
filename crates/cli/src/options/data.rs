//! Which images, and how they are read.

use std::path::PathBuf;

use alexnet::{DataSource, TrainConfig, core::ExifOrientation, data::loader::OnBadImage};
use clap::ValueEnum;

use crate::parse;

/// Which images, and how they are read.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Data")]
pub struct DataOptions {
    /// Folder with train/ and val/, folder of class folders, or .tgz, .tar or .zip [default: data/flower_photos, else drawn flowers]
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Share of each class that validates, where the folder is not split
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = parse::fraction)]
    pub val_fraction: f64,
    /// What happens when an image cannot be read [default: error]
    #[arg(long, value_name = "ACTION", value_enum)]
    pub on_bad_image: Option<BadImage>,
    /// Whether images are turned as their EXIF or XMP says [default: that of --weights, else apply]
    #[arg(long, value_name = "ACTION", value_enum)]
    pub exif_orientation: Option<Turning>,
}

impl DataOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        config.data = source(self.data.as_ref());
        config.val_fraction = self.val_fraction;
        config.on_bad_image = self.on_bad_image.unwrap_or_default().into();
        config.exif_orientation = self.exif_orientation.map(ExifOrientation::from);
    }
}

/// What `--data` names, or the usual places.
pub fn source(path: Option<&PathBuf>) -> DataSource {
    path.map(DataSource::from).unwrap_or_default()
}

/// `--exif-orientation` where weights say what they were trained with.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OrientationOption {
    /// Whether images are turned as their EXIF or XMP says [default: as in training]
    #[arg(long, value_name = "ACTION", value_enum)]
    exif_orientation: Option<Turning>,
}

impl OrientationOption {
    /// What was asked for.
    pub fn asked(self) -> Option<ExifOrientation> {
        self.exif_orientation.map(ExifOrientation::from)
    }
}

/// Whether images are turned.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Turning {
    /// Turn images upright, as viewers show them
    Apply,
    /// Take images as they are stored, as torchvision does; TIFF is turned all the same
    Ignore,
}

impl From<Turning> for ExifOrientation {
    fn from(turning: Turning) -> Self {
        match turning {
            Turning::Apply => Self::Apply,
            Turning::Ignore => Self::Ignore,
        }
    }
}

/// What happens when an image cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BadImage {
    /// Stop and name it
    #[default]
    Error,
    /// Leave it out and say so
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
