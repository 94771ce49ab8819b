//! What crosses the boundary into and out of an engine.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    rng::{Purpose, generator},
};

/// How bytes become numbers: `(byte / 255 - mean) / std` for each channel, in f32, as torchvision's `ToTensor` and
/// `Normalize` compute it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Subtracted, for red, green and blue.
    pub mean: [f32; 3],
    /// Divided by.
    pub std: [f32; 3],
}

impl Normalization {
    /// Mean and standard deviation 0.5: what the tutorial trains with.
    pub const HALF: Self = Self { mean: [0.5; 3], std: [0.5; 3] };

    /// Of ImageNet's images; what torchvision's networks are trained with (`torchvision.models.AlexNet_Weights`).
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// The number of each byte value, for each channel; the one place where this is computed, so that all engines see the
    /// same bits.
    pub fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| {
            std::array::from_fn(|byte| (byte as f32 / 255.0 - self.mean[c]) / self.std[c])
        })
    }
}

/// What becomes of the orientation that an image file tells in its EXIF or XMP. Cameras store what the sensor saw and say there how
/// it is to be turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExifOrientation {
    /// The image is turned upright, as viewers show it.
    #[default]
    Apply,
    /// The image is taken as it is stored.
    Ignore,
}

impl ExifOrientation {
    /// As it is written: `apply` or `ignore`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Ignore => "ignore",
        }
    }
}

/// Images as bytes, `[N, H, W, 3]`, red first.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// `N·H·W·3` bytes.
    pub pixels: Vec<u8>,
    /// Height of each image.
    pub height: usize,
    /// Width of each image.
    pub width: usize,
    /// How an engine turns the bytes into numbers.
    pub normalization: Normalization,
}

impl Images {
    /// The number of images, N.
    pub fn len(&self) -> usize {
        self.pixels.len() / (self.height * self.width * 3)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Checks that the images are whole and of the network's input shape `[3, H, W]`.
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
    /// `[N, H, W, 3]`.
    pub images: Images,
    /// Soft targets `[N, C]`, each row a distribution over the classes.
    pub targets: Vec<f32>,
}

impl Batch {
    /// `n` images of `size`×`size` random pixels, each of a random one of `classes` classes: for benchmarks and
    /// tests, the same for the same arguments.
    pub fn random(n: usize, size: usize, classes: usize) -> Self {
        let mut rng = generator(0, Purpose::Synthetic, 0, 0);
        let mut pixels = vec![0; n * size * size * 3];
        rng.fill_bytes(&mut pixels);
        let mut targets = vec![0.0; n * classes];
        for row in targets.chunks_exact_mut(classes) {
            row[rng.random_range(0..classes)] = 1.0;
        }
        Self {
            images: Images { pixels, height: size, width: size, normalization: Normalization::HALF },
            targets,
        }
    }

    /// The number of images, N.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
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

/// What the network answers: `[N, C]`, before softmax.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// `N·C` numbers, row by row.
    pub values: Vec<f32>,
    /// C.
    pub classes: usize,
}

impl Logits {
    /// The rows, one an image.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.classes)
    }
}
