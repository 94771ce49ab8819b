//! The transforms of Winograd's minimal filtering F(m×m, r×r) with m + r = 7, which uses six points
//! in each direction.
//!
//! A tile of m×m outputs of an r×r convolution is `Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A`, where d is the
//! 6×6 window of the input for this tile and g the weights. It needs 36 multiplications per channel
//! instead of m²r² (Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, 2016): 4
//! times fewer for 3×3, 2.8 times fewer for 5×5. The sum over channels is one matrix product over
//! all tiles for each of the 36 points. Gradients are the adjoints: with `D = A dy Aᵀ`, the weight
//! gradient is `Gᵀ [ Σ X ⊙ D ] G` and the input gradient `B [ U ⊙ D ] Bᵀ`, so one transform of dy
//! is used for both.
//!
//! **The points** are 0, ±1/√2, ±√2 and ∞ instead of the usual 0, ±1, ±2, ∞. The product of 1/√2
//! and √2 is 1, so the powers in the matrices stay small. Measured against f64 with 192 channels,
//! the largest error of an output divided by Σ|d·g| is 4e-7 for 3×3 and 2e-7 for 5×5, compared with
//! 2e-7 for the plain sum and 1.3e-6 for the usual points. This is within the error bound of direct
//! methods, 4·√K·2⁻²⁴. The disadvantage is that the results for small integers are not exact.
//!
//! All transforms process a vector of channels at a time: first the rows of the window, then the
//! columns.

use std::{
    f32::consts::{FRAC_1_SQRT_2, SQRT_2},
    marker::PhantomData,
    ops::Range,
};

use pulp::{Simd, WithSimd};

use super::gemm::load;

/// The number of points in each direction.
pub const POINTS: usize = 6;

/// The number of points of a tile, which is the number of matrix products per convolution.
pub const PLANE: usize = POINTS * POINTS;

/// The number of channels must be a multiple of this, the vector length of the widest instruction
/// set.
pub const CHANNELS: usize = 16;

/// The powers of the point a = 1/√2; a·b = 1.
const A: [f32; 5] = [1.0, FRAC_1_SQRT_2, 0.5, 0.5 * FRAC_1_SQRT_2, 0.25];
/// The powers of the point b = √2.
const B: [f32; 5] = [1.0, SQRT_2, 2.0, 2.0 * SQRT_2, 4.0];
/// a² + b².
const SUM: f32 = 2.5;
/// 1 / Π(p - q) over the other finite points q, for p = 0, ±a, ±b; 1 for the point at infinity.
const SCALE: [f32; POINTS] = [1.0, -1.0 / 1.5, -1.0 / 1.5, 1.0 / 6.0, 1.0 / 6.0, 1.0];

/// A transform to the Winograd domain in one direction, from N numbers to six.
pub trait Forward<const N: usize> {
    /// Returns the six numbers.
    fn apply<S: Simd>(simd: S, x: [S::f32s; N]) -> [S::f32s; POINTS];
}

/// A transform from the Winograd domain in one direction, from six numbers to N.
pub trait Inverse<const N: usize> {
    /// Returns the N numbers.
    fn apply<S: Simd>(simd: S, t: [S::f32s; POINTS]) -> [S::f32s; N];
}

/// `Bᵀ`, for windows of the input.
pub struct Input;

impl Forward<POINTS> for Input {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, x: [S::f32s; POINTS]) -> [S::f32s; POINTS] {
        let c = |value| simd.splat_f32s(value);
        let fma = |a, b, c| simd.mul_add_e_f32s(a, b, c);
        // Even and odd parts of the polynomials that are zero at all finite points except ±a, or
        // except ±b.
        let (even_a, odd_a) =
            (fma(c(-B[2]), x[2], x[4]), fma(c(-B[1]), x[1], simd.mul_f32s(c(A[1]), x[3])));
        let (even_b, odd_b) =
            (fma(c(-A[2]), x[2], x[4]), fma(c(-A[1]), x[1], simd.mul_f32s(c(B[1]), x[3])));
        [
            fma(c(-SUM), x[2], simd.add_f32s(x[0], x[4])),
            simd.add_f32s(even_a, odd_a),
            simd.sub_f32s(even_a, odd_a),
            simd.add_f32s(even_b, odd_b),
            simd.sub_f32s(even_b, odd_b),
            fma(c(-SUM), x[3], simd.add_f32s(x[1], x[5])),
        ]
    }
}

/// `B`, the adjoint of [`Input`], for windows of the input's gradient.
pub struct InputGradient;

