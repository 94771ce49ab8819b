//! Winograd convolution ([`crate::kernels::winograd`]) for kernels of 2 to 5 pixels with stride 1,
//! and for convolutions that [`space_to_depth`] converts to such ones.
//!
//! A few dozen tiles ([`TILES`]) are processed at a time, so that their intermediate results stay
//! in the second-level cache: the windows of the input are transformed, multiplied at each of the
//! 36 points, and the products are transformed back to outputs.

use std::ops::Range;

use alexnet_core::memory;
use pulp::bytemuck::{Pod, cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::{Convolution, Geometry, WeightSums, space_to_depth};
use crate::{
    kernels::{
        Isa,
        gemm::{Add, Extents, Gemm, Left, Right, Store},
        winograd::{
            Accumulate, BiasRelu, CHANNELS, FromDomain, Input, InputGradient, Matrices, Output,
            OutputGradient, PLANE, POINTS, Replace, WeightGradient, Windows, WinogradElement,
        },
    },
    tensor::{Pool, transpose},
};

/// The approximate number of tiles that are processed at a time.
const TILES: usize = 64;

/// With fewer tiles than this, the weights of a point are used too few times to hide the latency of
/// loading them from memory.
const FEW_TILES: usize = 32;

/// The number of rows of a register tile of the matrix product.
const GEMM_TILE_ROWS: usize = 14;

/// The number of inputs whose sums over all tiles are computed at a time, if they are transformed at
/// once to the weight gradient: four register tiles. Their sums are in the caches then.
const BLOCK: usize = 4 * GEMM_TILE_ROWS;

/// Padding between the matrices of two points, in numbers. Without it, their distance may be a
/// power of two, and such addresses are mapped to the same cache set.
const GAP: usize = CHANNELS;

/// Evaluates an expression with two constants: the outputs of a tile (m = 7 - r) and the weights
/// (r) in each direction.
macro_rules! by_kernel {
    ($kernel:expr, $m:ident, $r:ident => $body:expr) => {
        match $kernel {
            2 => {
                const $r: usize = 2;
                const $m: usize = 5;
                $body
            }
            3 => {
                const $r: usize = 3;
                const $m: usize = 4;
                $body
            }
            4 => {
                const $r: usize = 4;
                const $m: usize = 3;
                $body
            }
            5 => {
                const $r: usize = 5;
                const $m: usize = 2;
                $body
            }
            _ => unreachable!("`Winograd::new` takes kernels of 2 to 5 pixels"),
        }
    };
}

/// The Winograd convolution F(7-r × 7-r, r × r), whose products multiply elements `E`: numbers in
/// f32, or pairs of numbers in bf16. The transforms and all sums are computed in f32.
pub struct Winograd<E> {
    /// The geometry of the layer.
    outer: Geometry,
    /// The geometry after the conversion to stride 1.
    inner: Geometry,
    isa: Isa,
    pool: Pool,
    /// The layout of the 6×6 windows of the input.
    input: Windows,
    /// The layout of the tiles of the output.
    output: Windows,
    /// The transformed weights `[36, in/groups/numbers, out]`, where `numbers` is the count of
    /// numbers in an element.
    weight: Vec<E>,
    /// The transposed weights `[36, out/numbers, in/groups]`, if the gradient of the input is needed.
    transposed: Vec<E>,
}

impl<E: WinogradElement> Winograd<E> {
    /// Creates a convolution of this geometry, or returns `None` if it is not supported. Supported
    /// are kernels of 2 to 5 pixels (after the conversion to stride 1) and multiples of 16
    /// channels.
    pub fn new(outer: Geometry, isa: Isa, pool: Pool) -> Option<Self> {
        let inner = match outer.stride {
            1 => outer,
            _ if outer.groups == 1 => space_to_depth::geometry(&outer),
            _ => return None,
        };
        let Geometry { input, output, kernel, padding, groups, .. } = inner;
        let is_multiple_of_16 = |channels: usize| (channels / groups).is_multiple_of(CHANNELS);
        if !(2..=5).contains(&kernel)
            || !is_multiple_of_16(input[0])
            || !is_multiple_of_16(output[0])
        {
            return None;
        }
        let step = POINTS + 1 - kernel;
        let grid = [output[1].div_ceil(step), output[2].div_ceil(step)];
        let windows = |[channels, height, width]: [usize; 3], padding| Windows {
            plane: [height, width],
            channels,
            pixel: channels,
            step,
            padding,
            grid,
        };
        let (input, output) = (windows(input, padding), windows(output, 0));
        Some(Self {
            outer,
            inner,
            isa,
            pool,
            input,
            output,
            weight: Vec::new(),
            transposed: Vec::new(),
        })
    }

    /// Returns the input and output channels of a group.
    fn group(&self) -> (usize, usize) {
        (self.input.channels / self.inner.groups, self.output.channels / self.inner.groups)
    }

    /// Returns the distance between the matrices of two points, and the size of a buffer `[36,
    /// tiles, channels]`, in elements.
    fn domain(tiles: usize, channels: usize) -> (usize, usize) {
        let point = tiles * channels + GAP;
        (point, PLANE * point)
    }

    /// Returns the sizes of [`Winograd::domain`] for sums over the channels.
    fn domain_over_channels(tiles: usize, channels: usize) -> (usize, usize) {
        Self::domain(tiles, channels / E::NUMBERS)
    }

    /// Returns the sizes of [`Winograd::domain`] for sums over the tiles.
    fn domain_over_tiles(tiles: usize, channels: usize) -> (usize, usize) {
        Self::domain(tiles.div_ceil(E::NUMBERS), channels)
    }

    /// Returns the number of rows of tiles that are processed at a time: some rows of an image, or
    /// all rows of several images.
    fn rows_per_piece(&self) -> usize {
        let [rows, columns] = self.input.grid;
        let wanted = TILES.div_ceil(columns);
        if wanted < rows { wanted } else { rows * TILES.div_ceil(self.input.per_image()) }
    }

    /// Divides the tiles of `images` into pieces of `rows_per_piece` rows. A piece is a part of one
    /// image, or consists of complete images.
    fn pieces(&self, images: usize, rows_per_piece: usize) -> impl Iterator<Item = Range<usize>> {
        let [rows, columns] = self.input.grid;
        let period = rows_per_piece.max(rows);
        (0..images * rows).step_by(period).flat_map(move |first| {
            let last = (first + period).min(images * rows);
            (first..last)
                .step_by(rows_per_piece)
                .map(move |row| row * columns..(row + rows_per_piece).min(last) * columns)
        })
    }

    /// Calls `work` with the images converted to the inner geometry.
    fn with_inner<R>(&self, x: &[f32], work: impl FnOnce(&[f32]) -> R) -> R {
        if self.outer.stride == 1 {
            return work(x);
        }
        let (from, to) = (self.outer.input_len(), self.inner.input_len());
        let mut converted = self.pool.take(x.len() / from * to);
        for (x, converted) in x.chunks_exact(from).zip(converted.chunks_exact_mut(to)) {
            space_to_depth::image(&self.outer, x, converted);
        }
        work(&converted)
    }

    /// Computes the forward pass for `x [N, H, W, C]` in the inner geometry. A `single_image` is
    /// divided among the threads.
    fn forward_inner(
        &self,
        x: &[f32],
        single_image: bool,
        bias: &[f32],
        relu: bool,
        y: &mut [f32],
    ) {
        let images = x.len() / self.inner.input_len();
        let mut rows = self.rows_per_piece();
        if single_image {
            // Enough pieces to keep all threads busy, each with at least the rows of one register
            // tile of the matrix product.
            let [grid_rows, columns] = self.input.grid;
            let least = GEMM_TILE_ROWS.div_ceil(columns).min(rows);
            rows = (grid_rows / (4 * rayon::current_num_threads())).clamp(least, rows);
        }
        // The outputs of a piece are contiguous, so that pieces can be processed in parallel.
        let mut rest = y;
        let pieces: Vec<_> = self
            .pieces(images, rows)
            .map(|tiles| {
                let y;
                (y, rest) = std::mem::take(&mut rest).split_at_mut(self.outputs_of(&tiles));
                (tiles, y)
            })
            .collect();
        pieces.into_par_iter().for_each(|(tiles, y)| self.forward_piece(x, tiles, bias, relu, y));
    }

    /// Returns the size of the outputs of a piece, in numbers.
    fn outputs_of(&self, tiles: &Range<usize>) -> usize {
        let Windows { plane: [height, width], channels, step, grid: [rows, columns], .. } =
            self.output;
        let (first, last) = (tiles.start / columns, tiles.end / columns);
        let lines = |row: usize| row / rows * height + (row % rows * step).min(height);
        (lines(last) - lines(first)) * width * channels
    }

    /// Computes the outputs `y` of `tiles`.
    fn forward_piece(
        &self,
        x: &[f32],
        tiles: Range<usize>,
        bias: &[f32],
        relu: bool,
        y: &mut [f32],
    ) {
        let (group_in, group_out) = self.group();
        let (inputs, outputs) = (self.input.channels, self.output.channels);
        let (x_point, x_len) = Self::domain_over_channels(tiles.len(), inputs);
        let (y_point, y_len) = Self::domain(tiles.len(), outputs);
        let (mut x_domain, mut y_domain) = (self.pool.take(x_len), self.pool.take(y_len));
        let x_domain: &mut [E] = cast_slice_mut(&mut x_domain);
        let over_channels = Matrices { values: &mut *x_domain, point: x_point };
        E::transform::<Input, POINTS>(
            self.isa,
            &self.input,
            tiles.clone(),
            x,
            Some(over_channels),
            None,
        );
        let (inputs, group_in) = (inputs / E::NUMBERS, group_in / E::NUMBERS);
        let weights = self.weight.par_chunks(self.weight_domain().0);
        let points =
            x_domain.par_chunks(x_point).zip(y_domain.par_chunks_mut(y_point)).zip(weights);
        points.for_each(|((x, y), weight)| {
            if tiles.len() == self.input.per_image() && tiles.len() < FEW_TILES {
                read_through(weight);
            }
            for group in 0..self.inner.groups {
                let extents = Extents { m: tiles.len(), n: group_out, k: group_in };
                let left = Left { values: &x[group * group_in..], row: inputs, column: 1 };
                let right = Right { values: &weight[group * group_out..], row: outputs };
                let store = Store { values: &mut y[group * group_out..], row: outputs };
                E::run(self.isa, Gemm::new(extents, left, right, store));
            }
        });
        // The layout of this piece as one or several images.
        let mut layout = self.output.clone();
        if tiles.len() < self.output.per_image() {
            layout.grid[0] = tiles.len() / layout.grid[1];
            layout.plane[0] = y.len() / (layout.plane[1] * layout.channels);
        }
        let emit = BiasRelu { bias, relu };
        by_kernel!(self.inner.kernel, M, _R => self.isa.run(
            FromDomain::<Output, _, M>::new(&layout, 0..tiles.len(), &y_domain, y_point, y, emit)
        ));
    }

    /// Computes [`Convolution::backward`] with `x` and `dx` in the inner geometry.
    fn backward_inner(
        &self,
        x: &[f32],
        dy: &[f32],
        mut weight: Option<WeightSums<'_>>,
        mut dx: Option<&mut [f32]>,
    ) {
        let (inputs, outputs) = (self.input.channels, self.output.channels);
        let images = dy.len() / self.inner.output_len();
        let all_tiles = images * self.input.per_image();
        let rows = self.rows_per_piece();
        let max_tiles = rows * self.input.grid[1];
        let (x_point, x_len) = Self::domain_over_tiles(max_tiles, inputs);
        let (dx_point, dx_len) = Self::domain(max_tiles, inputs);
        let (dy_point, dy_len) = Self::domain_over_channels(max_tiles, outputs);
        let (dy_tile_point, dy_tile_len) = Self::domain_over_tiles(max_tiles, outputs);
        // With one number per element, sums over channels and over tiles have the same operands.
        let is_shared = E::NUMBERS == 1;
        let mut x_domain = self.pool.take(x_len.max(dx_len));
        let mut dy_domain = self.pool.take(dy_len);
        let mut dy_tile_domain =
            (!is_shared && weight.is_some()).then(|| self.pool.take(dy_tile_len));
        if let Some(dx) = dx.as_deref_mut() {
            dx.fill(0.0);
        }
        for tiles in self.pieces(images, rows) {
            let over_channels = (is_shared || dx.is_some())
                .then(|| Matrices { values: cast_slice_mut(&mut dy_domain), point: dy_point });
            let over_tiles = dy_tile_domain
                .as_mut()
                .map(|domain| Matrices { values: cast_slice_mut(domain), point: dy_tile_point });
            by_kernel!(self.inner.kernel, M, _R => E::transform::<OutputGradient, M>(
                self.isa, &self.output, tiles.clone(), dy, over_channels, over_tiles
            ));
            if let Some(WeightSums { sums, first, gradient }) = &mut weight {
                let over_tiles = Matrices { values: cast_slice_mut(&mut x_domain), point: x_point };
                E::transform::<Input, POINTS>(
                    self.isa,
                    &self.input,
                    tiles.clone(),
                    x,
                    None,
                    Some(over_tiles),
                );
                let dy = match &dy_tile_domain {
                    Some(domain) => (cast_slice(domain), dy_tile_point),
                    None => (cast_slice(&dy_domain), dy_point),
                };
                let x = (cast_slice(&x_domain), x_point);
                let is_first = *first && tiles.start == 0;
                let gradient = gradient.as_deref_mut().filter(|_| tiles.end == all_tiles);
                self.weight_products(&tiles, x, dy, (sums, is_first), gradient);
            }
            if let Some(dx) = dx.as_deref_mut() {
                let dy = (cast_slice(&dy_domain), dy_point);
                self.input_products(&tiles, dy, (&mut x_domain, dx_point));
                self.isa.run(FromDomain::<InputGradient, _, POINTS>::new(
                    &self.input,
                    tiles,
                    &x_domain,
                    dx_point,
                    dx,
                    Accumulate,
                ));
            }
        }
    }

    /// Computes `sums [36, in/groups, out] += Xᵀ·D` at each point, or without the addition if
    /// `is_first`. If `gradient` is given, transforms the sums to it.
    fn weight_products(
        &self,
        tiles: &Range<usize>,
        (x, x_point): (&[E], usize),
        (dy, dy_point): (&[E], usize),
        (sums, is_first): (&mut [f32], bool),
        mut gradient: Option<&mut [f32]>,
    ) {
        let (group_in, group_out) = self.group();
        let (inputs, outputs) = (self.input.channels, self.output.channels);
        let k = tiles.len().div_ceil(E::NUMBERS);
        // Sums that are kept for other tiles have all inputs.
        let block = if is_first && gradient.is_some() { BLOCK } else { group_in };
        for first in (0..group_in).step_by(block) {
            let rows = block.min(group_in - first);
            let (point, len) = Self::domain(rows, outputs);
            let sums = &mut sums[..len];
            let points = x.par_chunks(x_point).zip(dy.par_chunks(dy_point));
            points.zip(sums.par_chunks_mut(point)).for_each(|((x, dy), sums)| {
                for group in 0..self.inner.groups {
                    let extents = Extents { m: rows, n: group_out, k };
                    let x = &x[group * group_in + first..];
                    let left = Left { values: x, row: 1, column: inputs };
                    let right = Right { values: &dy[group * group_out..], row: outputs };
                    let store = Store { values: &mut sums[group * group_out..], row: outputs };
                    if is_first {
                        E::run(self.isa, Gemm::new(extents, left, right, store));
                    } else {
                        E::run(self.isa, Gemm::new(extents, left, right, Add(store)));
                    }
                }
            });
            if let Some(gradient) = gradient.as_deref_mut() {
                let window = Windows { channels: rows * outputs, ..self.weight_window() };
                let to = &mut gradient[first * outputs..];
                by_kernel!(self.inner.kernel, _M, R => self.isa.run(
                    FromDomain::<WeightGradient, _, R>::new(&window, 0..1, sums, point, to, Replace)
                ));
            }
        }
    }

    /// Computes `dX [36, tiles, in] = D·Uᵀ` at each point.
    fn input_products(
        &self,
        tiles: &Range<usize>,
        (dy, dy_point): (&[E], usize),
        (dx, dx_point): (&mut [f32], usize),
    ) {
        let (group_in, group_out) = self.group();
        let (inputs, outputs) = (self.input.channels, self.output.channels / E::NUMBERS);
        let group_out = group_out / E::NUMBERS;
        let points = dx.par_chunks_mut(dx_point).zip(dy.par_chunks(dy_point));
        points.zip(self.transposed.par_chunks(self.weight_domain().0)).for_each(
            |((dx, dy), weight)| {
                for group in 0..self.inner.groups {
                    let extents = Extents { m: tiles.len(), n: group_in, k: group_out };
                    let left = Left { values: &dy[group * group_out..], row: outputs, column: 1 };
                    let right =
                        Right { values: &weight[group * group_out * group_in..], row: group_in };
                    let store = Store { values: &mut dx[group * group_in..], row: inputs };
                    E::run(self.isa, Gemm::new(extents, left, right, store));
                }
            },
        );
    }

    /// Returns the layout of the weights in the inner geometry, as one window of an image with
    /// `in/groups · out` channels.
    fn weight_window(&self) -> Windows {
        let kernel = self.inner.kernel;
        let channels = self.group().0 * self.output.channels;
        let (plane, grid) = ([kernel; 2], [1, 1]);
        Windows { plane, channels, pixel: channels, step: kernel, padding: 0, grid }
    }

    /// Returns the sizes of [`Winograd::domain`] of the weights, and of the transposed weights.
    fn weight_domain(&self) -> (usize, usize) {
        Self::domain(self.group().0 / E::NUMBERS, self.output.channels)
    }
}

impl<E: WinogradElement> Convolution for Winograd<E> {
    fn set_weight(&mut self, weight: &[f32], needs_dx: bool) {
        let window = self.weight_window();
        let (point, len) = self.weight_domain();
        if self.weight.is_empty() {
            self.weight = memory::zeros(len);
        }
        let mut converted = Vec::new();
        let weight = if self.outer.stride == 1 {
            weight
        } else {
            converted.resize(self.inner.kernel.pow(2) * window.channels, 0.0);
            space_to_depth::weight(&self.outer, weight, &mut converted);
            &converted
        };
        let (inputs, outputs) = (self.group().0, self.output.channels);
        let to_domain = |weight: &[f32], outputs: usize, values: &mut [E]| {
            let matrices = Matrices { values, point };
            by_kernel!(self.inner.kernel, _M, R => {
                E::transform_weight::<R>(self.isa, &window, outputs, weight, matrices)
            });
        };
        to_domain(weight, outputs, &mut self.weight);
        if needs_dx {
            if self.transposed.is_empty() {
                self.transposed = memory::zeros(len);
            }
            let mut transposed = self.pool.take(weight.len());
            let planes = transposed.chunks_mut(window.channels).zip(weight.chunks(window.channels));
            planes.for_each(|(to, from)| transpose(from, inputs, outputs, to));
            to_domain(&transposed, inputs, &mut self.transposed);
        }
    }

    fn images_per_task(&self) -> usize {
        TILES.div_ceil(self.input.per_image())
    }

    fn forward(&self, x: &[f32], single_image: bool, bias: &[f32], relu: bool, y: &mut [f32]) {
        self.with_inner(x, |x| self.forward_inner(x, single_image, bias, relu, y));
    }

    fn sums_len(&self) -> usize {
        Self::domain(self.group().0, self.output.channels).1
    }

    fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        weight: Option<WeightSums<'_>>,
        dx: Option<&mut [f32]>,
    ) {
        self.with_inner(x, |x| {
            if self.outer.stride == 1 {
                return self.backward_inner(x, dy, weight, dx);
            }
            let mut inner_dx = dx.is_some().then(|| self.pool.take(x.len()));
            let window = self.weight_window();
            let mut inner_gradient = self.pool.take(self.inner.kernel.pow(2) * window.channels);
            let mut gradient = None;
            let weight = weight.map(|weight| {
                gradient = weight.gradient;
                let inner = gradient.is_some().then_some(&mut inner_gradient[..]);
                WeightSums { gradient: inner, ..weight }
            });
            self.backward_inner(x, dy, weight, inner_dx.as_deref_mut());
            if let Some(gradient) = gradient {
                space_to_depth::weight_gradient(&self.outer, &inner_gradient, gradient);
            }
            if let Some((inner_dx, dx)) = inner_dx.zip(dx) {
                let images = inner_dx.chunks_exact(self.inner.input_len());
                for (inner, dx) in images.zip(dx.chunks_exact_mut(self.outer.input_len())) {
                    space_to_depth::image_gradient(&self.outer, inner, dx);
                }
            }
        });
    }
}

