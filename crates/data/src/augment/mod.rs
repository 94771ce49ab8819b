//! Augmentation of training images ([`crop_flip`], [`affine`], [`auto`], [`jitter`], [`pca`],
//! [`mod@erase`]), mixing of the images of a batch ([`mix`]), and the views of an image that
//! evaluation averages over ([`views`]).
//!
//! Training images are cropped as [`CropMode`] says and transformed by
//! `torchvision.transforms.RandomHorizontalFlip(p)`, `RandomVerticalFlip(p)` and
//! `RandomRotation(degrees)`, then by the other enabled transforms.

pub mod affine;
pub mod auto;
pub mod crop_flip;
pub mod erase;
pub mod jitter;
pub mod mix;
pub mod operation;
pub mod pca;
pub mod views;

use alexnet_core::rng::{Purpose, generator};
use image::RgbImage;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use self::{
    auto::{AutoAugment, MAGNITUDES},
    crop_flip::{CropMode, flip_rows, random_resized_crop, random_window},
    erase::{erase, random_erasing},
    jitter::ColorJitter,
    operation::Operation,
};
use crate::{
    framing::Window,
    resize::{Crop, resize_into, resize_part_into},
};

/// Settings of the augmentation of images and targets in training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Augmentation {
    /// How the network's input is cropped.
    pub crop: CropMode,
    /// Pixels of the shorter side that images are resized to before [`CropMode::Random`] and
    /// [`CropMode::Center`], at least the size of the network's input.
    pub resize_short: u32,
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
    /// Standard deviation of color noise along principal components ([`pca::random_shift`]); 0
    /// disables it.
    pub pca_noise: f64,
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
        crop: CropMode::RandomResized,
        resize_short: 256,
        crop_scale: [0.08, 1.0],
        hflip: 0.5,
        vflip: 0.0,
        rotation: 0.0,
        auto_augment: None,
        ra_magnitude: 9,
        color_jitter: 0.0,
        pca_noise: 0.0,
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
            (
                "resize_short",
                self.resize_short.to_string(),
                self.resize_short > 0,
                "it must be at least 1",
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
            number("pca_noise", self.pca_noise, is_positive, positive),
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
    /// The crop of the image that is resized.
    pub crop: Crop,
    /// The part of the resized crop that is the network's input; `None`: the crop is resized to the
    /// network's input.
    pub window: Option<Window>,
    /// Whether the network's input is mirrored horizontally.
    pub flip: bool,
    /// Whether it is mirrored vertically.
    pub vflip: bool,
    /// The angle in degrees that it is then rotated by, counterclockwise.
    pub rotation: Option<f64>,
    /// The operations that follow, one after the other.
    pub operations: Option<[Operation; 2]>,
    /// Color jitter, applied after the operations.
    pub jitter: Option<ColorJitter>,
    /// What is added to the colors of the network's input after color jitter.
    pub shift: Option<[f64; 3]>,
    /// The rectangle of the network's input that is erased last.
    pub erased: Option<Crop>,
}

impl Variation {
    /// Returns the variation that changes nothing, for an image of `width`×`height` pixels.
    pub fn none(width: u32, height: u32) -> Self {
        Self {
            crop: Crop::whole(width, height),
            window: None,
            flip: false,
            vflip: false,
            rotation: None,
            operations: None,
            jitter: None,
            shift: None,
            erased: None,
        }
    }

    /// Fills `pixels` with the crop, resized and flipped horizontally: `size`×`size` pixels of three
    /// bytes. `image` may be a part of the original image that includes the crop; `crop` is its
    /// position in `image`.
    ///
    /// # Panics
    /// In the cases of [`resize_part_into`].
    pub fn resize(&self, image: &RgbImage, crop: Crop, size: usize, pixels: &mut [u8]) {
        let side = size as u32;
        match self.window {
            None => resize_into(image, crop, self.flip, side, side, pixels),
            Some(Window { resized, part }) => {
                resize_part_into(image, crop, self.flip, resized, part, pixels);
            }
        }
    }

