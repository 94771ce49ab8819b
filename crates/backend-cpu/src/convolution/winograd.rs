//! Convolution in Winograd's domain ([`crate::kernels::winograd`]): for kernels of 2 to 5 pixels with stride 1 and, with
//! [`space_to_depth`], for what becomes one.
//!
//! Tiles are handled some dozens at a time ([`TILES`]), so that what is made for them stays in the second-level cache:
//! transform the windows of the input, multiply at each of the 36 points, transform the outputs back.

use std::ops::Range;

use rayon::prelude::*;

use super::{Convolution, Geometry, space_to_depth};
use crate::{
    kernels::{
        Isa,
        product::{Add, Extents, Left, Product, Right, Store},
        winograd::{
            Accumulate, BiasRelu, CHANNELS, FromDomain, Input, InputGradient, Output, OutputGradient, PLANE,
            POINTS, Replace, ToDomain, Weight, WeightGradient, Windows,
        },
    },
    tensor::{Pool, transpose},
};

/// Tiles that are worked on at a time.
const TILES: usize = 64;

/// Numbers that keep the matrices of neighbouring points out of each other's cache lines: a cache places addresses that
/// differ by a power of two together.
const GAP: usize = CHANNELS;

/// Calls a generic function with the number of outputs of a tile as its last constant and that of weights as its first.
macro_rules! by_kernel {
    ($kernel:expr, $m:ident, $r:ident => $body:expr) => {
        match $kernel {
            2 => { const $r: usize = 2; const $m: usize = 5; $body }
            3 => { const $r: usize = 3; const $m: usize = 4; $body }
            4 => { const $r: usize = 4; const $m: usize = 3; $body }
            5 => { const $r: usize = 5; const $m: usize = 2; $body }
            _ => unreachable!("`Winograd::new` takes kernels of 2 to 5 pixels"),
        }
    };
}

/// F(7-r × 7-r, r × r).
pub struct Winograd {
    /// As the layer has it.
    outer: Geometry,
    /// With stride 1.
    inner: Geometry,
    isa: Isa,
    pool: Pool,
    /// The 6×6 windows of the input.
    input: Windows,
    /// The tiles of the output.
    output: Windows,
    /// `[36, in/groups, out]`.
    weight: Vec<f32>,
    /// `[36, out, in/groups]`, when the input's gradient is wanted.
    transposed: Vec<f32>,
}

impl Winograd {
    /// A convolution of this geometry, or `None` where it does not apply: kernels of 2 to 5 pixels once the stride is
    /// gone, channels in sixteens.
    pub fn new(outer: Geometry, isa: Isa, pool: Pool) -> Option<Self> {
        let inner = match outer.stride {
            1 => outer,
            _ if outer.groups == 1 => space_to_depth::geometry(&outer),
            _ => return None,
        };
        let Geometry { input, output, kernel, padding, groups, .. } = inner;
        let sixteens = |channels: usize| (channels / groups).is_multiple_of(CHANNELS);
        if !(2..=5).contains(&kernel) || !sixteens(input[0]) || !sixteens(output[0]) {
            return None;
        }
        let step = POINTS + 1 - kernel;
        let grid = [output[1].div_ceil(step), output[2].div_ceil(step)];
        let windows = |[channels, height, width]: [usize; 3], padding| Windows {
            plane: [height, width],
            channels,
            step,
            padding,
            grid,
        };
        let (input, output) = (windows(input, padding), windows(output, 0));
        Some(Self { outer, inner, isa, pool, input, output, weight: Vec::new(), transposed: Vec::new() })
    }

    /// Channels of a group, in and out.
    fn group(&self) -> (usize, usize) {
        (self.input.channels / self.inner.groups, self.output.channels / self.inner.groups)
    }

    /// Numbers between the matrices of two points, and of a buffer `[36, tiles, channels]`.
    fn domain(tiles: usize, channels: usize) -> (usize, usize) {
        let point = tiles * channels + GAP;
        (point, PLANE * point)
    }

    /// Pieces of the tiles of `images`.
    fn pieces(&self, images: usize) -> impl Iterator<Item = Range<usize>> {
        let tiles = images * self.input.per_image();
        (0..tiles).step_by(TILES).map(move |first| first..(first + TILES).min(tiles))
    }

    /// Calls `work` with images as the inner geometry has them.
    fn with_inner<R>(&self, x: &[f32], work: impl FnOnce(&[f32]) -> R) -> R {
        if self.outer.stride == 1 {
            return work(x);
        }
        let (from, to) = (self.outer.input_len(), self.inner.input_len());
        let mut changed = self.pool.take(x.len() / from * to);
        for (x, changed) in x.chunks_exact(from).zip(changed.chunks_exact_mut(to)) {
            space_to_depth::image(&self.outer, x, changed);
        }
        work(&changed)
    }

