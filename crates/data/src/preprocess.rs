//! Preprocesses images for evaluation and prediction: resizes the whole image, its center, or the
//! crop of each view, to the size of the network's input. [`crate::decode`] has already rotated the
//! image upright.

use image::RgbImage;

use crate::{augment::views::Views, framing::Framing, resize::Crop};

/// Returns the network's input for an image: `size`×`size` pixels of three bytes.
pub fn evaluation_image(image: &RgbImage, framing: Framing) -> Vec<u8> {
    let mut pixels = vec![0; framing.size * framing.size * 3];
    evaluation_views(image, Views::Whole, framing, &mut pixels);
    pixels
}

/// Writes the network's input for each view of an image to `pixels`, one after the other:
/// `size`×`size` pixels of three bytes each.
///
/// # Panics
/// If the length of `pixels` is not `views.count() * size * size * 3`, or if the shorter side is
/// resized to less than `size`.
pub fn evaluation_views(image: &RgbImage, views: Views, framing: Framing, pixels: &mut [u8]) {
    let size = framing.size;
    let views = views.of(image.dimensions().into(), framing);
    assert_eq!(pixels.len(), views.len() * size * size * 3);
    let whole = Crop::whole(image.width(), image.height());
    for (view, pixels) in views.into_iter().zip(pixels.chunks_exact_mut(size * size * 3)) {
        let crop = if view.window.is_some() { whole } else { view.crop };
        view.resize(image, crop, size, pixels);
    }
}