impl Inverse<POINTS> for InputGradient {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, t: [S::f32s; POINTS]) -> [S::f32s; POINTS] {
        let c = |value| simd.splat_f32s(value);
        let fma = |a, b, c| simd.mul_add_e_f32s(a, b, c);
        let (even_a, odd_a) = (simd.add_f32s(t[1], t[2]), simd.sub_f32s(t[1], t[2]));
        let (even_b, odd_b) = (simd.add_f32s(t[3], t[4]), simd.sub_f32s(t[3], t[4]));
        [
            t[0],
            fma(c(-A[1]), odd_b, fma(c(-B[1]), odd_a, t[5])),
            fma(c(-A[2]), even_b, fma(c(-B[2]), even_a, simd.mul_f32s(c(-SUM), t[0]))),
            fma(c(B[1]), odd_b, fma(c(A[1]), odd_a, simd.mul_f32s(c(-SUM), t[5]))),
            simd.add_f32s(t[0], simd.add_f32s(even_a, even_b)),
            t[5],
        ]
    }
}

/// `A`, for tiles of the output's gradient: evaluates the polynomial with these coefficients at the
/// points.
pub struct OutputGradient;

impl<const N: usize> Forward<N> for OutputGradient {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, y: [S::f32s; N]) -> [S::f32s; POINTS] {
        let at = |powers: [f32; 5]| {
            let (mut even, mut odd) = (y[0], simd.splat_f32s(0.0));
            for (j, y) in y.iter().enumerate().skip(1) {
                let power = simd.splat_f32s(powers[j]);
                if j % 2 == 0 {
                    even = simd.mul_add_e_f32s(power, *y, even);
                } else {
                    odd = simd.mul_add_e_f32s(power, *y, odd);
                }
            }
            (simd.add_f32s(even, odd), simd.sub_f32s(even, odd))
        };
        let ((plus_a, minus_a), (plus_b, minus_b)) = (at(A), at(B));
        [y[0], plus_a, minus_a, plus_b, minus_b, y[N - 1]]
    }
}

/// `Aᵀ`, the adjoint of [`OutputGradient`], for tiles of the output.
pub struct Output;

impl<const N: usize> Inverse<N> for Output {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, t: [S::f32s; POINTS]) -> [S::f32s; N] {
        let (even_a, odd_a) = (simd.add_f32s(t[1], t[2]), simd.sub_f32s(t[1], t[2]));
        let (even_b, odd_b) = (simd.add_f32s(t[3], t[4]), simd.sub_f32s(t[3], t[4]));
        std::array::from_fn(|j| {
            let [a, b] = [A, B].map(|powers| simd.splat_f32s(powers[j]));
            let (a_part, b_part) = if j % 2 == 0 { (even_a, even_b) } else { (odd_a, odd_b) };
            let mut sum = simd.mul_add_e_f32s(b, b_part, simd.mul_f32s(a, a_part));
            if j == 0 {
                sum = simd.add_f32s(sum, t[0]);
            }
            if j == N - 1 {
                sum = simd.add_f32s(sum, t[5]);
            }
            sum
        })
    }
}

/// `G`: [`OutputGradient`] with scaled points.
pub struct Weight;

impl<const N: usize> Forward<N> for Weight {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, g: [S::f32s; N]) -> [S::f32s; POINTS] {
        scaled(simd, OutputGradient::apply(simd, g))
    }
}

/// `Gᵀ`, the adjoint of [`Weight`], for the weights' gradient.
pub struct WeightGradient;

impl<const N: usize> Inverse<N> for WeightGradient {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, t: [S::f32s; POINTS]) -> [S::f32s; N] {
        Output::apply(simd, scaled(simd, t))
    }
}

#[inline(always)]
fn scaled<S: Simd>(simd: S, t: [S::f32s; POINTS]) -> [S::f32s; POINTS] {
    std::array::from_fn(|i| simd.mul_f32s(simd.splat_f32s(SCALE[i]), t[i]))
}

/// A grid of square windows on images `[N, H, W, C]`. Windows are numbered in row-major order,
/// image by image.
#[derive(Clone, Debug)]
pub struct Windows {
    /// The height and width of the images.
    pub plane: [usize; 2],
    /// The number of channels.
    pub channels: usize,
    /// The distance from one window to the next.
    pub step: usize,
    /// The distance by which the first window starts before the image. Pixels outside the image are
    /// zero.
    pub padding: usize,
    /// The rows and columns of windows per image.
    pub grid: [usize; 2],
}

