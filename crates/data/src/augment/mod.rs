//! Augmentation of training images ([`crop_flip`], [`jitter`], [`mod@erase`]), mixing of the images
//! of a batch ([`mix`]), and the views of an image that evaluation averages over ([`views`]).
//!
//! Training images are transformed by `torchvision.transforms.RandomResizedCrop(size, scale)` and
//! `RandomHorizontalFlip()`, then by the other enabled transforms.

pub mod crop_flip;
pub mod erase;
pub mod jitter;
pub mod mix;
pub mod views;

use alexnet_core::rng::{Purpose, generator};
use image::RgbImage;

use serde::{Deserialize, Serialize};

use self::{
    crop_flip::{random_flip, random_resized_crop},
    erase::{erase, random_erasing},
    jitter::ColorJitter,
};
use crate::resize::{Crop, resize_into};

/// Settings of the augmentation of images and targets in training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Augmentation {
    /// Smallest and largest share of an image's area that a crop covers (`scale` of
    /// `RandomResizedCrop`).
    pub crop_scale: [f64; 2],
    /// Strength of color jitter, as in [`ColorJitter::random`]; 0 disables it.
    pub color_jitter: f64,
    /// Probability that a rectangle is erased ([`random_erasing`]).
    pub random_erasing: f64,
    /// Label smoothing ε, as in [`mix::smooth_labels`].
    pub label_smoothing: f64,
    /// α of mixup ([`mix::Mix`]); 0 disables it.
    pub mixup: f64,
    /// α of cutmix ([`mix::Mix`]); 0 disables it.
    pub cutmix: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self::TUTORIAL
    }
}

impl Augmentation {
    /// The augmentation of the tutorial: crops and flips.
    pub const TUTORIAL: Self = Self {
        crop_scale: [0.08, 1.0],
        color_jitter: 0.0,
        random_erasing: 0.0,
        label_smoothing: 0.0,
        mixup: 0.0,
        cutmix: 0.0,
    };
}

/// The augmentation of one training image in one epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variation {
    /// The crop that is resized to the network's input.
    pub crop: Crop,
    /// Whether the resized crop is mirrored horizontally.
    pub flip: bool,
    /// Color jitter, applied after the flip.
    pub jitter: Option<ColorJitter>,
    /// The rectangle of the network's input that is erased last.
    pub erased: Option<Crop>,
}

impl Variation {
    /// Returns the variation that changes nothing, for an image of `width`×`height` pixels.
    pub fn none(width: u32, height: u32) -> Self {
        Self { crop: Crop::whole(width, height), flip: false, jitter: None, erased: None }
    }

    /// Fills `pixels` with the network's input, `size`×`size` pixels of three bytes. `image` may be
    /// a part of the original image that includes the crop; `crop` is its position in `image`. The
    /// erased rectangle gets the color `fill`.
    ///
    /// # Panics
    /// In the cases of [`resize_into`].
    pub fn apply(
        &self,
        image: &RgbImage,
        crop: Crop,
        size: usize,
        fill: [u8; 3],
        pixels: &mut [u8],
    ) {
        resize_into(image, crop, self.flip, size as u32, size as u32, pixels);
        if let Some(jitter) = self.jitter {
            jitter.apply(pixels);
        }
        if let Some(area) = self.erased {
            erase(pixels, size, area, fill);
        }
    }
}

/// Draws the augmentation of the training item `item` (its index in
/// [`crate::dataset::Dataset::train`]), an image of `width`×`height`, in `epoch` (from 0), for a
/// network whose input is `size`×`size`.
pub fn variation(
    augmentation: &Augmentation,
    (seed, epoch, item): (u64, u64, usize),
    (width, height): (u32, u32),
    size: u32,
) -> Variation {
    let mut rng = generator(seed, Purpose::Augment, epoch, item as u64);
    let crop = random_resized_crop(augmentation.crop_scale, width, height, &mut rng);
    let flip = random_flip(&mut rng);
    let jitter = (augmentation.color_jitter > 0.0)
        .then(|| ColorJitter::random(augmentation.color_jitter, &mut rng));
    Variation {
        crop,
        flip,
        jitter,
        erased: random_erasing(augmentation.random_erasing, size, &mut rng),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_wide_and_very_tall_images_are_cropped_at_the_center() {
        for (width, height, crop) in [
            (1000, 10, Crop { left: 493, top: 0, width: 13, height: 10 }),
            (10, 1000, Crop { left: 0, top: 493, width: 10, height: 13 }),
            (1000, 1, Crop { left: 499, top: 0, width: 1, height: 1 }),
        ] {
            for item in 0..100 {
                assert_eq!(
                    variation(&Augmentation::TUTORIAL, (0, 0, item), (width, height), 224).crop,
                    crop
                );
            }
        }
    }

    #[test]
    fn crops_are_inside_the_image_and_half_are_flipped() {
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
    fn variations_depend_on_seed_epoch_and_item() {
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
