//! Test-time augmentation.

use alexnet::data::augment::views::Views;
use clap::ValueEnum;

/// The views of an image whose probabilities are averaged.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Tta {
    /// The image and its mirror image
    Flip,
    /// Crops of the four corners and the center, of 224/256 of width and height, and the mirror
    /// image of each
    TenCrop,
}

impl From<Tta> for Views {
    fn from(tta: Tta) -> Self {
        match tta {
            Tta::Flip => Self::Flip,
            Tta::TenCrop => Self::TenCrop,
        }
    }
}
