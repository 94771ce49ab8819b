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

use super::{
    Isa,
    bf16::{Bf16, Kernel, Pair, PairsInRows, PairsOfRows},
    gemm::{Element, load},
    vector::prefetch,
};

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
    /// The number of vectors between one that is read and one that is prefetched, or 0. The
    /// processor does not foresee accesses to 36 matrices that are not in its caches.
    const AHEAD: usize = 0;

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
    const AHEAD: usize = 6;

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
    /// The distance from one pixel to the next: the number of channels, or more if these are only
    /// some of an image's channels.
    pub pixel: usize,
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
        let pixels = images.checked_mul(self.plane[0])?.checked_mul(self.plane[1])?;
        pixels.saturating_sub(1).checked_mul(self.pixel)?.checked_add(self.channels)
    }

    /// Whether images of this size contain `windows`, and there are enough channels for vectors.
    fn fit(&self, windows: &Range<usize>, images: usize) -> bool {
        self.channels.is_multiple_of(CHANNELS)
            && self.channels <= self.pixel
            && self.reach(windows).is_some_and(|reach| reach <= images)
    }

    /// Returns the offsets of the pixels of a window of N×N, or `None` for pixels outside the
    /// image.
    #[inline(always)]
    fn pixels<const N: usize>(&self, window: usize) -> [[Option<usize>; N]; N] {
        let [height, width] = self.plane;
        let (image, place) = (window / self.per_image(), window % self.per_image());
        let (row, column) = (place / self.grid[1], place % self.grid[1]);
        // Loops, since the compiler does not inline all closures of nested `from_fn`.
        let mut pixels = [[None; N]; N];
        for (i, line) in pixels.iter_mut().enumerate() {
            let y = (row * self.step + i).wrapping_sub(self.padding);
            for (j, pixel) in line.iter_mut().enumerate() {
                let x = (column * self.step + j).wrapping_sub(self.padding);
                if y < height && x < width {
                    *pixel = Some(((image * height + y) * width + x) * self.pixel);
                }
            }
        }
        pixels
    }
}

/// Where [`ToDomain`] stores its results.
pub trait Domain {
    /// Whether it has the size for so many windows and channels.
    fn holds(&self, windows: usize, channels: usize) -> bool;

    /// Stores a vector of channels, from index `channel`, of a window at one of the 36 points.
    ///
    /// # Safety
    /// The domain must hold the window and the channels.
    unsafe fn put<S: Simd, B: Bf16>(
        &mut self,
        simd: S,
        point: usize,
        window: usize,
        channels: usize,
        channel: usize,
        value: S::f32s,
    );
}

/// Whether `len` elements are enough for 36 matrices of `rows × columns` at a distance of `point`.
fn holds(len: usize, point: usize, rows: usize, columns: usize) -> bool {
    let matrix = rows.checked_mul(columns);
    let last = (PLANE - 1).checked_mul(point);
    last.zip(matrix).and_then(|(a, b)| a.checked_add(b)).is_some_and(|size| size <= len)
}

/// The matrices of the 36 points.
pub struct Matrices<'a, E> {
    /// The elements.
    pub values: &'a mut [E],
    /// The distance between the matrices of two points, in elements.
    pub point: usize,
}

impl<E> Matrices<'_, E> {
    /// Whether there are enough elements for matrices of `rows × columns`.
    fn hold(&self, rows: usize, columns: usize) -> bool {
        holds(self.values.len(), self.point, rows, columns)
    }
}

/// Numbers `[36, windows, C]`.
impl Domain for Matrices<'_, f32> {
    fn holds(&self, windows: usize, channels: usize) -> bool {
        self.hold(windows, channels)
    }

    #[inline(always)]
    unsafe fn put<S: Simd, B: Bf16>(
        &mut self,
        _: S,
        point: usize,
        window: usize,
        channels: usize,
        channel: usize,
        value: S::f32s,
    ) {
        let at = point * self.point + window * channels + channel;
        // SAFETY: guaranteed by the caller.
        unsafe { store::<S>(self.values.as_mut_ptr().add(at), value) };
    }
}

/// Pairs of channels `[36, windows, C/2]`, for sums over channels.
pub struct ChannelPairs<'a>(pub Matrices<'a, Pair>);

impl Domain for ChannelPairs<'_> {
    fn holds(&self, windows: usize, channels: usize) -> bool {
        self.0.hold(windows, channels / 2)
    }

    #[inline(always)]
    unsafe fn put<S: Simd, B: Bf16>(
        &mut self,
        simd: S,
        point: usize,
        window: usize,
        channels: usize,
        channel: usize,
        value: S::f32s,
    ) {
        let at = 2 * point * self.0.point + window * channels + channel;
        // SAFETY: guaranteed by the caller; a pair has two numbers.
        unsafe { B::store(simd, self.0.values.as_mut_ptr().cast::<u16>().add(at), value) };
    }
}

/// Pairs of windows `[36, ⌈windows/2⌉, C]`, for sums over windows. After an odd number of windows,
/// the last numbers are zero.
pub struct WindowPairs<'a>(pub Matrices<'a, Pair>);

