//! Limits of the sizes of images and files.

/// Largest number of pixels, 8192×8192; larger images are refused by their header.
pub const MAX_PIXELS: u64 = 1 << 26;

/// Longest side in pixels, that of a JPEG; images with a longer one are refused by their header.
pub const MAX_SIDE: u64 = 65_535;

/// Largest file that is read: 128 MiB.
pub const MAX_FILE_BYTES: u64 = 128 << 20;

/// Checks the size that a header tells.
///
/// # Errors
/// A message, when the image is too large or has no pixels.
pub fn check_size(width: u64, height: u64) -> Result<(), String> {
    if width.max(height) > MAX_SIDE {
        return Err(format!("it has {width}×{height} pixels, and the limit is {MAX_SIDE} a side"));
    }
    match width * height {
        0 => Err("it has no pixels".into()),
        1..=MAX_PIXELS => Ok(()),
        _ => Err(format!("it has {width}×{height} pixels, and the limit is {MAX_PIXELS} in all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_bounds() {
        assert!(check_size(65_535, 1024).is_ok() && check_size(8192, 8192).is_ok());
        for (width, height, words) in [
            (0, 5, "no pixels"),
            (67_108_864, 1, "65535 a side"),
            (1, 65_536, "65535 a side"),
            (8192, 8193, "67108864 in all"),
        ] {
            assert!(check_size(width, height).unwrap_err().contains(words), "{width}×{height}");
        }
    }
}