/// Reads a matrix sequentially, which is the fastest access to memory. The matrix product that
/// follows then finds the matrix in the cache, in any order of access.
fn read_through<E: Pod>(matrix: &[E]) {
    const LINE: usize = 16;
    let words: &[u32] = cast_slice(matrix);
    std::hint::black_box(words.iter().step_by(LINE).fold(0_u32, |sum, word| sum ^ word));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{convolution::Im2col, kernels::bf16::Pair};

    /// Returns pseudorandom numbers in -1..1.
    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn geometry(
        channels: [usize; 2],
        size: [usize; 2],
        kernel: [usize; 3],
        groups: usize,
    ) -> Geometry {
        let [kernel, stride, padding] = kernel;
        let output = size.map(|extent| (extent + 2 * padding - kernel) / stride + 1);
        Geometry {
            input: [channels[0], size[0], size[1]],
            output: [channels[1], output[0], output[1]],
            kernel,
            stride,
            padding,
            groups,
        }
    }

    /// Returns the largest difference divided by the largest absolute value.
    fn distance(a: &[f32], b: &[f32]) -> f32 {
        // The maximum of a number and NaN is the number.
        assert!(a.iter().all(|a| a.is_finite()), "some numbers are not finite, or not written");
        let largest = b.iter().fold(0.0f32, |largest, b| largest.max(b.abs()));
        a.iter().zip(b).fold(0.0f32, |distance, (a, b)| distance.max((a - b).abs())) / largest
    }

    /// Compares with the plain sum for all kernel sizes, incomplete tiles, several pieces per
    /// image, several images per piece, several blocks of inputs, groups and strides, with all
    /// instruction sets.
    #[test]
    fn equals_the_plain_sum() {
        for isa in Isa::available() {
            compare::<f32>(isa, 1e-5);
        }
    }

    /// The transforms enlarge the rounding of the factors to bf16 (relative 2⁻⁹) several times. The
    /// plain sum is computed without this rounding.
    #[test]
    fn is_near_the_plain_sum_with_products_in_bf16() {
        for isa in [Isa::best(), Isa::Portable] {
            compare::<Pair>(isa, 0.03);
        }
    }

    /// Compares with the plain sum in f32.
    fn compare<E: WinogradElement>(isa: Isa, tolerance: f32) {
        let cases = [
            (geometry([16, 32], [13, 13], [3, 1, 1], 1), 7),
            (geometry([48, 16], [27, 29], [5, 1, 2], 1), 2),
            (geometry([16, 16], [9, 70], [4, 1, 0], 1), 1),
            (geometry([32, 16], [8, 6], [2, 1, 1], 1), 3),
            (geometry([32, 96], [11, 5], [3, 1, 1], 2), 3),
            (geometry([128, 32], [6, 6], [3, 1, 1], 2), 3),
            (geometry([3, 48], [61, 47], [11, 4, 2], 1), 2),
            (geometry([4, 16], [21, 18], [5, 2, 1], 1), 2),
        ];
        for (geometry, images) in cases {
            let x = numbers(images * geometry.input_len(), 1);
            let dy = numbers(images * geometry.output_len(), 2);
            let taps = geometry.kernel.pow(2) * geometry.input[0] / geometry.groups;
            let weight = numbers(taps * geometry.output[0], 3);
            let bias = numbers(geometry.output[0], 4);
            // All images at once, or the first one before the others.
            for first in [images, 1] {
                let compute = |convolution: &mut dyn Convolution| {
                    convolution.set_weight(&weight, true);
                    let mut y = vec![f32::NAN; dy.len()];
                    convolution.forward(&x, images == 1, &bias, true, &mut y);
                    let mut sums = vec![f32::NAN; convolution.sums_len()];
                    let (mut dw, mut dx) = (vec![f32::NAN; weight.len()], vec![f32::NAN; x.len()]);
                    for images in [0..first, first..images].into_iter().filter(|i| !i.is_empty()) {
                        let sums = WeightSums {
                            sums: &mut sums,
                            first: images.start == 0,
                            gradient: (images.end * geometry.input_len() == x.len())
                                .then_some(&mut dw[..]),
                        };
                        let of = |len| images.start * len..images.end * len;
                        let (inputs, outputs) =
                            (of(geometry.input_len()), of(geometry.output_len()));
                        let dx = &mut dx[inputs.clone()];
                        convolution.backward(&x[inputs], &dy[outputs], Some(sums), Some(dx));
                    }
                    [y, dw, dx]
                };
                let pool = Pool::default();
                let expected = compute(&mut Im2col::new(geometry, Isa::Portable, pool.clone()));
                let mut winograd = Winograd::<E>::new(geometry, isa, pool.clone())
                    .expect("the geometry is supported");
                let found = compute(&mut winograd);
                for (what, (found, expected)) in
                    ["y", "dw", "dx"].iter().zip(found.iter().zip(&expected))
                {
                    let distance = distance(found, expected);
                    assert!(
                        distance < tolerance,
                        "{what} of {geometry:?} on {isa} is off by {distance:e}"
                    );
                }
            }
        }
    }

    #[test]
    fn unsupported_geometries_are_refused() {
        let supports =
            |geometry| Winograd::<f32>::new(geometry, Isa::Portable, Pool::default()).is_some();
        assert!(!supports(geometry([3, 16], [9, 9], [3, 1, 1], 1)), "too few channels");
        assert!(
            !supports(geometry([16, 24], [9, 9], [3, 1, 1], 1)),
            "channels that are not a multiple of 16"
        );
        assert!(!supports(geometry([16, 16], [9, 9], [1, 1, 0], 1)), "a kernel of one pixel");
        assert!(!supports(geometry([16, 16], [9, 9], [7, 1, 0], 1)), "a large kernel");
        assert!(!supports(geometry([32, 32], [9, 9], [4, 2, 0], 2)), "groups with a stride");
    }
}
