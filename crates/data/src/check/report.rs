//! What a check finds, as it is printed for programs. `docs/photos.md` describes it for their authors.

use std::path::{Path, PathBuf};

use image::ImageFormat;
use serde::{Deserialize, Serialize};

use super::near_duplicates::Link;
use crate::dataset::{
    folder::{Why, is_unread},
    halves::Half,
};

/// A class with fewer photos has few: at the usual tenth one of them validates, or none.
pub const FEW_IMAGES: usize = 20;

/// A photo is tiny when its shorter side has fewer pixels: a network for 224 sees each of them spread over more than three.
pub const TINY_SIDE: u32 = 64;

/// A photo is extreme when its longer side is more than this many times its shorter: squeezed into a square it is no longer
/// what it was.
pub const EXTREME_RATIO: u32 = 3;

/// A photo is huge when it has more pixels, 4096×4096: it is decoded anew for every look.
pub const HUGE_PIXELS: u64 = 1 << 24;

/// What was found. Lists are sorted by class, then by path, unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The folder that paths start from.
    pub root: PathBuf,
    /// What decides which photos validate.
    pub split: SplitBy,
    /// How many there are, unsound ones included.
    #[serde(rename = "photos")]
    pub images: usize,
    /// Findings that a person should mend: damaged photos, wrong extensions, photos whose names hide them, groups of
    /// duplicates, classes without images. Balance and sizes are not among them.
    #[serde(rename = "to_mend")]
    pub issues: usize,
    /// Sorted by name.
    pub classes: Vec<Class>,
    /// Photos of the largest class for each of the smallest.
    pub imbalance: f64,
    /// Files that are no whole picture.
    pub damaged: Vec<Damaged>,
    /// Files whose content is of another format than their name says.
    pub wrong_extension: Vec<WrongExtension>,
    /// Files that no command takes for images of a class.
    #[serde(rename = "not_photos")]
    pub not_images: Vec<NotImage>,
    /// Photos that are there more than once: those across classes first, then those across the split.
    pub duplicates: Vec<Group>,
    /// Photos of odd size.
    pub sizes: Vec<OddSize>,
    /// How many photos are to be turned, as their files say.
    #[serde(default)]
    pub turned: usize,
}

/// What decides which photos validate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum SplitBy {
    /// The folders `train/` and `val/`.
    Folders,
    /// Chance.
    Seed {
        /// Decides which photos.
        seed: u64,
        /// The share of each class.
        val_fraction: f64,
    },
}

/// How many photos a class has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// In all.
    #[serde(rename = "photos")]
    pub images: usize,
    /// That train.
    pub train: usize,
    /// That validate.
    pub val: usize,
    /// That are kept for tests.
    #[serde(default)]
    pub test: usize,
    /// Of all photos, 0 to 1.
    pub share: f64,
    /// Whether it has fewer than [`FEW_IMAGES`], or none that validates.
    pub few: bool,
}

impl Class {
    pub(super) fn new(name: &str, [train, val, test]: [usize; 3], of: usize) -> Self {
        let images = train + val + test;
        let few = images < FEW_IMAGES || val == 0;
        Self { name: name.into(), images, train, val, test, share: images as f64 / of.max(1) as f64, few }
    }
}

/// A file that is no whole picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Damaged {
    /// Relative to the root.
    pub path: String,
    /// Its class's name.
    pub class: String,
    /// In which way.
    pub kind: Damage,
    /// The decoder's words, or the system's.
    pub reason: String,
    /// Whether what is there decodes all the same.
    pub decodes: bool,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// It has no bytes.
    Empty,
    /// Its end is missing. Known of JPEG, PNG, GIF and WebP.
    Truncated,
    /// All pixels can be read, but a checksum in it is wrong. Known of PNG.
    Checksum,
    /// It has another damage, or is no picture.
    Undecodable,
    /// The system does not let it be read.
    Unreadable,
}

/// A photo whose extension belies its content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrongExtension {
    /// Relative to the root.
    pub path: String,
    /// Its class's name.
    pub class: String,
    /// What it is.
    pub content: Format,
}

/// A file that is not taken for an image of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotImage {
    /// Relative to the root.
    pub path: String,
    /// Its class's name; empty when it lies in no class folder.
    pub class: String,
    /// The format of a picture that its name hides.
    pub content: Option<Format>,
    /// For what reason.
    #[serde(default)]
    pub why: Why,
}

impl NotImage {
    /// Whether it is an image all the same, by its content or, of a format that is not read, by its name.
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

/// Photos that are the same or nearly so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// At least two, by class, then by path.
    #[serde(rename = "photos")]
    pub images: Vec<Member>,
    /// Whether they are of different classes: one label at least is wrong.
    pub across_classes: bool,
    /// Whether some train and some validate: validation then tells of memory, too.
    pub across_split: bool,
    /// What holds them together: one link fewer than photos, the closest that join them all.
    pub links: Vec<Link>,
}

/// A photo of a [`Group`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Relative to the root.
    pub path: String,
    /// Its class's name.
    pub class: String,
    /// Which half of the split it is in.
    pub half: Half,
}

/// A photo of odd size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OddSize {
    /// Relative to the root.
    pub path: String,
    /// Its class's name.
    pub class: String,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// In which way.
    pub oddity: Oddity,
}

/// What is odd about a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// A side below [`TINY_SIDE`].
    Tiny,
    /// Sides further apart than [`EXTREME_RATIO`].
    Extreme,
    /// More pixels than [`HUGE_PIXELS`].
    Huge,
}
