//! PNM, through the `image` crate.

use image::{ImageFormat, RgbImage};

use super::library;

pub fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    library::decode(ImageFormat::Pnm, bytes)
}
