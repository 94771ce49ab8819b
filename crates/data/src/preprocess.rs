//! Preprocesses an image for evaluation and prediction: the whole image, which [`crate::decode`] has turned upright, or the crop of
//! each view is resized to the size of the network's input.

use image::RgbImage;

use crate::{augment::views::Views, resize::resize_into};

/// The network's input for an image, `size`×`size` pixels of three bytes: the whole image, resized (torchvision's
/// `Resize((size, size))`).
pub fn evaluation_image(image: &RgbImage, size: usize) -> Vec<u8> {
    let mut pixels = vec![0; size * size * 3];
    evaluation_views(image, Views::Whole, size, &mut pixels);
    pixels
}

/// Writes the network's input for each view of an image to `pixels`, one after the other, each of `size`×`size` pixels of three
/// bytes.
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
