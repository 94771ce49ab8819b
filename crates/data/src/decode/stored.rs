//! The result of the decoder of a format.

use image::{RgbImage, metadata::Orientation};

/// An image as its file stores it.
pub struct StoredImage {
    pub image: RgbImage,
    /// How it must still be turned to be upright.
    pub orientation: Orientation,
    /// Whether the decoder has turned it already.
    pub turned: bool,
    /// Damage in spite of which all pixels could be read.
    pub notes: Vec<String>,
}

impl From<RgbImage> for StoredImage {
    fn from(image: RgbImage) -> Self {
        Self { image, orientation: Orientation::NoTransforms, turned: false, notes: vec![] }
    }
}
