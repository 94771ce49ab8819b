//! Rotation, shear and translation of an image to the nearest pixel, as Pillow's
//! `Image.transform(size, AFFINE, matrix, NEAREST)` computes them (`src/libImaging/Geometry.c`):
//! positions have 16 fractional bits, and pixels from outside the image are black.

/// `[a, b, c, d, e, f]`: the result at (x, y) is the image at (a·x + b·y + c, d·x + e·y + f), both
/// measured from the upper left corner of the image, so that the first pixel's center is (½, ½).
pub type Matrix = [f64; 6];

/// Returns the matrix of a rotation by `degrees` counterclockwise around the center of an image of
/// `width`×`height` pixels: `PIL.Image.rotate`, which `torchvision.transforms.RandomRotation` uses.
pub fn rotation(degrees: f64, [width, height]: [usize; 2]) -> Matrix {
    let angle = -degrees.rem_euclid(360.0).to_radians();
    let (sin, cos) = (rounded(angle.sin()), rounded(angle.cos()));
    let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
    [cos, sin, -cos * x - sin * y + x, -sin, cos, sin * x - cos * y + y]
}

/// Rounds to 15 decimals like Pillow, so that a quarter turn moves whole pixels.
fn rounded(value: f64) -> f64 {
    format!("{value:.15}").parse().unwrap_or(value)
}

/// Transforms an image of `width` columns, three bytes per pixel. Its sides are below 32,768, and so
/// are the positions that the matrix gives for its corners.
pub fn transform(pixels: &mut [u8], width: usize, [a, b, c, d, e, f]: Matrix) {
    let source = pixels.to_vec();
    let height = source.len() / 3 / width;
    let fixed = |value: f64| (value * 65_536.0 + 0.5).floor() as i64;
    let [of_x, of_y] = [[a, d], [b, e]].map(|by| by.map(fixed));
    let mut start = [c + 0.5 * a + 0.5 * b, f + 0.5 * d + 0.5 * e].map(fixed);
    for row in pixels.chunks_exact_mut(3 * width) {
        let [mut x, mut y] = start;
        for pixel in row.as_chunks_mut::<3>().0 {
            let (column, line) = (x >> 16, y >> 16);
            let is_inside =
                (0..width as i64).contains(&column) && (0..height as i64).contains(&line);
            *pixel = match is_inside {
                true => source.as_chunks().0[line as usize * width + column as usize],
                false => [0; 3],
            };
            (x, y) = (x + of_x[0], y + of_x[1]);
        }
        start = [start[0] + of_y[0], start[1] + of_y[1]];
    }
}
