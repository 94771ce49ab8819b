//! The description of the server: the weights, the engine and the limits.

use alexnet::Classifier;
use serde::Serialize;
use utoipa::ToSchema;

use crate::ServeConfig;

/// The network that the server uses.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Info {
    /// `alexnet`
    name: &'static str,
    /// The version of the program
    version: &'static str,
    /// The weights file
    weights: String,
    /// The variant of the network
    variant: String,
    /// The engine
    pub engine: &'static str,
    /// The device of the engine
    device: String,
    /// The names of the classes, in the order of the network's outputs
    pub classes: Vec<String>,
    /// The side of the network's input in pixels
    pub input_size: usize,
    /// The pixels that the shorter side of an image is resized to, before the center of
    /// `input_size` pixels is cropped; `null` if the whole image is resized
    resize_crop: Option<u32>,
    /// Whether the EXIF or XMP orientation is applied to images: `apply` or `ignore`
    exif_orientation: &'static str,
    /// Largest body of a request in bytes
    max_body: usize,
    /// Largest number of images in a request
    max_images: usize,
    /// Largest number of pixels of an image
    max_pixels: u64,
}

impl Info {
    /// Describes a classifier.
    pub fn new(classifier: &Classifier, config: &ServeConfig) -> Self {
        let metadata = classifier.metadata();
        let engine = classifier.engine();
        Self {
            name: "alexnet",
            version: env!("CARGO_PKG_VERSION"),
            weights: classifier.path().to_string_lossy().into_owned(),
            variant: metadata.variant.to_string(),
            engine: engine.backend.name(),
            device: engine.device.to_string(),
            classes: metadata.classes.clone(),
            input_size: metadata.input_size,
            resize_crop: metadata.resize_crop,
            exif_orientation: classifier.preprocessor().decoding.orientation.name(),
            max_body: config.max_body,
            max_images: config.max_images,
            max_pixels: config.max_pixels,
        }
    }
}