impl Domain for WindowPairs<'_> {
    fn holds(&self, windows: usize, channels: usize) -> bool {
        self.0.hold(windows.div_ceil(2), channels)
    }

    #[inline(always)]
    unsafe fn put<S: Simd, B: Bf16>(
        &mut self,
        simd: S,
        point: usize,
        window: usize,
        channels: usize,
        channel: usize,
        value: S::f32s,
    ) {
        let at = point * self.0.point + window / 2 * channels + channel;
        let mut pairs = B::round(simd, value);
        // SAFETY: guaranteed by the caller. The first windows of the pairs are written first.
        unsafe {
            let to = self.0.values.as_mut_ptr().add(at).cast::<S::u32s>();
            if window % 2 == 1 {
                let second = simd.wrapping_dyn_shl_u32s(pairs, simd.splat_u32s(16));
                pairs = simd.or_u32s(to.read_unaligned(), second);
            }
            to.write_unaligned(pairs);
        }
    }
}

/// Pairs of input channels `[36, ⌈in/2⌉, out]`, for the weights as one window with `in · out`
/// channels.
pub struct InputPairs<'a> {
    /// The pairs, as for `in` windows with `out` channels.
    pub pairs: WindowPairs<'a>,
    /// The number of output channels, a multiple of [`CHANNELS`].
    pub outputs: usize,
}

impl Domain for InputPairs<'_> {
    fn holds(&self, windows: usize, channels: usize) -> bool {
        windows == 1
            && self.outputs.is_multiple_of(CHANNELS)
            && self.pairs.holds(channels.div_ceil(self.outputs), self.outputs)
    }

    #[inline(always)]
    unsafe fn put<S: Simd, B: Bf16>(
        &mut self,
        simd: S,
        point: usize,
        _: usize,
        _: usize,
        channel: usize,
        value: S::f32s,
    ) {
        let (input, output) = (channel / self.outputs, channel % self.outputs);
        // SAFETY: guaranteed by the caller. The vector is in one row, since rows are a multiple of a
        // vector.
        unsafe { self.pairs.put::<S, B>(simd, point, input, self.outputs, output, value) };
    }
}

impl<A: Domain, B: Domain> Domain for (A, B) {
    fn holds(&self, windows: usize, channels: usize) -> bool {
        self.0.holds(windows, channels) && self.1.holds(windows, channels)
    }

    #[inline(always)]
    unsafe fn put<S: Simd, I: Bf16>(
        &mut self,
        simd: S,
        point: usize,
        window: usize,
        channels: usize,
        channel: usize,
        value: S::f32s,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            self.0.put::<S, I>(simd, point, window, channels, channel, value);
            self.1.put::<S, I>(simd, point, window, channels, channel, value);
        }
    }
}

/// An element of the products in the Winograd domain. There are sums over channels and, for the
/// gradient of the weights, sums over windows.
pub trait WinogradElement: Element {
    /// Transforms `windows` of `images [N, H, W, C]` for sums over channels
    /// `[36, windows, C/numbers]`, for sums over windows `[36, ⌈windows/numbers⌉, C]`, or for both.
    /// For f32 these are the same, and only the first one that is given is written.
    fn transform<T: Forward<N>, const N: usize>(
        isa: Isa,
        layout: &Windows,
        windows: Range<usize>,
        images: &[f32],
        over_channels: Option<Matrices<'_, Self>>,
        over_windows: Option<Matrices<'_, Self>>,
    );

    /// Transforms weights `[R, R, in, out]`, given as an image with the layout `window`, to
    /// `domain [36, in/numbers, out]`.
    fn transform_weight<const R: usize>(
        isa: Isa,
        window: &Windows,
        outputs: usize,
        weight: &[f32],
        domain: Matrices<'_, Self>,
    );
}

impl WinogradElement for f32 {
    fn transform<T: Forward<N>, const N: usize>(
        isa: Isa,
        layout: &Windows,
        windows: Range<usize>,
        images: &[f32],
        over_channels: Option<Matrices<'_, f32>>,
        over_windows: Option<Matrices<'_, f32>>,
    ) {
        if let Some(domain) = over_channels.or(over_windows) {
            f32::run(isa, ToDomain::<T, _, N>::new(layout, windows, images, domain));
        }
    }

    fn transform_weight<const R: usize>(
        isa: Isa,
        window: &Windows,
        _: usize,
        weight: &[f32],
        domain: Matrices<'_, f32>,
    ) {
        f32::run(isa, ToDomain::<Weight, _, R>::new(window, 0..1, weight, domain));
    }
}