    /// Fills `pixels` with the network's input like [`Variation::resize`], and changes it. The
    /// erased rectangle gets the color `fill`.
    ///
    /// # Panics
    /// As [`Variation::resize`].
    pub fn apply(
        &self,
        image: &RgbImage,
        crop: Crop,
        size: usize,
        fill: [u8; 3],
        pixels: &mut [u8],
    ) {
        self.resize(image, crop, size, pixels);
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
        if let Some(shift) = self.shift {
            pca::add(shift, pixels);
        }
        if let Some(area) = self.erased {
            erase(pixels, size, area, fill);
        }
    }
}

/// Draws the augmentation of the training item `item` (its index in
/// [`crate::dataset::Dataset::train`]), an image of `width`×`height`, in `epoch` (from 0), for a
/// network whose input is `size`×`size`.
///
/// # Panics
/// If the shorter side is resized to less than `size`.
pub fn variation(
    augmentation: &Augmentation,
    (seed, epoch, item): (u64, u64, usize),
    (width, height): (u32, u32),
    size: u32,
) -> Variation {
    let mut rng = generator(seed, Purpose::Augment, epoch, item as u64);
    // New values are drawn after the others, so that existing seeds keep their results.
    let (crop, window) = match augmentation.crop {
        CropMode::RandomResized => {
            (random_resized_crop(augmentation.crop_scale, width, height, &mut rng), None)
        }
        CropMode::Random => {
            let window = random_window([width, height], augmentation.resize_short, size, &mut rng);
            (Crop::whole(width, height), Some(window))
        }
        CropMode::Center => {
            let window = Window::center([width, height], augmentation.resize_short, size);
            (Crop::whole(width, height), Some(window))
        }
    };
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
    let shift =
        (augmentation.pca_noise > 0.0).then(|| pca::random_shift(augmentation.pca_noise, &mut rng));
    Variation { crop, window, flip, vflip, rotation, operations, jitter, shift, erased }
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
        let new = Augmentation { vflip: 1.0, rotation: 10.0, auto_augment, pca_noise: 0.1, ..old };
        for item in 0..50 {
            let [old, new] =
                [old, new].map(|augmentation| variation(&augmentation, (0, 0, item), (50, 40), 64));
            let unused =
                Variation { vflip: false, rotation: None, operations: None, shift: None, ..new };
            assert_eq!(old, unused);
        }
    }

    #[test]
    fn windows_are_uniform_in_the_center_square() {
        let augmentation = Augmentation { crop: CropMode::Random, ..Augmentation::TUTORIAL };
        let mut places = [[0; 33]; 2];
        for item in 0..10_000 {
            let variation = variation(&augmentation, (0, 0, item), (341, 256), 224);
            assert_eq!(variation.crop, Crop::whole(341, 256));
            let Window { resized, part } = variation.window.unwrap();
            assert_eq!((resized, part.width, part.height), ([341, 256], 224, 224));
            places[0][part.left as usize - 42] += 1;
            places[1][part.top as usize] += 1;
        }
        assert!(places.iter().flatten().all(|count: &i32| (220..390).contains(count)));
    }

    /// The weights of the components are normal with the given standard deviation.
    #[test]
    fn color_noise_has_its_standard_deviation() {
        let augmentation = Augmentation { pca_noise: 0.1, ..Augmentation::TUTORIAL };
        let shifts: Vec<[f64; 3]> = (0..10_000)
            .map(|item| variation(&augmentation, (0, 0, item), (9, 9), 224).shift.unwrap())
            .collect();
        for channel in 0..3 {
            let sum = |power| shifts.iter().map(|shift| shift[channel].powi(power)).sum::<f64>();
            let unit = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
            let variance: f64 =
                unit.iter().map(|alpha| pca::shift(*alpha)[channel].powi(2)).sum::<f64>() * 0.01;
            assert!((sum(2) / 1e4 / variance - 1.0).abs() < 0.05);
            assert!((sum(1) / 1e4).abs() < 0.04 * variance.sqrt());
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
