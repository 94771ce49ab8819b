//! The array type of the reference.

use alexnet_core::{Array, Images};

/// An f64 array, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The size of each dimension. The first dimension of activations is the batch.
    pub shape: Vec<usize>,
    /// The elements. Their number is the product of `shape`.
    pub values: Vec<f64>,
}

impl Tensor {
    /// Creates an array of zeros.
    pub fn zeros(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()] }
    }

    /// Converts to f64.
    pub fn from_array(array: &Array) -> Self {
        Self {
            shape: array.shape.clone(),
            values: array.values.iter().map(|v| f64::from(*v)).collect(),
        }
    }

    /// Rounds to f32.
    pub fn to_array(&self) -> Array {
        Array { shape: self.shape.clone(), values: self.values.iter().map(|v| *v as f32).collect() }
    }

    /// Applies `f` to each element.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { shape: self.shape.clone(), values: self.values.iter().map(|v| f(*v)).collect() }
    }

    /// Converts images to normalized numbers `[N, 3, H, W]`, with the f32 table of their
    /// normalization.
    pub fn from_images(images: &Images) -> Self {
        let table = images.normalization.table();
        let plane = images.height * images.width;
        let mut x = Self::zeros(&[images.len(), 3, images.height, images.width]);
        for (i, byte) in images.pixels.iter().enumerate() {
            let (n, position, channel) = (i / (3 * plane), i / 3 % plane, i % 3);
            x.values[(n * 3 + channel) * plane + position] =
                f64::from(table[channel][usize::from(*byte)]);
        }
        x
    }

    /// Returns the batch size, N.
    pub(crate) fn batch(&self) -> usize {
        self.shape[0]
    }

    /// Returns `[N, C, H, W]` of an activation that is an image.
    pub(crate) fn dimensions(&self) -> [usize; 4] {
        // The topology was validated, so the inputs of operations on images are images.
        [self.shape[0], self.shape[1], self.shape[2], self.shape[3]]
    }
}