impl WinogradElement for Pair {
    fn transform<T: Forward<N>, const N: usize>(
        isa: Isa,
        layout: &Windows,
        windows: Range<usize>,
        images: &[f32],
        over_channels: Option<Matrices<'_, Pair>>,
        over_windows: Option<Matrices<'_, Pair>>,
    ) {
        let (rows, columns) = (windows.len(), layout.channels);
        if !isa.has_bf16() {
            let mut numbers = vec![0.0; PLANE * rows * columns];
            let to = Matrices { values: &mut numbers, point: rows * columns };
            f32::transform::<T, N>(isa, layout, windows, images, Some(to), None);
            over_channels.into_iter().for_each(|to| to.round_in_rows(isa, &numbers, columns));
            over_windows.into_iter().for_each(|to| to.round_across_rows(isa, &numbers, columns));
            return;
        }
        macro_rules! to {
            ($domain:expr) => {
                isa.run_with_bf16(ToDomain::<T, _, N>::new(layout, windows, images, $domain))
            };
        }
        match (over_channels.map(ChannelPairs), over_windows.map(WindowPairs)) {
            (Some(channels), Some(windows)) => to!((channels, windows)),
            (Some(channels), None) => to!(channels),
            (None, Some(windows)) => to!(windows),
            (None, None) => {}
        }
    }

    fn transform_weight<const R: usize>(
        isa: Isa,
        window: &Windows,
        outputs: usize,
        weight: &[f32],
        domain: Matrices<'_, Pair>,
    ) {
        if !isa.has_bf16() {
            let mut numbers = vec![0.0; PLANE * window.channels];
            let to = Matrices { values: &mut numbers, point: window.channels };
            f32::transform_weight::<R>(isa, window, outputs, weight, to);
            return domain.round_across_rows(isa, &numbers, outputs);
        }
        let domain = InputPairs { pairs: WindowPairs(domain), outputs };
        isa.run_with_bf16(ToDomain::<Weight, _, R>::new(window, 0..1, weight, domain));
    }
}

impl Matrices<'_, Pair> {
    /// Rounds matrices of numbers, with rows of `columns` numbers, to pairs of neighbors in a row.
    fn round_in_rows(self, isa: Isa, numbers: &[f32], columns: usize) {
        let (matrix, pitch) = (numbers.len() / PLANE, columns / 2);
        for (from, to) in numbers.chunks(matrix).zip(self.values.chunks_mut(self.point)) {
            let to = &mut to[..matrix / columns * pitch];
            isa.run_bf16(PairsInRows { from, row: columns, len: columns, to, pitch });
        }
    }

    /// Rounds matrices of numbers, with rows of `columns` numbers, to pairs of rows.
    fn round_across_rows(self, isa: Isa, numbers: &[f32], columns: usize) {
        let matrix = numbers.len() / PLANE;
        for (from, to) in numbers.chunks(matrix).zip(self.values.chunks_mut(self.point)) {
            for (rows, to) in from.chunks(2 * columns).zip(to.chunks_exact_mut(columns)) {
                let (first, second) = rows.split_at(columns);
                isa.run_bf16(PairsOfRows { first, second, to });
            }
        }
    }
}

/// The kernel that transforms `windows` of N×N pixels with `T`, from `images [N, H, W, C]` to a
/// domain.
struct ToDomain<'a, T, D, const N: usize> {
    layout: &'a Windows,
    windows: Range<usize>,
    images: &'a [f32],
    domain: D,
    transform: PhantomData<T>,
}

impl<'a, T: Forward<N>, D: Domain, const N: usize> ToDomain<'a, T, D, N> {
    /// Creates the kernel.
    ///
    /// # Panics
    /// When a slice is too short or the number of channels is not a multiple of [`CHANNELS`], which
    /// is a bug in a layer.
    fn new(layout: &'a Windows, windows: Range<usize>, images: &'a [f32], domain: D) -> Self {
        let fits = layout.fit(&windows, images.len());
        assert!(fits && domain.holds(windows.len(), layout.channels), "{layout:?} {windows:?}");
        Self { layout, windows, images, domain, transform: PhantomData }
    }
}

impl<T: Forward<N>, D: Domain, const N: usize> Kernel for ToDomain<'_, T, D, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, B: Bf16>(mut self, simd: S) {
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
                            load::<f32, S>(self.images.as_ptr().add(pixel + channel))
                        },
                        None => zero,
                    });
                    *row = T::apply(simd, line);
                }
                #[expect(clippy::needless_range_loop, reason = "columns of an array of rows")]
                for j in 0..POINTS {
                    let column = T::apply(simd, std::array::from_fn(|i| rows[i][j]));
                    for (i, value) in column.into_iter().enumerate() {
                        let point = i * POINTS + j;
                        // SAFETY: `new` has checked that the domain holds all windows and channels.
                        unsafe {
                            self.domain.put::<S, B>(simd, point, row, channels, channel, value);
                        }
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
        let fits = layout.fit(&windows, images.len());
        let is_held = holds(domain.len(), point, windows.len(), layout.channels);
        assert!(fits && is_held, "{layout:?} {windows:?}");
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
                        if const { T::AHEAD > 0 } {
                            prefetch(self.domain, at + T::AHEAD * S::F32_LANES);
                        }
                        // SAFETY: at most (PLANE - 1)·point + windows·channels - LANES, as `new`
                        // has checked.
                        unsafe { load::<f32, S>(self.domain.as_ptr().add(at)) }
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
                            store::<S>(
                                at,
                                self.emit.emit(simd, channel, || load::<f32, S>(at), value),
                            );
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
