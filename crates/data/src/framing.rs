//! The part of an image that becomes the network's input: `torchvision.transforms.Resize` and
//! `CenterCrop`.

use alexnet_core::weights::Metadata;

use crate::resize::Crop;

/// How an image becomes the network's input in evaluation and prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Height and width of the network's input, in pixels.
    pub size: usize,
    /// The pixels that the shorter side of the image is resized to, at least `size`. Then the center
    /// is cropped: `Resize(resize_crop)`, `CenterCrop(size)`. `None`: the whole image is resized to
    /// `size`×`size`, `Resize((size, size))`.
    pub resize_crop: Option<u32>,
}

impl Framing {
    /// The whole image is resized to `size`×`size` pixels.
    pub fn whole(size: usize) -> Self {
        Self { size, resize_crop: None }
    }

    /// Returns the framing that weights were validated with.
    pub fn of(metadata: &Metadata) -> Self {
        Self { size: metadata.input_size, resize_crop: metadata.resize_crop }
    }
}

/// A part of an image whose shorter side was resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Width and height of the whole resized image.
    pub resized: [u32; 2],
    /// The part.
    pub part: Crop,
}

impl Window {
    /// Returns the center square of `side` pixels of an image of `width`×`height` pixels whose
    /// shorter side is resized to `short` pixels, at least `side`: `Resize(short)`,
    /// `CenterCrop(side)`.
    pub fn center([width, height]: [u32; 2], short: u32, side: u32) -> Self {
        let long = |long: u32, of: u32| {
            (u64::from(short) * u64::from(long) / u64::from(of)).min(u32::MAX.into()) as u32
        };
        let resized = match width <= height {
            true => [short, long(height, width)],
            false => [long(width, height), short],
        };
        let [left, top] = resized.map(|extent| middle(extent - side));
        Self { resized, part: Crop { left, top, width: side, height: side } }
    }

    /// Returns the square of `side` pixels at a position in this window.
    pub fn square(self, [left, top]: [u32; 2], side: u32) -> Self {
        let (left, top) = (self.part.left + left, self.part.top + top);
        Self { part: Crop { left, top, width: side, height: side }, ..self }
    }
}

/// Returns half of a difference, rounded to an even number like Python's `round`.
pub fn middle(difference: u32) -> u32 {
    difference / 2 + u32::from(difference % 4 == 3)
}
