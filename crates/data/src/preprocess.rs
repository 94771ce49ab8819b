//! Preprocesses images for evaluation and prediction: resizes the whole image, or the crop of each
//! view, to the size of the network's input. [`crate::decode`] has already rotated the image
//! upright.

use image::RgbImage;

use crate::{augment::views::Views, resize::resize_into};

/// Returns the network's input for an image: the whole image resized to `size`×`size` pixels of
/// three bytes (torchvision's `Resize((size, size))`).
pub fn evaluation_image(image: &RgbImage, size: usize) -> Vec<u8> {
    let mut pixels = vec![0; size * size * 3];
    evaluation_views(image, Views::Whole, size, &mut pixels);
    pixels
}

/// Writes the network's input for each view of an image to `pixels`, one after the other:
/// `size`×`size` pixels of three bytes each.
///
/// # Panics
/// If the length of `pixels` is not `views.count() * size * size * 3`.
pub fn evaluation_views(image: &RgbImage, views: Views, size: usize, pixels: &mut [u8]) {
    let views = views.of(image.width(), image.height());
    assert_eq!(pixels.len(), views.len() * size * size * 3);
    for (view, pixels) in views.into_iter().zip(pixels.chunks_exact_mut(size * size * 3)) {
        resize_into(image, view.crop, view.flip, size as u32, size as u32, pixels);
    }
}
