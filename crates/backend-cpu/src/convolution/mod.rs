//! Two convolution algorithms for images `[N, H, W, C]`: [`Im2col`], which supports any geometry
//! and is exact for small integers, and [`Winograd`], which needs several times fewer
//! multiplications, but supports only some geometries.

mod im2col;
#[expect(unsafe_code, reason = "the library's matrix product takes pointers")]
mod matmul;
mod rounded;
mod space_to_depth;
mod winograd;

pub use self::{im2col::Im2col, rounded::Rounded, winograd::Winograd};

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// The input shape `[C, H, W]`.
    pub input: [usize; 3],
    /// The output shape `[C, H, W]`.
    pub output: [usize; 3],
    /// Height and width of the kernel.
    pub kernel: usize,
    /// The distance between two positions of the kernel.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// The number of groups of channels that are convolved separately.
    pub groups: usize,
}

impl Geometry {
    /// Returns the size of an input image, in numbers.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Returns the size of an output image, in numbers.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }
}

/// A convolution algorithm. Weights are `[kh, kw, in/groups, out]`; images are contiguous.
pub trait Convolution: Send + Sync {
    /// Sets the weights. `needs_dx` is whether [`Convolution::backward`] will compute the gradient
    /// of the input.
    fn set_weight(&mut self, weight: &[f32], needs_dx: bool);

    /// Returns the number of images of one task: enough for large matrix products, but few enough
    /// for the intermediate results to stay in the cache.
    fn images_per_task(&self) -> usize;

    /// Computes `y = x * weight + bias`, then `max(y, 0)` if `relu`, from `x [N, H, W, C]` to `y
    /// [N, H, W, out]`. With `single_image` the batch has only one image, so the work on it should
    /// be divided among the threads.
    fn forward(&self, x: &[f32], single_image: bool, bias: &[f32], relu: bool, y: &mut [f32]);

    /// Returns the size of the sums of [`Convolution::backward`], in numbers.
    fn sums_len(&self) -> usize;

    /// Runs the backward pass for images `x` and the gradients `dy` of their outputs. If `weight` is
    /// given, adds to the sums of the weight gradient. If `dx` is given, writes the gradient of the
    /// images to it.
    fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        weight: Option<WeightSums<'_>>,
        dx: Option<&mut [f32]>,
    );
}

/// The sums over images from which the weight gradient is computed. The images can be divided among
/// several calls of [`Convolution::backward`].
pub struct WeightSums<'a> {
    /// The sums, of size [`Convolution::sums_len`]. They are undefined before the first images and
    /// after the last ones.
    pub sums: &'a mut [f32],
    /// Whether these are the first images.
    pub first: bool,
    /// The weight gradient, which is written with the last images.
    pub gradient: Option<&'a mut [f32]>,
}
