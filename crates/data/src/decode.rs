//! A file's bytes become an RGB picture, as Pillow's `Image.open(file).convert("RGB")` gives it.

use std::path::Path;

use image::RgbImage;

use crate::{Error, Result};

/// Decodes a picture file.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Picture`] when its content is not a whole picture.
pub fn decode(path: impl AsRef<Path>) -> Result<RgbImage> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    decode_bytes(path, &bytes)
}

/// Decodes the bytes of a picture; `name` stands for them in an error.
///
/// # Errors
/// [`Error::Picture`] when they are not a whole picture.
pub fn decode_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<RgbImage> {
    image::load_from_memory(bytes)
        .map(image::DynamicImage::into_rgb8)
        .map_err(|e| Error::Picture { path: name.as_ref().to_owned(), reason: e.to_string() })
}
