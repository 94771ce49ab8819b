//! BMP, through the `image` crate.

use image::{ImageFormat, RgbImage};

use super::{library, room::Room};

pub fn decode(bytes: &[u8], room: &mut Room) -> Result<RgbImage, String> {
    library::decode(ImageFormat::Bmp, bytes, room)
}
