//! What evaluation, prediction and the preview make of a decoded image: the pixels that the network sees.
//!
//! [`crate::decode`] has turned the image upright. All of it, or the part that a view shows, is resized to the network's input.

use image::RgbImage;

use crate::{augment::views::Views, resize::resize_into};

/// An image as the network sees it in evaluation, `size`×`size` pixels of three bytes: all of it, resized
/// (torchvision's `Resize((size, size))`).
pub fn evaluation_image(image: &RgbImage, size: usize) -> Vec<u8> {
    let mut pixels = vec![0; size * size * 3];
    evaluation_views(image, Views::Whole, size, &mut pixels);
    pixels
}

/// Fills `pixels` with all views of an image, one after the other, each of `size`×`size` pixels of three bytes.
///
/// # Panics
/// When `pixels` is of another length.
pub fn evaluation_views(image: &RgbImage, views: Views, size: usize, pixels: &mut [u8]) {
    let views = views.of(image.width(), image.height());
    assert_eq!(pixels.len(), views.len() * size * size * 3);
    for (view, pixels) in views.into_iter().zip(pixels.chunks_exact_mut(size * size * 3)) {
        resize_into(image, view.crop, view.flip, size as u32, size as u32, pixels);
    }
}
