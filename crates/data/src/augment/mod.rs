//! Augmentation of training images ([`crop_flip`], [`affine`], [`auto`], [`jitter`],
//! [`mod@erase`]), mixing of the images of a batch ([`mix`]), and the views of an image that
//! evaluation averages over ([`views`]).
//!
//! Training images are transformed by `torchvision.transforms.RandomResizedCrop(size, scale)`,
//! `RandomHorizontalFlip(p)`, `RandomVerticalFlip(p)` and `RandomRotation(degrees)`, then by the
//! other enabled transforms.

pub mod affine;
pub mod auto;
pub mod crop_flip;
pub mod erase;
pub mod jitter;
pub mod mix;
pub mod operation;
pub mod views;

use alexnet_core::rng::{Purpose, generator};
use image::RgbImage;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use self::{
    auto::{AutoAugment, MAGNITUDES},
    crop_flip::{flip_rows, random_resized_crop},
    erase::{erase, random_erasing},
    jitter::ColorJitter,
    operation::Operation,
};
use crate::resize::{Crop, resize_into};

/// Settings of the augmentation of images and targets in training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Augmentation {
    /// Smallest and largest share of an image's area that a crop covers (`scale` of
    /// `RandomResizedCrop`).
    pub crop_scale: [f64; 2],
    /// Probability that the crop is mirrored horizontally.
    pub hflip: f64,
    /// Probability that the crop is mirrored vertically.
    pub vflip: f64,
    /// Largest angle of a rotation in either direction, in degrees; 0 disables it.
    pub rotation: f64,
    /// Random operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_augment: Option<AutoAugment>,
    /// The magnitude of the operations of RandAugment, from 0 to 30.
    pub ra_magnitude: u32,
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
        hflip: 0.5,
        vflip: 0.0,
        rotation: 0.0,
        auto_augment: None,
        ra_magnitude: 9,
        color_jitter: 0.0,
        random_erasing: 0.0,
        label_smoothing: 0.0,
        mixup: 0.0,
        cutmix: 0.0,
    };
}

impl Augmentation {
    /// Checks that each setting is within its limits.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Invalid`] for the first setting that is not.
    pub fn check(&self) -> alexnet_core::Result<()> {
        let [least, most] = self.crop_scale;
        let is_positive = |value: &f64| value.is_finite() && *value >= 0.0;
        let is_probability = |value: &f64| (0.0..=1.0).contains(value);
        let probability = "it must be a number from 0 to 1";
        let positive = "it must be a number of at least 0";
        let number = |field, value: f64, is_valid: fn(&f64) -> bool, reason| {
            (field, value.to_string(), is_valid(&value), reason)
        };
        let settings = [
            (
                "crop_scale",
                format!("{least},{most}"),
                0.0 < least && least <= most && most <= 1.0,
                "it must be two shares above 0, the smaller first, at most 1",
            ),
            number("hflip", self.hflip, is_probability, probability),
            number("vflip", self.vflip, is_probability, probability),
            number(
                "rotation",
                self.rotation,
                |value| (0.0..=180.0).contains(value),
                "it must be a number from 0 to 180",
            ),
            (
                "ra_magnitude",
                self.ra_magnitude.to_string(),
                self.ra_magnitude < MAGNITUDES,
                "it must be a whole number from 0 to 30",
            ),
            number("color_jitter", self.color_jitter, is_positive, positive),
            number("random_erasing", self.random_erasing, is_probability, probability),
            number(
                "label_smoothing",
                self.label_smoothing,
                |value| (0.0..1.0).contains(value),
                "it must be at least 0 and below 1",
            ),
            number("mixup", self.mixup, is_positive, positive),
            number("cutmix", self.cutmix, is_positive, positive),
        ];
        match settings.into_iter().find(|(.., is_valid, _)| !is_valid) {
            Some((field, value, _, reason)) => {
                Err(alexnet_core::Error::Invalid { field, value, reason: reason.to_owned() })
            }
            None => Ok(()),
        }
    }
}

