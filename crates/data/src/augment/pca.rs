//! Color noise along the principal components of ImageNet's colors: section 4.1 of the paper, "Data
//! augmentation".

use rand::RngExt;
use rand_distr::{Distribution, Normal};

/// The eigenvalues of ImageNet's colors, between 0 and 1, the largest first, and the eigenvectors as
/// columns for red, green and blue. The numbers are those of fb.resnet.torch
/// (`datasets/imagenet.lua`), which many programs use.
const EIGENVALUES: [f64; 3] = [0.2175, 0.0188, 0.0045];
const EIGENVECTORS: [[f64; 3]; 3] =
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]];

/// Returns what is added to the bytes of red, green and blue for the weights `alpha` of the
/// components.
pub fn shift(alpha: [f64; 3]) -> [f64; 3] {
    EIGENVECTORS.map(|row| {
        let terms = row.into_iter().zip(EIGENVALUES).zip(alpha);
        255.0 * terms.map(|((vector, value), alpha)| vector * value * alpha).sum::<f64>()
    })
}

/// Draws the [`shift`] of an image, with weights from N(0, `std`²).
pub fn random_shift(std: f64, rng: &mut impl RngExt) -> [f64; 3] {
    let alpha = Normal::new(0.0, std).map(|normal| [0; 3].map(|_| normal.sample(rng)));
    alpha.map_or([0.0; 3], shift)
}

/// Adds a number to the bytes of each color of an image of any size. The sums are rounded and
/// clipped to bytes.
pub fn add(shift: [f64; 3], pixels: &mut [u8]) {
    let tables: [[u8; 256]; 3] = shift
        .map(|shift| std::array::from_fn(|byte| (byte as f64 + shift).round_ties_even() as u8));
    for pixel in pixels.as_chunks_mut::<3>().0 {
        for (byte, table) in pixel.iter_mut().zip(&tables) {
            *byte = table[usize::from(*byte)];
        }
    }
}
