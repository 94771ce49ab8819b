//! Prepares an image for a shard: its bytes as they are, or resized.

use image::RgbImage;
use libjpeg_turbo_rs::{Encoder, PixelFormat};

use super::PackOptions;
use crate::{
    Error, Result,
    check::size_of_complete,
    dataset::{Images, Item, folder::EXTENSIONS},
    decode::{ExifOrientation, Options, decode_bytes},
    resize::{Crop, resize},
};

/// An image as it is stored in a shard.
pub struct Packable {
    /// Its file.
    pub bytes: Vec<u8>,
    /// Its extension in the shard, without a dot.
    pub extension: String,
    /// Width and height, before it is turned as its metadata says; `None` if it cannot be decoded.
    pub size: Option<[u32; 2]>,
}

/// Reads an image, and resizes it if it is larger than the options allow.
///
/// # Errors
/// [`Error::Io`] and [`Error::Image`] if it cannot be read. An image that cannot be decoded is not
/// an error.
pub fn prepare(images: &Images, item: Item, options: &PackOptions) -> Result<Packable> {
    // The memory is released at once, because other images are prepared at the same time.
    let (bytes, _) = images.read(item)?;
    let (_, name) = images.parts(item);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
    let extension = extension.filter(|extension| EXTENSIONS.contains(&extension.as_str()));
    let packable =
        Packable { extension: extension.unwrap_or_else(|| "jpg".into()), ..describe(bytes) };
    let is_larger =
        |size: [u32; 2]| options.max_side > 0 && size[0].max(size[1]) > options.max_side;
    if !packable.size.is_some_and(is_larger) {
        return Ok(packable);
    }
    let decoded = decode_bytes(images.file(item), &packable.bytes, Options::default());
    let Ok(decoded) = decoded else { return Ok(Packable { size: None, ..packable }) };
    let [width, height] = within(decoded.image.dimensions(), options.max_side);
    let pixels = shrunk(&decoded.image, width, height);
    drop(decoded);
    let encoder = Encoder::new(&pixels, width as usize, height as usize, PixelFormat::Rgb);
    let bytes = encoder.quality(options.quality).encode().map_err(|error| Error::Image {
        path: images.file(item),
        reason: format!("it cannot be stored as JPEG: {error}"),
    })?;
    Ok(Packable { bytes, extension: "jpg".into(), size: Some([width, height]) })
}

/// Describes the file of an image. Most files are not decoded.
pub fn describe(bytes: Vec<u8>) -> Packable {
    let size = size_of_complete(&bytes).map(|(width, height)| [width, height]).or_else(|| {
        let stored = Options { orientation: ExifOrientation::Ignore, ..Options::default() };
        let image = decode_bytes("-", &bytes, stored).ok()?.image;
        Some([image.width(), image.height()])
    });
    Packable { bytes, extension: "jpg".into(), size }
}

/// Returns the largest size with the same proportions whose longer side is `side`.
fn within((width, height): (u32, u32), side: u32) -> [u32; 2] {
    let longer = f64::from(width.max(height));
    [width, height].map(|own| {
        let scaled = f64::from(own) * f64::from(side) / longer;
        (scaled.round() as u32).max(1)
    })
}

fn shrunk(image: &RgbImage, width: u32, height: u32) -> Vec<u8> {
    resize(image, Crop::whole(image.width(), image.height()), width, height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_is_the_limit() {
        assert_eq!(within((500, 375), 256), [256, 192]);
        assert_eq!(within((375, 500), 256), [192, 256]);
        assert_eq!(within((10_000, 3), 256), [256, 1]);
    }
}
