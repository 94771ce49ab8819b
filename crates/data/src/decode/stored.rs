//! The result of a format's decoder.

use image::{RgbImage, metadata::Orientation};

/// An image as its file stores it.
pub struct StoredImage {
    pub image: RgbImage,
    /// The transform that makes it upright, if the decoder did not apply it.
    pub orientation: Orientation,
    /// Whether the decoder has already rotated it.
    pub turned: bool,
    /// Damage that did not prevent reading all pixels.
    pub notes: Vec<String>,
}

impl From<RgbImage> for StoredImage {
    fn from(image: RgbImage) -> Self {
        Self { image, orientation: Orientation::NoTransforms, turned: false, notes: vec![] }
    }
}
