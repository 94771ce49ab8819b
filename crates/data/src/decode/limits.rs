//! Limits of the sizes of images and files.

/// Largest number of pixels, 8192×8192. Larger images are refused as soon as their header is read.
pub const MAX_PIXELS: u64 = 1 << 26;

/// Largest width and height in pixels, which is the limit of JPEG. Larger images are refused as
/// soon as their header is read.
pub const MAX_SIDE: u64 = 65_535;

/// Largest file that is read: 128 MiB.
pub const MAX_FILE_BYTES: u64 = 128 << 20;

/// Checks the size in a header against the limits of all images.
///
/// # Errors
/// A message, if the image is too large or has no pixels.
pub fn check_size(width: u64, height: u64) -> Result<(), String> {
    check_size_within(MAX_PIXELS, width, height)
}

/// Checks the size in a header against a limit of the number of pixels.
///
/// # Errors
/// A message, if the image is too large or has no pixels.
pub fn check_size_within(max_pixels: u64, width: u64, height: u64) -> Result<(), String> {
    if width.max(height) > MAX_SIDE {
        return Err(format!(
            "it has {width}×{height} pixels, and the limit is {MAX_SIDE} per side"
        ));
    }
    match width * height {
        0 => Err("it has no pixels".into()),
        pixels if pixels <= max_pixels => Ok(()),
        _ => Err(format!("it has {width}×{height} pixels, and the limit is {max_pixels} in total")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_above_the_limits_are_refused() {
        assert!(check_size(65_535, 1024).is_ok() && check_size(8192, 8192).is_ok());
        for (width, height, reason) in [
            (0, 5, "no pixels"),
            (67_108_864, 1, "65535 per side"),
            (1, 65_536, "65535 per side"),
            (8192, 8193, "67108864 in total"),
        ] {
            assert!(check_size(width, height).unwrap_err().contains(reason), "{width}×{height}");
        }
    }
}
