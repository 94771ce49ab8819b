//! What training varies: `torchvision.transforms.RandomResizedCrop(size, scale)` and `RandomHorizontalFlip()`, then what of the rest
//! is asked for.

use alexnet_core::rng::{Purpose, generator};
use rand::RngExt;

use crate::{erase::random_erasing, jitter::ColorJitter, resize::Crop};

/// How much training varies pictures and targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// Least and largest share of a picture's area that a crop covers (`scale` of `RandomResizedCrop`).
    pub crop_scale: [f64; 2],
    /// As in [`ColorJitter::random`]; 0 for none.
    pub color_jitter: f64,
    /// Probability that a rectangle is erased ([`random_erasing`]).
    pub random_erasing: f64,
    /// As in [`crate::mix::smooth_labels`].
    pub label_smoothing: f64,
    /// α of mixup ([`crate::mix::Mix`]); 0 for none.
    pub mixup: f64,
    /// α of cutmix ([`crate::mix::Mix`]); 0 for none.
    pub cutmix: f64,
}

impl Augmentation {
    /// The tutorial's.
    pub const TUTORIAL: Self = Self {
        crop_scale: [0.08, 1.0],
        color_jitter: 0.0,
        random_erasing: 0.0,
        label_smoothing: 0.0,
        mixup: 0.0,
        cutmix: 0.0,
    };
}

/// How one training picture is varied in one epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variation {
    /// The part that is resized to the network's input.
    pub crop: Crop,
    /// Whether left and right are exchanged afterwards.
    pub flip: bool,
    /// How its colours change then.
    pub jitter: Option<ColorJitter>,
    /// What of the network's input is erased in the end.
    pub erased: Option<Crop>,
}

impl Variation {
    /// All of a picture of `width`×`height`, as it is.
    pub fn none(width: u32, height: u32) -> Self {
        Self { crop: Crop::whole(width, height), flip: false, jitter: None, erased: None }
    }
}

/// The variation of the training item `item` (its index in [`crate::split::Dataset::train`]), a picture of
/// `width`×`height`, in `epoch` (from 0), for a network whose input is `size`×`size`.
pub fn variation(
    augmentation: &Augmentation,
    (seed, epoch, item): (u64, u64, usize),
    (width, height): (u32, u32),
    size: u32,
) -> Variation {
    let mut rng = generator(seed, Purpose::Augment, epoch, item as u64);
    let crop = random_resized_crop(augmentation.crop_scale, width, height, &mut rng);
    let flip = rng.random_bool(0.5);
    let jitter =
        (augmentation.color_jitter > 0.0).then(|| ColorJitter::random(augmentation.color_jitter, &mut rng));
    Variation { crop, flip, jitter, erased: random_erasing(augmentation.random_erasing, size, &mut rng) }
}

/// Width by height of a crop.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// The box of `torchvision.transforms.RandomResizedCrop.get_params`: ten attempts at a share of the area uniform in `scale` and a
/// ratio log-uniform in [`RATIO`], then the largest centred box whose ratio is in bounds.
fn random_resized_crop([least, most]: [f64; 2], width: u32, height: u32, rng: &mut impl RngExt) -> Crop {
    let scale = |rng: &mut _| if least < most { RngExt::random_range(rng, least..most) } else { most };
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn too_wide_and_too_tall_pictures_give_their_centre() {
        for (width, height, crop) in [
            (1000, 10, Crop { left: 493, top: 0, width: 13, height: 10 }),
            (10, 1000, Crop { left: 0, top: 493, width: 10, height: 13 }),
            (1000, 1, Crop { left: 499, top: 0, width: 1, height: 1 }),
        ] {
            for item in 0..100 {
                assert_eq!(variation(&Augmentation::TUTORIAL, (0, 0, item), (width, height), 224).crop, crop);
            }
        }
    }

    /// Draws the upper end of every range so many times, then the lower end.
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
            unreachable!("boxes are drawn from numbers")
        }
    }

    #[test]
    fn a_picture_of_good_ratio_is_whole_when_every_attempt_fails() {
        // 0.08 of one pixel rounds to none.
        assert_eq!(
            random_resized_crop(Augmentation::TUTORIAL.crop_scale, 1, 1, &mut HighestThenLowest(0)),
            Crop { left: 0, top: 0, width: 1, height: 1 }
        );
    }

    /// The whole area at the ratio 4/3 does not fit into a square; 0.08 of it at 3/4 does. An attempt draws two numbers
    /// before it fails, and there are ten.
    #[test]
    fn a_box_that_does_not_fit_is_drawn_again_ten_times_at_most() {
        let smallest = Crop { left: 0, top: 0, width: 24, height: 33 };
        let whole = Crop { left: 0, top: 0, width: 100, height: 100 };
        for (failures, expected) in [(0, smallest), (1, smallest), (9, smallest), (10, whole)] {
            let mut rng = HighestThenLowest(2 * failures);
            assert_eq!(
                random_resized_crop(Augmentation::TUTORIAL.crop_scale, 100, 100, &mut rng),
                expected,
                "{failures}"
            );
        }
    }

    #[test]
    fn crops_lie_inside_the_picture_and_half_are_flipped() {
        for (width, height) in [(320, 240), (3, 2), (1, 1), (17, 40), (65_535, 1)] {
            let mut flipped = 0;
            for item in 0..4000 {
                let Variation { crop, flip, .. } =
                    variation(&Augmentation::TUTORIAL, (1, 2, item), (width, height), 224);
                assert!(crop.width > 0 && crop.left + crop.width <= width);
                assert!(crop.height > 0 && crop.top + crop.height <= height);
                flipped += usize::from(flip);
            }
            assert!(flipped.abs_diff(2000) < 160, "{flipped}");
        }
    }

    #[test]
    fn seed_epoch_and_item_each_matter() {
        let base = variation(&Augmentation::TUTORIAL, (0, 0, 0), (320, 240), 224);
        assert_eq!(base, variation(&Augmentation::TUTORIAL, (0, 0, 0), (320, 240), 224));
        for (seed, epoch, item) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            assert_ne!(
                base.crop,
                variation(&Augmentation::TUTORIAL, (seed, epoch, item), (320, 240), 224).crop
            );
        }
    }
}
