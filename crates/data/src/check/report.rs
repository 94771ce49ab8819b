//! The report of a check, which can be written as JSON; `docs/images.md` describes its fields.

use std::path::{Path, PathBuf};

use image::ImageFormat;
use serde::{Deserialize, Serialize};

use super::near_duplicates::Link;
use crate::dataset::{
    folder::{Why, is_unsupported},
    subsets::Subset,
};

/// A class with fewer images is reported: with the default validation share of 10 %, it has at most
/// one validation image.
pub const FEW_IMAGES: usize = 20;

/// An image is tiny if its shorter side has fewer pixels: resizing to 224 enlarges it more than
/// three times.
pub const TINY_SIDE: u32 = 64;

/// An image is extreme if its longer side is more than this many times its shorter side: resizing
/// to a square distorts it.
pub const EXTREME_RATIO: u32 = 3;

/// An image is huge if it has more pixels than this (4096×4096): decoding it in every epoch is
/// slow.
pub const HUGE_PIXELS: u64 = 1 << 24;

/// The result of a check. Lists are sorted by class, then by path, unless their description names
/// another order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The folder that paths are relative to.
    pub root: PathBuf,
    /// How the images are split.
    pub split: SplitBy,
    /// Number of images, including damaged ones.
    #[serde(rename = "photos")]
    pub images: usize,
    /// Number of issues that should be fixed: damaged images, wrong extensions, images that are
    /// skipped because of their extension, groups of duplicates, classes without images. Imbalance
    /// and sizes do not count.
    #[serde(rename = "to_mend")]
    pub issues: usize,
    /// The classes, sorted by name.
    pub classes: Vec<Class>,
    /// Number of images of the largest class divided by that of the smallest class.
    pub imbalance: f64,
    /// Damaged files.
    pub damaged: Vec<Damaged>,
    /// Files whose extension is that of another format than their content.
    pub wrong_extension: Vec<WrongExtension>,
    /// Files that are skipped because they are not images of a class.
    #[serde(rename = "not_photos")]
    pub not_images: Vec<NotImage>,
    /// Groups of duplicates: first those across classes, then those across the split.
    pub duplicates: Vec<Group>,
    /// Images of unusual size.
    pub sizes: Vec<OddSize>,
    /// Number of images whose metadata has an orientation that is not upright.
    #[serde(default)]
    pub turned: usize,
}

/// How the images are split into subsets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum SplitBy {
    /// By the folders `train/` and `val/`.
    Folders,
    /// By the permutation of a seed.
    Seed {
        /// The seed.
        seed: u64,
        /// The share of validation images in each class.
        val_fraction: f64,
    },
}

/// The number of images of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Number of images in all.
    #[serde(rename = "photos")]
    pub images: usize,
    /// Number of training images.
    pub train: usize,
    /// Number of validation images.
    pub val: usize,
    /// Number of test images.
    #[serde(default)]
    pub test: usize,
    /// Its share of all images, 0 to 1.
    pub share: f64,
    /// Whether it has fewer than [`FEW_IMAGES`] images or no validation image.
    pub few: bool,
}

impl Class {
    pub(super) fn new(name: &str, [train, val, test]: [usize; 3], of: usize) -> Self {
        let images = train + val + test;
        let few = images < FEW_IMAGES || val == 0;
        Self {
            name: name.into(),
            images,
            train,
            val,
            test,
            share: images as f64 / of.max(1) as f64,
            few,
        }
    }
}

/// A damaged file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Damaged {
    /// Relative to the root.
    pub path: String,
    /// Its class's name.
    pub class: String,
    /// The kind of damage.
    pub kind: Damage,
    /// The message of the decoder or of the system.
    pub reason: String,
    /// Whether it can be decoded despite the damage.
    pub decodes: bool,
}

/// The kind of damage of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// The file is empty.
    Empty,
    /// The end of the file is missing. Detected in JPEG, PNG, GIF and WebP.
    Truncated,
    /// All pixels can be read, but a checksum in the file is wrong. Detected in PNG.
    Checksum,
    /// The file has other damage or is not an image.
    Undecodable,
    /// The system cannot read the file.
    Unreadable,
}

/// An image whose extension does not match its content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrongExtension {
    /// Relative to the root.
    pub path: String,
    /// Its class's name.
    pub class: String,
    /// The format of its content.
    pub content: Format,
}

/// A file that is skipped because it is not an image of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotImage {
    /// Relative to the root.
    pub path: String,
    /// Its class's name; empty outside of the class folders.
    pub class: String,
    /// The format, if the content is an image.
    pub content: Option<Format>,
    /// Why it is skipped.
    #[serde(default)]
    pub why: Why,
}

impl NotImage {
    /// Returns whether the file is an image by its content or has the extension of an unsupported
    /// image format.
    pub fn is_image(&self) -> bool {
        self.content.is_some()
            || self.why == Why::Extension && is_unsupported(Path::new(&self.path))
    }
}

/// An image format that this crate decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Format {
    Jpeg,
    Png,
    Gif,
    Bmp,
    Tiff,
    WebP,
    Pnm,
}

impl Format {
    pub(super) fn of(format: ImageFormat) -> Option<Self> {
        Some(match format {
            ImageFormat::Jpeg => Self::Jpeg,
            ImageFormat::Png => Self::Png,
            ImageFormat::Gif => Self::Gif,
            ImageFormat::Bmp => Self::Bmp,
            ImageFormat::Tiff => Self::Tiff,
            ImageFormat::WebP => Self::WebP,
            ImageFormat::Pnm => Self::Pnm,
            _ => return None,
        })
    }

    /// Returns whether the file has an extension of this format.
    pub(super) fn is_named(self, path: &str) -> bool {
        ImageFormat::from_path(Path::new(path)).ok().and_then(Self::of) == Some(self)
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::WebP => "WebP",
            Self::Pnm => "PNM",
        })
    }
}

/// A group of duplicates or near duplicates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// At least two images, by class, then by path.
    #[serde(rename = "photos")]
    pub images: Vec<Member>,
    /// Whether they are in different classes: at least one label is wrong.
    pub across_classes: bool,
    /// Whether they are in different subsets: a leak.
    pub across_split: bool,
    /// The closest links that connect all images of the group, one fewer than images.
    pub links: Vec<Link>,
}

/// An image of a [`Group`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Relative to the root.
    pub path: String,
    /// Its class's name.
    pub class: String,
    /// The subset that it is in.
    #[serde(rename = "half")]
    pub subset: Subset,
}

/// An image of unusual size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OddSize {
    /// Relative to the root.
    pub path: String,
    /// Its class's name.
    pub class: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// What is unusual.
    pub oddity: Oddity,
}

/// What is unusual about a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// A side shorter than [`TINY_SIDE`].
    Tiny,
    /// An aspect ratio above [`EXTREME_RATIO`].
    Extreme,
    /// More pixels than [`HUGE_PIXELS`].
    Huge,
}
