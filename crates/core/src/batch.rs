//! The inputs and outputs of an engine: batches of images, and logits.

use std::ops::Range;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    rng::{Purpose, generator},
};

/// The normalization of pixels: `(byte / 255 - mean) / std` for each channel, in f32, as
/// torchvision's `ToTensor` and `Normalize` compute it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// The mean of red, green and blue, which is subtracted.
    pub mean: [f32; 3],
    /// The standard deviation of each channel, which is the divisor.
    pub std: [f32; 3],
}

impl Normalization {
    /// Mean and standard deviation 0.5, as in the tutorial.
    pub const HALF: Self = Self { mean: [0.5; 3], std: [0.5; 3] };

    /// Mean and standard deviation of ImageNet's images, as in torchvision
    /// (`torchvision.models.AlexNet_Weights`).
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// Returns the normalized number for each byte value, by channel. This is the only place where
    /// it is computed, so that all engines get the same bits.
    pub fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| {
            std::array::from_fn(|byte| (byte as f32 / 255.0 - self.mean[c]) / self.std[c])
        })
    }
}

/// The treatment of the orientation in the EXIF or XMP metadata of an image file. Cameras store the
/// pixels as the sensor delivers them, and in the metadata how to rotate them for display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExifOrientation {
    /// The image is rotated and mirrored to be upright, as image viewers show it.
    #[default]
    Apply,
    /// The pixels are used as they are stored.
    Ignore,
}

impl ExifOrientation {
    /// Returns its name: `apply` or `ignore`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Ignore => "ignore",
        }
    }
}

/// Images as bytes, `[N, H, W, 3]`, in the order red, green, blue.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// The `N·H·W·3` bytes.
    pub pixels: Vec<u8>,
    /// Height of each image.
    pub height: usize,
    /// Width of each image.
    pub width: usize,
    /// How an engine converts the bytes to numbers.
    pub normalization: Normalization,
}

impl Images {
    /// Returns the number of images, N.
    pub fn len(&self) -> usize {
        self.pixels.len() / (self.height * self.width * 3)
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Checks that the images are complete and have the network's input shape `[3, H, W]`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check(&self, input: [usize; 3]) -> Result<()> {
        let [channels, height, width] = input;
        if channels == 3
            && (height, width) == (self.height, self.width)
            && self.pixels.len().is_multiple_of(height * width * 3)
            && !self.pixels.is_empty()
        {
            return Ok(());
        }
        Err(Error::Shape {
            what: "the batch".into(),
            expected: format!("[N, {height}, {width}, {channels}] bytes"),
            found: format!("[N, {}, {}, 3], {} bytes", self.height, self.width, self.pixels.len()),
        })
    }
}

/// Images with their targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The images `[N, H, W, 3]`.
    pub images: Images,
    /// Soft targets `[N, C]`, each row a distribution over the classes.
    pub targets: Vec<f32>,
}

impl Batch {
    /// Returns `n` images of `size`×`size` random pixels, each with a random class out of
    /// `classes`, for benchmarks and tests. Equal arguments give equal batches.
    pub fn random(n: usize, size: usize, classes: usize) -> Self {
        let mut rng = generator(0, Purpose::Synthetic, 0, 0);
        let mut pixels = vec![0; n * size * size * 3];
        rng.fill_bytes(&mut pixels);
        let mut targets = vec![0.0; n * classes];
        for row in targets.chunks_exact_mut(classes) {
            row[rng.random_range(0..classes)] = 1.0;
        }
        Self {
            images: Images {
                pixels,
                height: size,
                width: size,
                normalization: Normalization::HALF,
            },
            targets,
        }
    }

    /// Returns a batch with the images of this range.
    ///
    /// # Panics
    /// When the range is out of bounds.
    pub fn slice(&self, range: Range<usize>) -> Self {
        fn part<T: Clone>(values: &[T], n: usize, range: &Range<usize>) -> Vec<T> {
            let item = values.len() / n;
            values[range.start * item..range.end * item].to_vec()
        }
        let n = self.len();
        Self {
            images: Images { pixels: part(&self.images.pixels, n, &range), ..self.images },
            targets: part(&self.targets, n, &range),
        }
    }

    /// Returns the number of images, N.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Returns the number of images with a target: those that have a target other than 0.
    pub fn labeled(&self) -> usize {
        let classes = (self.targets.len() / self.len().max(1)).max(1);
        self.targets.chunks(classes).filter(|row| row.iter().any(|target| *target != 0.0)).count()
    }

    /// Checks images and targets against the network's input `[3, H, W]` and its number of classes.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check(&self, input: [usize; 3], classes: usize) -> Result<()> {
        self.images.check(input)?;
        if self.targets.len() == self.len() * classes {
            return Ok(());
        }
        Err(Error::Shape {
            what: "the targets".into(),
            expected: format!("[{}, {classes}]", self.len()),
            found: format!("{} numbers", self.targets.len()),
        })
    }
}

/// The output of the network before softmax, `[N, C]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// The `N·C` numbers, row by row.
    pub values: Vec<f32>,
    /// The number of classes, C.
    pub classes: usize,
}

impl Logits {
    /// Returns the rows, one per image.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.classes)
    }
}
