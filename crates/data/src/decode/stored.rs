//! What the decoder of a format finds in a file.

use image::{RgbImage, metadata::Orientation};

/// What a format's decoder finds in a file.
pub struct StoredImage {
    pub image: RgbImage,
    /// How it is still to be turned.
    pub orientation: Orientation,
    /// Whether it was turned already.
    pub turned: bool,
    pub notes: Vec<String>,
}

impl From<RgbImage> for StoredImage {
    fn from(image: RgbImage) -> Self {
        Self { image, orientation: Orientation::NoTransforms, turned: false, notes: vec![] }
    }
}
