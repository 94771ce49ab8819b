//! Random erasing: `torchvision.transforms.RandomErasing(p)` with its defaults, which is timm's
//! `reprob`.

use rand::RngExt;

use crate::resize::Crop;

/// Bounds of the share of the area that is erased.
const SCALE: (f64, f64) = (0.02, 0.33);
/// Bounds of the aspect ratio of the erased rectangle, height by width.
const RATIO: (f64, f64) = (0.3, 3.3);

/// Draws, with probability `p`, a rectangle of an image of `size`×`size` pixels. `None` if no
/// rectangle is erased or ten attempts do not fit.
pub fn random_erasing(p: f64, size: u32, rng: &mut impl RngExt) -> Option<Crop> {
    if !rng.random_bool(p) {
        return None;
    }
    let area = f64::from(size) * f64::from(size);
    (0..10).find_map(|_| {
        let area = area * rng.random_range(SCALE.0..SCALE.1);
        let ratio = rng.random_range(RATIO.0.ln()..RATIO.1.ln()).exp();
        let height = (area * ratio).sqrt().round_ties_even() as u32;
        let width = (area / ratio).sqrt().round_ties_even() as u32;
        if height >= size || width >= size {
            return None;
        }
        let (top, left) = (rng.random_range(0..=size - height), rng.random_range(0..=size - width));
        Some(Crop { left, top, width, height })
    })
}

/// Fills a rectangle of an image of `size` columns, three bytes per pixel.
pub fn erase(pixels: &mut [u8], size: usize, area: Crop, color: [u8; 3]) {
    let Crop { left, top, width, height } = area;
    let rows = pixels.chunks_exact_mut(3 * size).skip(top as usize).take(height as usize);
    for row in rows {
        row[3 * left as usize..][..3 * width as usize].as_chunks_mut().0.fill(color);
    }
}