    /// `x [N, H, W, C]` of the inner geometry.
    fn forward_inner(&self, x: &[f32], bias: &[f32], relu: bool, y: &mut [f32]) {
        let (group_in, group_out) = self.group();
        let (inputs, outputs) = (self.input.channels, self.output.channels);
        let images = x.len() / self.inner.input_len();
        let (x_point, x_len) = Self::domain(TILES, inputs);
        let (y_point, y_len) = Self::domain(TILES, outputs);
        let (mut x_domain, mut y_domain) = (self.pool.take(x_len), self.pool.take(y_len));
        for tiles in self.pieces(images) {
            self.isa.run(ToDomain::<Input, POINTS>::new(
                &self.input,
                tiles.clone(),
                x,
                &mut x_domain,
                x_point,
            ));
            let weights = self.weight.par_chunks(group_in * outputs);
            let points = x_domain.par_chunks(x_point).zip(y_domain.par_chunks_mut(y_point)).zip(weights);
            points.for_each(|((x, y), weight)| {
                for group in 0..self.inner.groups {
                    let extents = Extents { m: tiles.len(), n: group_out, k: group_in };
                    let left = Left { values: &x[group * group_in..], row: inputs, column: 1 };
                    let right = Right { values: &weight[group * group_out..], row: outputs };
                    let store = Store { values: &mut y[group * group_out..], row: outputs };
                    self.isa.run(Product::new(extents, left, right, store));
                }
            });
            let emit = BiasRelu { bias, relu };
            by_kernel!(self.inner.kernel, M, _R => self.isa.run(
                FromDomain::<Output, _, M>::new(&self.output, tiles, &y_domain, y_point, y, emit)
            ));
        }
    }

    /// As [`Convolution::backward`], with `x` and `dx` of the inner geometry.
    fn backward_inner(
        &self,
        x: &[f32],
        dy: &[f32],
        mut sums: Option<&mut [f32]>,
        first: bool,
        mut dx: Option<&mut [f32]>,
    ) {
        let (inputs, outputs) = (self.input.channels, self.output.channels);
        let images = dy.len() / self.inner.output_len();
        let (x_point, x_len) = Self::domain(TILES, inputs);
        let (y_point, y_len) = Self::domain(TILES, outputs);
        let (mut x_domain, mut y_domain) = (self.pool.take(x_len), self.pool.take(y_len));
        if let Some(dx) = dx.as_deref_mut() {
            dx.fill(0.0);
        }
        for tiles in self.pieces(images) {
            by_kernel!(self.inner.kernel, M, _R => self.isa.run(
                ToDomain::<OutputGradient, M>::new(&self.output, tiles.clone(), dy, &mut y_domain, y_point)
            ));
            if let Some(sums) = sums.as_deref_mut() {
                self.isa.run(ToDomain::<Input, POINTS>::new(
                    &self.input,
                    tiles.clone(),
                    x,
                    &mut x_domain,
                    x_point,
                ));
                self.add_products(
                    &tiles,
                    (&x_domain, x_point),
                    (&y_domain, y_point),
                    sums,
                    first && tiles.start == 0,
                );
            }
            if let Some(dx) = dx.as_deref_mut() {
                self.input_products(&tiles, (&y_domain, y_point), (&mut x_domain, x_point));
                self.isa.run(FromDomain::<InputGradient, _, POINTS>::new(
                    &self.input,
                    tiles,
                    &x_domain,
                    x_point,
                    dx,
                    Accumulate,
                ));
            }
        }
    }

    /// `sums [36, in/groups, out] += Xᵀ·D` at each point.
    fn add_products(
        &self,
        tiles: &Range<usize>,
        (x, x_point): (&[f32], usize),
        (dy, dy_point): (&[f32], usize),
        sums: &mut [f32],
        first: bool,
    ) {
        let (group_in, group_out) = self.group();
        let (inputs, outputs) = (self.input.channels, self.output.channels);
        let points = x.par_chunks(x_point).zip(dy.par_chunks(dy_point));
        points.zip(sums.par_chunks_mut(group_in * outputs)).for_each(|((x, dy), sums)| {
            for group in 0..self.inner.groups {
                let extents = Extents { m: group_in, n: group_out, k: tiles.len() };
                let left = Left { values: &x[group * group_in..], row: 1, column: inputs };
                let right = Right { values: &dy[group * group_out..], row: outputs };
                let store = Store { values: &mut sums[group * group_out..], row: outputs };
                if first {
                    self.isa.run(Product::new(extents, left, right, store));
                } else {
                    self.isa.run(Product::new(extents, left, right, Add(store)));
                }
            }
        });
    }