impl Windows {
    /// Returns the number of windows per image.
    pub fn per_image(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Returns the size of the images that contain `windows`, in numbers.
    fn reach(&self, windows: &Range<usize>) -> Option<usize> {
        let images = windows.end.div_ceil(self.per_image());
        images.checked_mul(self.plane[0])?.checked_mul(self.plane[1])?.checked_mul(self.channels)
    }

    /// Whether slices of these lengths can contain the images and the domain of `windows`.
    fn fit(&self, windows: &Range<usize>, images: usize, domain: usize, point: usize) -> bool {
        let of_a_point = windows.len().checked_mul(self.channels);
        let in_domain =
            (PLANE - 1).checked_mul(point).zip(of_a_point).and_then(|(a, b)| a.checked_add(b));
        self.channels.is_multiple_of(CHANNELS)
            && self.reach(windows).is_some_and(|reach| reach <= images)
            && in_domain.is_some_and(|reach| reach <= domain)
    }

    /// Returns the offsets of the pixels of a window of N×N, or `None` for pixels outside the
    /// image.
    #[inline(always)]
    fn pixels<const N: usize>(&self, window: usize) -> [[Option<usize>; N]; N] {
        let [height, width] = self.plane;
        let (image, place) = (window / self.per_image(), window % self.per_image());
        let (row, column) = (place / self.grid[1], place % self.grid[1]);
        std::array::from_fn(|i| {
            let y = (row * self.step + i).wrapping_sub(self.padding);
            std::array::from_fn(|j| {
                let x = (column * self.step + j).wrapping_sub(self.padding);
                (y < height && x < width)
                    .then(|| ((image * height + y) * width + x) * self.channels)
            })
        })
    }
}

/// The kernel that transforms `windows` of N×N pixels with `T`, from `images [N, H, W, C]` to
/// `domain [36, windows, C]`.
pub struct ToDomain<'a, T, const N: usize> {
    layout: &'a Windows,
    windows: Range<usize>,
    images: &'a [f32],
    domain: &'a mut [f32],
    point: usize,
    transform: PhantomData<T>,
}

impl<'a, T: Forward<N>, const N: usize> ToDomain<'a, T, N> {
    /// Creates the kernel. `point` is the distance between the matrices of two points, in numbers.
    ///
    /// # Panics
    /// When a slice is too short or the number of channels is not a multiple of [`CHANNELS`], which
    /// is a bug in a layer.
    pub fn new(
        layout: &'a Windows,
        windows: Range<usize>,
        images: &'a [f32],
        domain: &'a mut [f32],
        point: usize,
    ) -> Self {
        assert!(layout.fit(&windows, images.len(), domain.len(), point), "{layout:?} {windows:?}");
        Self { layout, windows, images, domain, point, transform: PhantomData }
    }
}

impl<T: Forward<N>, const N: usize> WithSimd for ToDomain<'_, T, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        const {
            assert!(
                CHANNELS.is_multiple_of(S::F32_LANES),
                "the channels are a multiple of a vector"
            )
        };
        let channels = self.layout.channels;
        let zero = simd.splat_f32s(0.0);
        for (row, window) in self.windows.clone().enumerate() {
            let pixels = self.layout.pixels::<N>(window);
            for channel in (0..channels).step_by(S::F32_LANES) {
                let mut rows = [[zero; POINTS]; N];
                for (pixels, row) in pixels.iter().zip(&mut rows) {
                    let line = std::array::from_fn(|j| match pixels[j] {
                        // SAFETY: `new` has checked that the images of all windows are inside the
                        // slice, `pixels` returns pixels of these images, and channel + LANES ≤
                        // channels, a multiple of 16.
                        Some(pixel) => unsafe {
                            load::<S>(self.images.as_ptr().add(pixel + channel))
                        },
                        None => zero,
                    });
                    *row = T::apply(simd, line);
                }
                #[expect(clippy::needless_range_loop, reason = "columns of an array of rows")]
                for j in 0..POINTS {
                    let column = T::apply(simd, std::array::from_fn(|i| rows[i][j]));
                    for (i, value) in column.into_iter().enumerate() {
                        let at = (i * POINTS + j) * self.point + row * channels + channel;
                        // SAFETY: at most (PLANE - 1)·point + windows·channels - LANES, as `new`
                        // has checked.
                        unsafe { store::<S>(self.domain.as_mut_ptr().add(at), value) };
                    }
                }
            }
        }
    }
}

/// How results of the inverse transform are combined with the output.
pub trait Emit {
    /// Returns the new output for `value`, a vector of channels from `channel`. `current` reads the
    /// current output.
    fn emit<S: Simd>(
        &self,
        simd: S,
        channel: usize,
        current: impl FnOnce() -> S::f32s,
        value: S::f32s,
    ) -> S::f32s;
}

