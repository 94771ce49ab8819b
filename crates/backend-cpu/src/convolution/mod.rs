//! Two ways to convolve images `[N, H, W, C]`: [`Im2col`], which takes any geometry and is exact on small integers, and
//! [`Winograd`], which multiplies several times less where it can be used.

mod im2col;
#[expect(unsafe_code, reason = "the library's matrix product takes pointers")]
mod matmul;
mod space_to_depth;
mod winograd;

pub use self::{im2col::Im2col, winograd::Winograd};

/// Extents of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// `[C, H, W]` in.
    pub input: [usize; 3],
    /// `[C, H, W]` out.
    pub output: [usize; 3],
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Distance of two positions.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Geometry {
    /// Numbers of an image that goes in.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Numbers of an image that comes out.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }
}

/// A way to convolve. Weights are `[kh, kw, in/groups, out]`; images lie one behind the other.
pub trait Convolution: Send + Sync {
    /// Takes new weights, of which [`Convolution::backward`] will need the input's gradient when `needs_dx`.
    fn set_weight(&mut self, weight: &[f32], needs_dx: bool);

    /// Images that share a task: enough that products are large, few enough that caches hold what is made for them.
    fn images_per_task(&self) -> usize;

    /// `y = x * weight + bias`, then `max(y, 0)` when `relu`: `x [N, H, W, C]` to `y [N, H, W, out]`. One image may be `alone`:
    /// nothing else keeps the other threads busy.
    fn forward(&self, x: &[f32], alone: bool, bias: &[f32], relu: bool, y: &mut [f32]);

    /// Numbers of the sums that [`Convolution::backward`] adds to.
    fn sums_len(&self) -> usize;

    /// Begins (when `first`) or continues the sums of the weight gradient with images `x` and gradients `dy` of their
    /// outputs, and writes the gradient `dx` of the images, each when it is wanted.
    fn backward(&self, x: &[f32], dy: &[f32], sums: Option<&mut [f32]>, first: bool, dx: Option<&mut [f32]>);

    /// The weight gradient from finished sums.
    fn weight_gradient(&self, sums: &[f32], dw: &mut [f32]);
}
