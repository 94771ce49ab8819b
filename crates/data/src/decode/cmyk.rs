//! Converts CMYK to RGB.

/// Converts cyan, magenta, yellow and black to red, green and blue as Pillow's `convert('RGB')`
/// does.
pub fn to_rgb([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let light = 255 - black;
    [cyan, magenta, yellow].map(|ink| {
        // Pillow's rounding of `ink·light / 255`.
        let product = u32::from(ink) * u32::from(light) + 128;
        light - (((product >> 8) + product) >> 8) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cmyk_is_converted_as_by_pillow() {
        assert_eq!(to_rgb([0, 0, 0, 0]), [255; 3]);
        assert_eq!(to_rgb([255, 0, 0, 0]), [0, 255, 255]);
        assert_eq!(to_rgb([1, 2, 3, 255]), [0; 3]);
        assert_eq!(to_rgb([128, 64, 32, 127]), [64, 96, 112]);
    }
}
