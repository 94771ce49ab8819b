//! The report of a check, which can be written as JSON; `docs/images.md` describes its fields.

use std::path::{Path, PathBuf};

use image::ImageFormat;
use serde::{Deserialize, Serialize};

use super::near_duplicates::Link;
use crate::dataset::{
    folder::{Why, is_unread},
    subsets::Subset,
};

/// A class with fewer images has few: with the usual validation share of a tenth, one of them validates, or none.
pub const FEW_IMAGES: usize = 20;

/// An image is tiny when its shorter side has fewer pixels: a network for 224 sees each of them spread over more than three.
pub const TINY_SIDE: u32 = 64;

/// An image is extreme when its longer side is more than this many times its shorter side: resizing to a square distorts it.
pub const EXTREME_RATIO: u32 = 3;

/// An image is huge when it has more pixels, 4096×4096: decoding it in every epoch is slow.
pub const HUGE_PIXELS: u64 = 1 << 24;

/// The result of a check. Lists are sorted by class, then by path, unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The folder that paths are relative to.
    pub root: PathBuf,
    /// How the images are split.
    pub split: SplitBy,
    /// Number of images, damaged ones included.
    #[serde(rename = "photos")]
    pub images: usize,
    /// Number of issues that should be fixed: damaged images, wrong extensions, images whose extensions hide them, groups of
    /// duplicates, classes without images. Imbalance and sizes do not count.
    #[serde(rename = "to_mend")]
    pub issues: usize,
    /// The classes, sorted by name.
    pub classes: Vec<Class>,
    /// Number of images of the largest class, divided by that of the smallest.
    pub imbalance: f64,
    /// Damaged files.
    pub damaged: Vec<Damaged>,
    /// Files whose content is of another format than their extension says.
    pub wrong_extension: Vec<WrongExtension>,
    /// Files that are not taken for images of a class.
    #[serde(rename = "not_photos")]
    pub not_images: Vec<NotImage>,
    /// Groups of duplicates: those across classes first, then those across the split.
    pub duplicates: Vec<Group>,
    /// Images of unusual size.
    pub sizes: Vec<OddSize>,
    /// Number of images whose files tell an orientation other than upright.
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
        /// The share of each class that validates.
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
    /// Whether it has fewer than [`FEW_IMAGES`] images, or none that validates.
    pub few: bool,
}

impl Class {
    pub(super) fn new(name: &str, [train, val, test]: [usize; 3], of: usize) -> Self {
        let images = train + val + test;
        let few = images < FEW_IMAGES || val == 0;
        Self { name: name.into(), images, train, val, test, share: images as f64 / of.max(1) as f64, few }
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
    /// Whether it can be decoded all the same.
    pub decodes: bool,
}

/// The kind of damage of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// The file has no bytes.
    Empty,
    /// The end of the file is missing. Found in JPEG, PNG, GIF and WebP.
    Truncated,
    /// All pixels can be read, but a checksum in the file is wrong. Found in PNG.
    Checksum,
    /// The file has other damage, or is no image.
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

/// A file that is not taken for an image of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotImage {
    /// Relative to the root.
    pub path: String,
    /// Its class's name; empty when it lies in no class folder.
    pub class: String,
    /// The format, when the content is an image.
    pub content: Option<Format>,
    /// Why it is not taken.
    #[serde(default)]
    pub why: Why,
}

impl NotImage {
    /// Whether the file is an image: by its content or, in a format that is not read, by its extension.
    pub fn is_image(&self) -> bool {
        self.content.is_some() || self.why == Why::Extension && is_unread(Path::new(&self.path))
    }
}

/// A format that is decoded.
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

    /// Whether the file's extension is one of this format's.
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
    /// Whether they are of different classes: at least one label is wrong.
    pub across_classes: bool,
    /// Whether some train and some validate: a leak.
    pub across_split: bool,
    /// The closest links that join all images of the group, one fewer than images.
    pub links: Vec<Link>,
}

/// An image of a [`Group`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Relative to the root.
    pub path: String,
    /// Its class's name.
    pub class: String,
    /// The subset of the split that it is in.
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
