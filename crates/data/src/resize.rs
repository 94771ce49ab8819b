//! Antialiased bilinear resizing of a part of a picture, as Pillow's `Image.crop(…).resize(…, BILINEAR)` computes it and
//! torchvision's `resized_crop` and `Resize` use it.

use std::cell::RefCell;

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedCroppedImage, TypedImage, TypedImageRef},
    pixels::U8x3,
};
use image::RgbImage;

/// A part of a picture, in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Columns left of it.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Its width, at least 1.
    pub width: u32,
    /// Its height, at least 1.
    pub height: u32,
}

impl Crop {
    /// All of a picture.
    pub fn whole(picture: &RgbImage) -> Self {
        Self { left: 0, top: 0, width: picture.width(), height: picture.height() }
    }
}

thread_local! {
    // Keeps the buffer between the two passes.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Resizes `crop` to `width`×`height` pixels of three bytes, row by row. Pixels outside the crop have no influence.
///
/// # Panics
/// When `crop` is empty or not inside the picture, or when `width` or `height` is 0.
pub fn resize(picture: &RgbImage, crop: Crop, width: u32, height: u32) -> Vec<u8> {
    let mut pixels = vec![0; width as usize * height as usize * 3];
    resize_into(picture, crop, width, height, &mut pixels);
    pixels
}

/// [`resize`] into `width·height·3` bytes.
///
/// # Panics
/// As [`resize`], and when `pixels` is of another length.
pub fn resize_into(picture: &RgbImage, crop: Crop, width: u32, height: u32, pixels: &mut [u8]) {
    assert!(width > 0 && height > 0, "a picture has at least one pixel");
    // The typed calls: the untyped ones compile the kernels of every pixel type there is, which takes minutes.
    let source = TypedImageRef::<U8x3>::from_buffer(picture.width(), picture.height(), picture.as_raw())
        .expect("an RgbImage holds width·height·3 bytes");
    // A view, so that the kernel ends at the crop's edge; the library's own crop option reads across it.
    let source = TypedCroppedImage::new(source, crop.left, crop.top, crop.width, crop.height)
        .expect("the crop lies inside the picture");
    let mut target = TypedImage::<U8x3>::from_buffer(width, height, pixels)
        .expect("the target holds width·height·3 bytes");
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize_typed(&source, &mut target, &options))
        .expect("the crop and the target have pixels");
}
