//! Preprocessing of images for a classifier: decoding and resizing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use alexnet_core::Error as CoreError;
use alexnet_data::{
    augment::views::Views,
    dataset::{Images, Item},
    decode::{self, Decoded, decode, decode_bytes},
    framing::Framing,
    preprocess::evaluation_views,
};
use image::{DynamicImage, RgbImage};

use crate::Result;

/// An image to classify.
#[derive(Clone, Debug)]
pub enum ImageSource<'a> {
    /// A file.
    Path(PathBuf),
    /// An image of a data set, which may be in shards.
    Listed(Arc<Images>, Item),
    /// The bytes of a file.
    Bytes(&'a [u8]),
    /// Pixels. An alpha channel is dropped, as for files.
    Image(&'a DynamicImage),
}

impl From<&str> for ImageSource<'_> {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl From<&Path> for ImageSource<'_> {
    fn from(path: &Path) -> Self {
        Self::Path(path.into())
    }
}

impl From<PathBuf> for ImageSource<'_> {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&PathBuf> for ImageSource<'_> {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl<'a> From<&'a [u8]> for ImageSource<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for ImageSource<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&ImageSource<'a>> for ImageSource<'a> {
    fn from(image: &ImageSource<'a>) -> Self {
        image.clone()
    }
}

impl<'a> From<&'a DynamicImage> for ImageSource<'a> {
    fn from(image: &'a DynamicImage) -> Self {
        Self::Image(image)
    }
}

/// Decodes images and resizes them to the input of a network. It needs no engine, so that other
/// threads can prepare images while the network computes.
///
/// ```no_run
/// let mut classifier = alexnet::Classifier::load("runs/train")?;
/// let preprocessor = classifier.preprocessor();
/// let image = preprocessor.preprocess("tulip.jpg")?;
/// let predictions = classifier.predict_preprocessed(vec![image])?;
/// # Ok::<(), alexnet::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Preprocessor {
    /// The options for decoding image files.
    pub decoding: decode::Options,
    /// The part of an image that becomes the network's input.
    pub framing: Framing,
    /// The views of an image.
    pub views: Views,
}

/// An image of the size of a network's input.
#[derive(Clone, Debug, Default)]
pub struct Preprocessed {
    /// `[views, size, size, 3]`.
    pub(crate) pixels: Vec<u8>,
    pub(crate) size: usize,
    pub(crate) damage: Vec<String>,
}

impl Preprocessor {
    /// Decodes an image and resizes it.
    ///
    /// # Errors
    /// [`crate::Error::Data`] when it cannot be read.
    pub fn preprocess<'a>(&self, image: impl Into<ImageSource<'a>>) -> Result<Preprocessed> {
        let Self { decoding, framing, views } = *self;
        let preprocessed = |image: &RgbImage, damage| {
            let size = framing.size;
            let mut pixels = vec![0; views.count() * size * size * 3];
            evaluation_views(image, views, framing, &mut pixels);
            Preprocessed { pixels, size, damage }
        };
        let image = image.into();
        if let ImageSource::Image(DynamicImage::ImageRgb8(image)) = image {
            // Without the copy that `read` makes.
            return Ok(preprocessed(image, vec![]));
        }
        let (image, damage) = read(&image, decoding)?;
        Ok(preprocessed(&image, damage))
    }
}

/// Decodes an image, and returns the damage in its file.
pub(crate) fn read(
    image: &ImageSource,
    decoding: decode::Options,
) -> Result<(RgbImage, Vec<String>)> {
    let Decoded { image, notes, .. } = match image {
        ImageSource::Path(path) => {
            // Reading a pipe could block forever.
            alexnet_core::files::open(path).map_err(CoreError::io("open", path))?;
            decode(path, decoding)?
        }
        ImageSource::Listed(images, item) => images.decode(*item, decoding)?,
        ImageSource::Bytes(bytes) => decode_bytes("-", bytes, decoding)?,
        ImageSource::Image(image) => return Ok((image.to_rgb8(), vec![])),
    };
    Ok((image, notes))
}
