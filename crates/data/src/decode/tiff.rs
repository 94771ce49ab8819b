//! TIFF, through the `image` crate.

use image::ImageFormat;

use super::{Found, library, room::Room};

pub fn decode(bytes: &[u8], room: &mut Room) -> Result<Found, String> {
    library::decode(ImageFormat::Tiff, bytes, room).map(Found::from)
}