    /// `dX [36, tiles, in] = D·Uᵀ` at each point.
    fn input_products(
        &self,
        tiles: &Range<usize>,
        (dy, dy_point): (&[f32], usize),
        (dx, dx_point): (&mut [f32], usize),
    ) {
        let (group_in, group_out) = self.group();
        let (inputs, outputs) = (self.input.channels, self.output.channels);
        let points = dx.par_chunks_mut(dx_point).zip(dy.par_chunks(dy_point));
        points.zip(self.transposed.par_chunks(outputs * group_in)).for_each(|((dx, dy), weight)| {
            for group in 0..self.inner.groups {
                let extents = Extents { m: tiles.len(), n: group_in, k: group_out };
                let left = Left { values: &dy[group * group_out..], row: outputs, column: 1 };
                let right = Right { values: &weight[group * group_out * group_in..], row: group_in };
                let store = Store { values: &mut dx[group * group_in..], row: inputs };
                self.isa.run(Product::new(extents, left, right, store));
            }
        });
    }

    /// The weights of the inner geometry as one window of an image with `in/groups · out` channels.
    fn weight_window(&self) -> Windows {
        let kernel = self.inner.kernel;
        let channels = self.group().0 * self.output.channels;
        Windows { plane: [kernel; 2], channels, step: kernel, padding: 0, grid: [1, 1] }
    }
}

impl Convolution for Winograd {
    fn set_weight(&mut self, weight: &[f32], needs_dx: bool) {
        let window = self.weight_window();
        let channels = window.channels;
        self.weight.resize(PLANE * channels, 0.0);
        let mut changed = Vec::new();
        let weight = if self.outer.stride == 1 {
            weight
        } else {
            changed.resize(self.inner.kernel.pow(2) * channels, 0.0);
            space_to_depth::weight(&self.outer, weight, &mut changed);
            &changed
        };
        by_kernel!(self.inner.kernel, _M, R => self.isa.run(
            ToDomain::<Weight, R>::new(&window, 0..1, weight, &mut self.weight, channels)
        ));
        if needs_dx {
            let (inputs, outputs) = (self.group().0, self.output.channels);
            self.transposed.resize(self.weight.len(), 0.0);
            let points = self.transposed.par_chunks_mut(channels).zip(self.weight.par_chunks(channels));
            points.for_each(|(transposed, weight)| transpose(weight, inputs, outputs, transposed));
        }
    }

    fn images_per_task(&self) -> usize {
        TILES.div_ceil(self.input.per_image())
    }

    fn forward(&self, x: &[f32], bias: &[f32], relu: bool, y: &mut [f32]) {
        self.with_inner(x, |x| self.forward_inner(x, bias, relu, y));
    }

    fn sums_len(&self) -> usize {
        PLANE * self.weight_window().channels
    }

    fn backward(&self, x: &[f32], dy: &[f32], sums: Option<&mut [f32]>, first: bool, dx: Option<&mut [f32]>) {
        self.with_inner(x, |inner| match dx {
            Some(dx) if self.outer.stride > 1 => {
                let mut inner_dx = self.pool.take(inner.len());
                self.backward_inner(inner, dy, sums, first, Some(&mut inner_dx));
                let images = inner_dx.chunks_exact(self.inner.input_len());
                for (inner, dx) in images.zip(dx.chunks_exact_mut(self.outer.input_len())) {
                    space_to_depth::image_gradient(&self.outer, inner, dx);
                }
            }
            dx => self.backward_inner(inner, dy, sums, first, dx),
        });
    }

    fn weight_gradient(&self, sums: &[f32], dw: &mut [f32]) {
        let window = self.weight_window();
        let channels = window.channels;
        let inverse = |inner: &mut [f32]| {
            by_kernel!(self.inner.kernel, _M, R => self.isa.run(
                FromDomain::<WeightGradient, _, R>::new(&window, 0..1, sums, channels, inner, Replace)
            ));
        };
        if self.outer.stride == 1 {
            return inverse(dw);
        }
        let mut inner = self.pool.take(self.inner.kernel.pow(2) * channels);
        inverse(&mut inner);
        space_to_depth::weight_gradient(&self.outer, &inner, dw);
    }
}