/// The augmentation of one training image in one epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variation {
    /// The crop that is resized to the network's input.
    pub crop: Crop,
    /// Whether the resized crop is mirrored horizontally.
    pub flip: bool,
    /// Whether it is mirrored vertically.
    pub vflip: bool,
    /// The angle in degrees that it is then rotated by, counterclockwise.
    pub rotation: Option<f64>,
    /// The operations that follow, one after the other.
    pub operations: Option<[Operation; 2]>,
    /// Color jitter, applied after the operations.
    pub jitter: Option<ColorJitter>,
    /// The rectangle of the network's input that is erased last.
    pub erased: Option<Crop>,
}

impl Variation {
    /// Returns the variation that changes nothing, for an image of `width`×`height` pixels.
    pub fn none(width: u32, height: u32) -> Self {
        Self {
            crop: Crop::whole(width, height),
            flip: false,
            vflip: false,
            rotation: None,
            operations: None,
            jitter: None,
            erased: None,
        }
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
        if self.vflip {
            flip_rows(pixels, size);
        }
        if let Some(degrees) = self.rotation {
            affine::transform(pixels, size, affine::rotation(degrees, [size, size]));
        }
        for operation in self.operations.iter().flatten() {
            operation.apply(pixels, size);
        }
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
    // New values are drawn after the others, so that existing seeds keep their results.
    let crop = random_resized_crop(augmentation.crop_scale, width, height, &mut rng);
    let flip = rng.random_bool(augmentation.hflip);
    let jitter = (augmentation.color_jitter > 0.0)
        .then(|| ColorJitter::random(augmentation.color_jitter, &mut rng));
    let erased = random_erasing(augmentation.random_erasing, size, &mut rng);
    let vflip = rng.random_bool(augmentation.vflip);
    let degrees = augmentation.rotation;
    let rotation = (degrees > 0.0).then(|| rng.random_range(-degrees..=degrees));
    let operations = augmentation
        .auto_augment
        .map(|auto| auto.random(augmentation.ra_magnitude, size, &mut rng));
    Variation { crop, flip, vflip, rotation, operations, jitter, erased }
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
    fn flips_have_their_probability_and_angles_are_uniform() {
        for (hflip, vflip, rotation) in [(0.0, 1.0, 30.0), (0.2, 0.7, 180.0), (1.0, 0.0, 0.5)] {
            let augmentation = Augmentation { hflip, vflip, rotation, ..Augmentation::TUTORIAL };
            let drawn: Vec<Variation> = (0..4000)
                .map(|item| variation(&augmentation, (3, 1, item), (40, 30), 224))
                .collect();
            let share = |of: fn(&Variation) -> bool| {
                drawn.iter().filter(|variation| of(variation)).count() as f64 / 4000.0
            };
            assert!((share(|v| v.flip) - hflip).abs() < 0.03);
            assert!((share(|v| v.vflip) - vflip).abs() < 0.03);
            let mut angles: Vec<f64> =
                drawn.iter().map(|variation| variation.rotation.unwrap() / rotation).collect();
            angles.sort_by(f64::total_cmp);
            for (rank, angle) in angles.iter().enumerate() {
                assert!((angle - (rank as f64 / 2000.0 - 1.0)).abs() < 0.07, "{rank}: {angle}");
            }
        }
    }

    /// Options that are not used do not change the random values of the others.
    #[test]
    fn a_seed_keeps_its_values_with_new_options() {
        let old = Augmentation { color_jitter: 0.4, random_erasing: 1.0, ..Augmentation::TUTORIAL };
        let auto_augment = Some(AutoAugment::TrivialAugment);
        let new = Augmentation { vflip: 1.0, rotation: 10.0, auto_augment, ..old };
        for item in 0..50 {
            let [old, new] =
                [old, new].map(|augmentation| variation(&augmentation, (0, 0, item), (50, 40), 64));
            assert_eq!(old, Variation { vflip: false, rotation: None, operations: None, ..new });
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