/// Adds the bias, then computes `max(y, 0)` if `relu`. NaN stays NaN.
pub struct BiasRelu<'a> {
    /// The bias `[C]`.
    pub bias: &'a [f32],
    /// Whether a ReLU is fused.
    pub relu: bool,
}

impl Emit for BiasRelu<'_> {
    #[inline(always)]
    fn emit<S: Simd>(
        &self,
        simd: S,
        channel: usize,
        _: impl FnOnce() -> S::f32s,
        value: S::f32s,
    ) -> S::f32s {
        let bias = &self.bias[channel..][..S::F32_LANES];
        let value = simd.add_f32s(value, S::as_simd_f32s(bias).0[0]);
        let zero = simd.splat_f32s(0.0);
        if self.relu {
            simd.select_f32s(simd.less_than_f32s(value, zero), zero, value)
        } else {
            value
        }
    }
}

/// Adds to the current output.
pub struct Accumulate;

impl Emit for Accumulate {
    #[inline(always)]
    fn emit<S: Simd>(
        &self,
        simd: S,
        _: usize,
        current: impl FnOnce() -> S::f32s,
        value: S::f32s,
    ) -> S::f32s {
        simd.add_f32s(current(), value)
    }
}

/// Replaces the current output.
pub struct Replace;

impl Emit for Replace {
    #[inline(always)]
    fn emit<S: Simd>(
        &self,
        _: S,
        _: usize,
        _: impl FnOnce() -> S::f32s,
        value: S::f32s,
    ) -> S::f32s {
        value
    }
}

/// The kernel that transforms from `domain [36, windows, C]` to windows of N×N pixels of `images
/// [N, H, W, C]` with `T`. Pixels outside the images are discarded.
pub struct FromDomain<'a, T, E, const N: usize> {
    layout: &'a Windows,
    windows: Range<usize>,
    domain: &'a [f32],
    point: usize,
    images: &'a mut [f32],
    emit: E,
    transform: PhantomData<T>,
}

impl<'a, T: Inverse<N>, E: Emit, const N: usize> FromDomain<'a, T, E, N> {
    /// Creates the kernel. `point` is the distance between the matrices of two points, in numbers.
    ///
    /// # Panics
    /// When a slice is too short or the number of channels is not a multiple of [`CHANNELS`], which
    /// is a bug in a layer.
    pub fn new(
        layout: &'a Windows,
        windows: Range<usize>,
        domain: &'a [f32],
        point: usize,
        images: &'a mut [f32],
        emit: E,
    ) -> Self {
        assert!(layout.fit(&windows, images.len(), domain.len(), point), "{layout:?} {windows:?}");
        Self { layout, windows, domain, point, images, emit, transform: PhantomData }
    }
}

impl<T: Inverse<N>, E: Emit, const N: usize> WithSimd for FromDomain<'_, T, E, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        const {
            assert!(
                CHANNELS.is_multiple_of(S::F32_LANES),
                "the channels are a multiple of a vector"
            )
        };
        let channels = self.layout.channels;
        for (row, window) in self.windows.clone().enumerate() {
            let pixels = self.layout.pixels::<N>(window);
            for channel in (0..channels).step_by(S::F32_LANES) {
                let mut rows = [[simd.splat_f32s(0.0); POINTS]; N];
                for j in 0..POINTS {
                    let column = std::array::from_fn(|i| {
                        let at = (i * POINTS + j) * self.point + row * channels + channel;
                        // SAFETY: at most (PLANE - 1)·point + windows·channels - LANES, as `new`
                        // has checked.
                        unsafe { load::<S>(self.domain.as_ptr().add(at)) }
                    });
                    let column: [S::f32s; N] = T::apply(simd, column);
                    column.into_iter().zip(&mut rows).for_each(|(value, row)| row[j] = value);
                }
                for (pixels, row) in pixels.iter().zip(rows) {
                    let line: [S::f32s; N] = T::apply(simd, row);
                    for (pixel, value) in pixels.iter().zip(line) {
                        let Some(pixel) = pixel else { continue };
                        // SAFETY: as in `ToDomain`, this is a vector of channels of a pixel of the
                        // images.
                        unsafe {
                            let at = self.images.as_mut_ptr().add(pixel + channel);
                            store::<S>(at, self.emit.emit(simd, channel, || load::<S>(at), value));
                        }
                    }
                }
            }
        }
    }
}

/// Writes a vector.
///
/// # Safety
/// A vector of numbers must be writable at `to`.
#[inline(always)]
unsafe fn store<S: Simd>(to: *mut f32, value: S::f32s) {
    // SAFETY: guaranteed by the caller.
    unsafe { to.cast::<S::f32s>().write_unaligned(value) }
}
