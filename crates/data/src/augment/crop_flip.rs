//! Random crops and vertical flips: `torchvision.transforms.RandomResizedCrop`, `RandomCrop` and
//! `RandomVerticalFlip`.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{framing::Window, resize::Crop};

/// How the network's input is cropped from a training image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropMode {
    /// A random part of random size and ratio is resized ([`random_resized_crop`]).
    #[default]
    RandomResized,
    /// A random part of the center square of the resized image ([`random_window`]).
    Random,
    /// The center of the resized image ([`Window::center`]).
    Center,
}

/// Bounds of a crop's aspect ratio, width by height.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// Draws a crop like `torchvision.transforms.RandomResizedCrop.get_params`: in up to ten attempts,
/// a share of the area uniform in the given range and a ratio log-uniform in `RATIO`. If no crop
/// fits, returns the largest centered crop whose ratio is in bounds.
pub fn random_resized_crop(
    [least, most]: [f64; 2],
    width: u32,
    height: u32,
    rng: &mut impl RngExt,
) -> Crop {
    let scale =
        |rng: &mut _| if least < most { RngExt::random_range(rng, least..most) } else { most };
    let area = f64::from(width) * f64::from(height);
    let log_ratio = RATIO.0.ln()..RATIO.1.ln();
    for _ in 0..10 {
        let target_area = area * scale(rng);
        let ratio = rng.random_range(log_ratio.clone()).exp();
        let w = (target_area * ratio).sqrt().round_ties_even() as u32;
        let h = (target_area / ratio).sqrt().round_ties_even() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = rng.random_range(0..=height - h);
            let left = rng.random_range(0..=width - w);
            return Crop { left, top, width: w, height: h };
        }
    }
    let ratio = f64::from(width) / f64::from(height);
    let (w, h) = if ratio < RATIO.0 {
        (width, (f64::from(width) / RATIO.0).round_ties_even() as u32)
    } else if ratio > RATIO.1 {
        ((f64::from(height) * RATIO.1).round_ties_even() as u32, height)
    } else {
        (width, height)
    };
    Crop { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

/// Draws the crop of the paper's section 4.1, "Data augmentation": the shorter side of an image of
/// `width`×`height` pixels is resized to `short` pixels, the center square is cropped, and of it a
/// random square of `side` pixels: `Resize(short)`, `CenterCrop(short)`, `RandomCrop(side)`.
pub fn random_window(
    [width, height]: [u32; 2],
    short: u32,
    side: u32,
    rng: &mut impl RngExt,
) -> Window {
    let square = Window::center([width, height], short, short);
    let [top, left] = [0; 2].map(|least| rng.random_range(least..=short - side));
    square.square([left, top], side)
}

/// Mirrors an image of `width` columns vertically, three bytes per pixel.
pub fn flip_rows(pixels: &mut [u8], width: usize) {
    let row = 3 * width;
    let rows = pixels.len() / row;
    let (above, below) = pixels.split_at_mut(rows / 2 * row);
    let pairs = above.chunks_exact_mut(row).zip(below.chunks_exact_mut(row).rev());
    pairs.for_each(|(upper, lower)| upper.swap_with_slice(lower));
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const SCALE: [f64; 2] = [0.08, 1.0];

    /// Gives the largest random number the given number of times, then the smallest.
    struct HighestThenLowest(usize);

    impl rand::TryRng for HighestThenLowest {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            self.try_next_u64().map(|bits| bits as u32)
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Ok(u64::MAX)
                }
                None => Ok(0),
            }
        }

        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
            unreachable!("crops are drawn from numbers")
        }
    }

    #[test]
    fn the_whole_image_is_used_if_all_attempts_fail() {
        // 0.08 of one pixel rounds to 0 pixels.
        assert_eq!(
            random_resized_crop(SCALE, 1, 1, &mut HighestThenLowest(0)),
            Crop { left: 0, top: 0, width: 1, height: 1 }
        );
    }

    /// The whole area with the ratio 4/3 does not fit into a square; 0.08 of the area with the
    /// ratio 3/4 does. A failing attempt draws two numbers.
    #[test]
    fn there_are_ten_attempts_to_draw_a_crop_that_fits() {
        let smallest = Crop { left: 0, top: 0, width: 24, height: 33 };
        let whole = Crop { left: 0, top: 0, width: 100, height: 100 };
        for (failures, expected) in [(0, smallest), (1, smallest), (9, smallest), (10, whole)] {
            let mut rng = HighestThenLowest(2 * failures);
            assert_eq!(random_resized_crop(SCALE, 100, 100, &mut rng), expected, "{failures}");
        }
    }
}
