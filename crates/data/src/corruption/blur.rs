//! Gaussian blur.

use super::rounded;

/// Blurs an image of `size`×`size` pixels of three bytes with a standard deviation in pixels, up to
/// four of them away. Pixels of the border are repeated outside of the image
/// (`scipy.ndimage.gaussian_filter(mode="nearest")`, which `skimage.filters.gaussian` calls).
pub fn gaussian(pixels: &mut [u8], size: usize, deviation: f64) {
    let radius = (4.0 * deviation + 0.5) as usize;
    let weight = |distance: usize| (-0.5 * (distance as f64 / deviation).powi(2)).exp();
    let sum = weight(0) + 2.0 * (1..=radius).map(weight).sum::<f64>();
    let weights: Vec<f64> = (0..=2 * radius).map(|i| weight(i.abs_diff(radius)) / sum).collect();
    let position = |at: usize, offset: usize| (at + offset).saturating_sub(radius).min(size - 1);

    let mut columns_blurred = vec![[0.0; 3]; size * size];
    for (y, row) in columns_blurred.chunks_exact_mut(size).enumerate() {
        for (offset, weight) in weights.iter().enumerate() {
            let from = &pixels[3 * size * position(y, offset)..][..3 * size];
            for (sums, bytes) in row.iter_mut().zip(from.as_chunks::<3>().0) {
                sums.iter_mut()
                    .zip(bytes)
                    .for_each(|(sum, byte)| *sum += weight * f64::from(*byte));
            }
        }
    }
    let rows = pixels.chunks_exact_mut(3 * size).zip(columns_blurred.chunks_exact(size));
    for (row, from) in rows {
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let mut sums = [0.0; 3];
            for (offset, weight) in weights.iter().enumerate() {
                let color = &from[position(x, offset)];
                sums.iter_mut().zip(color).for_each(|(sum, color)| *sum += weight * color);
            }
            *pixel = sums.map(rounded);
        }
    }
}
