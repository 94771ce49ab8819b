//! The fully connected layer, with an optional fused ReLU. The work is divided by features, so that
//! each weight is read once per pass for any batch size. The weights can be divided among ranks
//! ([`crate::division`]).

use std::ops::Range;

use alexnet_core::{
    Backward, Layer, Mode, Precision, Result, memory,
    sum_order::{BalancedSum, images_per_part},
};
use pulp::bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::{CpuLayer, needs_backward, take_saved};
use crate::{
    division::LayerRanks,
    kernels::{
        Isa, Kernels,
        bf16::{Pair, PairsAcrossRows, PairsInRows, PairsOfRows, RoundedRows, row_pairs},
        dot::{DotPairs, DotRows},
        elementwise::{AddTo, MaskGradient, SumPixels},
        gemm::{Element, Extents, Finish, Gemm, Left, Right, Store},
    },
    optimizer::{ApplyToSums, Slices, Update},
    parallel::{ELEMENTS, add_partial_sums},
    parameter::ParameterState,
    tensor::{Buffer, Pool, Tensor, transpose},
};

/// The number of output features of one task.
const OUTPUTS: usize = 56;

/// Padding between rows of pairs, in pairs. Without it, the distance of rows may be a power of two,
/// and such addresses are mapped to the same cache set.
const GAP: usize = 16;

/// The number of output features whose weights are rounded to bf16 at a time. They remain in the
/// second-level cache until they are used.
const ROUNDED_OUTPUTS: usize = 8;

/// The number of input features of one task.
const INPUTS: usize = 256;

/// The number of parts of a sum that are added in registers, a power of two. Their weights are in the
/// second-level cache while they are used.
const PARTS: usize = 8;

/// `y = W·x + b`, then `max(y, 0)` if fused.
pub struct Linear {
    /// The weight `[out, in]` and the bias `[out]`. Only the weight is divided among ranks: each of
    /// them can compute the gradient of the whole bias.
    parameters: [ParameterState; 2],
    /// The ranks among which the weight is divided.
    division: Option<OutputDivision>,
    /// Whether a ReLU is fused.
    relu: bool,
    /// Whether an earlier layer is trainable.
    needs_dx: bool,
    isa: Isa,
    pool: Pool,
    /// The copy of the weight in bf16, if products are computed in bf16.
    rounded: Option<RoundedWeight>,
    saved_for_backward: Option<SavedForBackward>,
}

/// How the outputs of a layer are divided among ranks.
pub struct OutputDivision {
    /// The ranks.
    pub ranks: LayerRanks,
    /// Whether the layer adds the gradients of its input, of which each rank has the sum over its
    /// outputs, over the ranks. If not, a later step of the backward pass does it.
    pub sums_dx: bool,
}

struct SavedForBackward {
    x: Tensor,
    /// Only with a fused ReLU.
    y: Option<Tensor>,
    images_per_part: usize,
}

impl Linear {
    /// Creates a layer with the parameters weight and bias.
    pub fn new(
        parameters: [ParameterState; 2],
        division: Option<OutputDivision>,
        relu: bool,
        needs_dx: bool,
        Kernels { isa, precision, .. }: Kernels,
        pool: Pool,
    ) -> Self {
        let rounded = (precision == Precision::Bf16).then(RoundedWeight::default);
        Self { parameters, division, relu, needs_dx, isa, pool, rounded, saved_for_backward: None }
    }

    /// Returns `(out, in)`.
    fn extents(&self) -> (usize, usize) {
        (self.parameters[0].shape[0], self.parameters[0].shape[1])
    }
}

impl Layer<Tensor> for Linear {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let (outputs, inputs) = self.extents();
        let [weight, bias] = &self.parameters;
        let rows = weight.rows();
        let mut by_output = self.pool.take(outputs * x.batch); // [out, N]
        let y = by_output[rows.start * x.batch..rows.end * x.batch]
            .par_chunks_mut(OUTPUTS * x.batch)
            .zip(bias.values[rows].par_chunks(OUTPUTS));
        let (isa, relu, batch) = (self.isa, self.relu, x.batch);
        match &self.rounded {
            None => {
                y.zip(weight.values.par_chunks(OUTPUTS * inputs)).for_each(|((y, bias), weight)| {
                    isa.run(DotRows { x: x.values(), weight, bias, inputs, relu, y });
                })
            }
            Some(copy) => {
                let pairs = row_pairs(inputs);
                let mut x_pairs = self.pool.take(batch * pairs);
                let x_pairs: &mut [Pair] = cast_slice_mut(&mut x_pairs);
                round_rows(isa, x.values(), inputs, x_pairs);
                let x: &[Pair] = x_pairs;
                let dot = |weight: &[Pair], bias: &[f32], y: &mut [f32]| {
                    isa.run_bf16(DotPairs { x, weight, bias, pairs, relu, y });
                };
                if copy.is_fresh {
                    let weight = copy.pairs.par_chunks(OUTPUTS * pairs);
                    y.zip(weight).for_each(|((y, bias), weight)| dot(weight, bias, y));
                } else {
                    let weight = weight.values.par_chunks(OUTPUTS * inputs);
                    y.zip(weight).for_each(|((y, bias), weight)| {
                        const ROWS: usize = ROUNDED_OUTPUTS;
                        let mut rounded = self.pool.take(ROWS * pairs);
                        let blocks = y.chunks_mut(ROWS * batch).zip(bias.chunks(ROWS));
                        for ((y, bias), weight) in blocks.zip(weight.chunks(ROWS * inputs)) {
                            let rounded = &mut cast_slice_mut(&mut rounded)[..bias.len() * pairs];
                            round_rows(isa, weight, inputs, rounded);
                            dot(rounded, bias, y);
                        }
                    });
                }
            }
        }
        if let Some(OutputDivision { ranks, .. }) = &self.division {
            ranks.gather_rows(&mut by_output, outputs)?;
        }
        let mut y = self.pool.tensor(x.batch, &[outputs]); // [N, out]
        transpose(&by_output, outputs, x.batch, y.values_mut());
        let images_per_part = mode.images_per_part(x.batch);
        self.saved_for_backward = needs_backward(mode).then(|| SavedForBackward {
            x,
            y: self.relu.then(|| y.clone()),
            images_per_part,
        });
        Ok(y)
    }
}

impl Linear {
    /// Masks `dy` by the ReLU, sets the bias gradient and returns the saved input with its
    /// `images_per_part`.
    fn begin_backward(&mut self, dy: &mut Tensor) -> (Tensor, usize) {
        let SavedForBackward { x, y, images_per_part } = take_saved(&mut self.saved_for_backward);
        if let Some(y) = y {
            let chunks =
                dy.values_mut().par_chunks_mut(ELEMENTS).zip(y.values().par_chunks(ELEMENTS));
            chunks.for_each(|(dy, y)| self.isa.run(MaskGradient { dy, y }));
        }
        // A frozen bias has no gradient buffer.
        let [_, bias] = &mut self.parameters;
        if bias.trainable {
            let outputs = bias.values.len();
            let mut partial = self.pool.take(x.batch.div_ceil(images_per_part) * outputs);
            partial.fill(0.0);
            let parts = dy.values().chunks(images_per_part * outputs);
            for (sums, x) in partial.chunks_exact_mut(outputs).zip(parts) {
                self.isa.run(SumPixels { x, sums });
            }
            add_partial_sums(&partial, &mut bias.gradient);
        }
        (x, images_per_part)
    }

    /// Returns `dx = dy · W`, or `dy` if the gradient of the input is not needed. If the outputs are
    /// divided among ranks, see [`OutputDivision::sums_dx`].
    ///
    /// The outputs are divided into parts like the images of a step ([`alexnet_core::sum_order`]),
    /// and the sums over the parts are added as a balanced tree, so that ranks can compute nodes of
    /// it.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Ranks`].
    fn input_gradient(&self, dy: Tensor) -> Result<Tensor> {
        if !self.needs_dx {
            return Ok(dy);
        }
        let (outputs, inputs) = self.extents();
        let [weight, _] = &self.parameters;
        let (rows, part, batch) = (weight.rows(), images_per_part(outputs), dy.batch);
        // No pair of outputs may be in two parts.
        let pairs_fit = self.rounded.is_none() || part.is_multiple_of(2);
        let block = if pairs_fit { PARTS * part } else { part };
        let add = |sum: &mut Buffer, more: &Buffer| self.isa.run(AddTo { sum, more });
        let sum_of_columns = |first: usize| {
            let mut n = INPUTS.min(inputs - first);
            if self.rounded.is_some() {
                // The kernel takes pairs of columns.
                n = n.next_multiple_of(2);
            }
            let mut sum = BalancedSum::default();
            for output in rows.clone().step_by(block) {
                let mut products = self.pool.take(batch * n);
                let outputs_of_parts = output..rows.end.min(output + block);
                match &self.rounded {
                    None => {
                        let extents = Extents { m: batch, n, k: outputs_of_parts.len() };
                        let left = Left { values: &dy.values()[output..], row: outputs, column: 1 };
                        let weight = &weight.values[(output - rows.start) * inputs + first..];
                        let right = Right { values: weight, row: inputs };
                        let store = Store { values: &mut products, row: n };
                        f32::run(self.isa, Gemm::in_parts(extents, left, right, part, store));
                    }
                    Some(rounded) => self.rounded_products(
                        rounded,
                        (dy.values(), outputs_of_parts, part),
                        rows.start,
                        (first, n),
                        &mut products,
                    ),
                }
                sum.push(products, add);
            }
            sum.finish(add)
        };
        let columns = (0..inputs.div_ceil(INPUTS)).into_par_iter();
        let sums: Vec<Option<Buffer>> = columns.map(|i| sum_of_columns(i * INPUTS)).collect();
        let mut dx = self.pool.tensor(batch, &[inputs]);
        dx.values_mut().par_chunks_exact_mut(inputs).enumerate().for_each(|(i, dx)| {
            for (dx, sums) in dx.chunks_mut(INPUTS).zip(&sums) {
                match sums {
                    Some(sums) if self.rounded.is_some() => {
                        let n = dx.len().next_multiple_of(2);
                        interleave(&sums[i * n..][..n], dx);
                    }
                    Some(sums) => dx.copy_from_slice(&sums[i * dx.len()..][..dx.len()]),
                    // A rank without outputs. Adding 0 would change -0 to 0.
                    None => dx.fill(-0.0),
                }
            }
        });
        if let Some(OutputDivision { ranks, sums_dx: true }) = &self.division {
            ranks.collective().sum(dx.values_mut())?;
        }
        Ok(dx)
    }

    /// Computes the products `[N, n]` of `dy [N, out]` and the weight in bf16, for some outputs, of
    /// which this rank has those from `first_row`, and for n inputs from index `first`. The products
    /// for even inputs are before those for odd inputs.
    fn rounded_products(
        &self,
        rounded: &RoundedWeight,
        (dy, outputs, part): (&[f32], Range<usize>, usize),
        first_row: usize,
        (first, n): (usize, usize),
        products: &mut [f32],
    ) {
        let (all_outputs, inputs) = self.extents();
        let (pitch, k) = (row_pairs(inputs), outputs.len().div_ceil(2));
        let row = n + GAP;
        let mut across = self.pool.take(row * k);
        let across: &mut [Pair] = cast_slice_mut(&mut across);
        let from = &rounded.pairs[(outputs.start - first_row) * pitch + first / 2..];
        let rows = outputs.len();
        let to = &mut *across;
        self.isa.run_bf16(PairsAcrossRows { from, pitch, rows, pairs: n / 2, to, row });
        let batch = dy.len() / all_outputs;
        let mut dy_pairs = self.pool.take(batch * k);
        let dy_pairs: &mut [Pair] = cast_slice_mut(&mut dy_pairs);
        let (from, to) = (&dy[outputs.start..], &mut *dy_pairs);
        self.isa.run_bf16(PairsInRows { from, row: all_outputs, len: rows, to, pitch: k });
        let extents = Extents { m: batch, n, k };
        let left = Left { values: &*dy_pairs, row: k, column: 1 };
        let right = Right { values: &*across, row };
        let store = Store { values: products, row: n };
        self.isa.run_bf16(Gemm::in_parts(extents, left, right, part.div_ceil(2), store));
    }
}

/// Copies numbers with even indices, which are the first half of `grouped`, and those with odd
/// indices to their places.
fn interleave(grouped: &[f32], to: &mut [f32]) {
    let (even, odd) = grouped.split_at(grouped.len() / 2);
    for (to, (even, odd)) in to.chunks_mut(2).zip(even.iter().zip(odd)) {
        to[0] = *even;
        if let Some(to) = to.get_mut(1) {
            *to = *odd;
        }
    }
}

/// A copy of the weight in bf16, with the layout of [`PairsInRows`]. It is made before a pass for
/// training or the second pass. The first pass rounds each weight when it is used: in a program
/// that classifies one batch, allocating and filling the copy takes more time than the products.
#[derive(Default)]
struct RoundedWeight {
    pairs: Vec<Pair>,
    /// Whether the weight has not changed since it was rounded.
    is_fresh: bool,
    /// Whether a pass was prepared.
    was_used: bool,
}

impl RoundedWeight {
    /// Rounds the weight, if it has changed.
    fn refresh(&mut self, isa: Isa, weight: &ParameterState) {
        if std::mem::replace(&mut self.is_fresh, true) {
            return;
        }
        let len = weight.shape[1];
        let pitch = row_pairs(len);
        if self.pairs.is_empty() {
            self.pairs = memory::zeros(weight.values.len() / len * pitch);
        }
        let rows =
            self.pairs.par_chunks_mut(OUTPUTS * pitch).zip(weight.values.par_chunks(OUTPUTS * len));
        rows.for_each(|(to, rows)| round_rows(isa, rows, len, to));
    }
}

/// Rounds rows of numbers `[N, len]` to pairs of numbers of a row.
fn round_rows(isa: Isa, rows: &[f32], len: usize, to: &mut [Pair]) {
    isa.run_bf16(PairsInRows { from: rows, row: len, len, to, pitch: row_pairs(len) });
}

/// Rounds rows of numbers `[N, len]` to pairs of rows, at a distance of len + [`GAP`]. Each part of
/// `rows_per_part` rows has its own pairs; with an odd number of rows, the last pairs of a part have
/// zeros.
fn pairs_of_rows(isa: Isa, pool: &Pool, rows: &[f32], len: usize, rows_per_part: usize) -> Buffer {
    let (pairs_per_part, pitch) = (rows_per_part.div_ceil(2), len + GAP);
    let parts = (rows.len() / len).div_ceil(rows_per_part);
    let mut pairs = pool.take(parts * pairs_per_part * pitch);
    let to: &mut [Pair] = cast_slice_mut(&mut pairs);
    let parts = to.par_chunks_mut(pairs_per_part * pitch).zip(rows.par_chunks(rows_per_part * len));
    parts.for_each(|(to, rows)| {
        let mut pairs = rows.chunks(2 * len);
        for to in to.chunks_exact_mut(pitch) {
            let to = &mut to[..len];
            match pairs.next() {
                Some(pair) => {
                    let (first, second) = pair.split_at(len);
                    isa.run_bf16(PairsOfRows { first, second, to });
                }
                // The last part may have fewer rows.
                None => to.fill(0),
            }
        }
    });
    pairs
}

/// The operands of the weight gradient: the gradient of the outputs `[t, out]` and the inputs
/// `[t, in]`, where t counts images, or pairs of images.
struct GradientOperands<'a, E> {
    dy: Right<'a, E>,
    x: Right<'a, E>,
    inputs: usize,
    /// The length of a part of the sum over t.
    part: usize,
}

impl<'a, E: Element> GradientOperands<'a, E> {
    /// Returns the product that computes the weight gradient of `outputs` outputs, from index
    /// `first`, and passes it to `finish`.
    fn product<F: Finish>(&self, first: usize, outputs: usize, finish: F) -> Gemm<'a, F, E, true> {
        let Self { dy, x, inputs, part } = *self;
        let extents = Extents { m: outputs, n: inputs, k: x.values.len() / x.row };
        let left = Left { values: &dy.values[first..], row: 1, column: dy.row };
        Gemm::in_parts(extents, left, x, part, finish)
    }

    /// Writes the gradient of the outputs from index `first`.
    fn write(&self, isa: Isa, first: usize, gradient: &mut [f32]) {
        let inputs = self.inputs;
        gradient.par_chunks_mut(OUTPUTS * inputs).enumerate().for_each(|(i, gradient)| {
            let rows = gradient.len() / inputs;
            let store = Store { values: gradient, row: inputs };
            E::run(isa, self.product(first + i * OUTPUTS, rows, store));
        });
    }

    /// Updates the weights of the outputs from index `first`, and `rounded`, the copy in bf16 if
    /// there is one. Returns the sum of the squared gradient.
    fn update(
        &self,
        isa: Isa,
        update: &Update,
        first: usize,
        slices: Slices<'_>,
        rounded: &mut [Pair],
    ) -> f64 {
        let (row, pitch) = (self.inputs, row_pairs(self.inputs));
        let pieces = slices.pieces(OUTPUTS * row);
        let mut rounded = rounded.chunks_mut(OUTPUTS * pitch);
        let pieces: Vec<_> =
            pieces.into_iter().map(|slices| (slices, rounded.next().unwrap_or_default())).collect();
        let sums = pieces.into_par_iter().enumerate().map(|(i, (slices, pairs))| {
            let rows = slices.values.len() / row;
            let rounded = RoundedRows { pairs, pitch };
            let apply = ApplyToSums { update, slices, row, rounded, square_sum: 0.0 };
            E::run(isa, self.product(first + i * OUTPUTS, rows, apply)).square_sum
        });
        // Added in a fixed order, independently of the threads.
        sums.collect::<Vec<f64>>().iter().sum()
    }
}

/// Evaluates an expression with the operands of the weight gradient, in the precision of the layer.
macro_rules! with_operands {
    ($layer:expr, $dy:expr, $x:expr, $part:expr, $operands:ident => $body:expr) => {{
        let (dy, x, part): (&Tensor, &Tensor, usize) = ($dy, $x, $part);
        let (outputs, inputs) = (dy.item_len(), x.item_len());
        if $layer.rounded.is_some() {
            let pairs = |tensor: &Tensor| {
                let len = tensor.item_len();
                pairs_of_rows($layer.isa, &$layer.pool, tensor.values(), len, part)
            };
            let (dy, x) = (pairs(dy), pairs(x));
            let dy = Right { values: cast_slice::<f32, Pair>(&dy), row: outputs + GAP };
            let x = Right { values: cast_slice(&x), row: inputs + GAP };
            let $operands = GradientOperands { dy, x, inputs, part: part.div_ceil(2) };
            $body
        } else {
            let dy = Right { values: dy.values(), row: outputs };
            let x = Right { values: x.values(), row: inputs };
            let $operands = GradientOperands { dy, x, inputs, part };
            $body
        }
    }};
}

impl Backward<Tensor> for Linear {
    fn backward(&mut self, mut dy: Tensor) -> Result<Tensor> {
        let (x, part) = self.begin_backward(&mut dy);
        let [weight, _] = &mut self.parameters;
        if weight.trainable {
            let first = weight.rows().start;
            weight.gradient.resize(weight.values.len(), 0.0);
            with_operands!(self, &dy, &x, part, operands => {
                operands.write(self.isa, first, &mut weight.gradient);
            });
        }
        self.input_gradient(dy)
    }
}

impl CpuLayer for Linear {
    fn prepare(&mut self, for_backward: bool) {
        if let Some(rounded) = &mut self.rounded
            && (std::mem::replace(&mut rounded.was_used, true) || for_backward)
        {
            rounded.refresh(self.isa, &self.parameters[0]);
        }
    }

    fn parameters(&self) -> &[ParameterState] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [ParameterState] {
        if let Some(rounded) = &mut self.rounded {
            rounded.is_fresh = false;
        }
        &mut self.parameters
    }

    /// The weights are updated while their gradient is computed, and the gradient is not written to
    /// memory. Weights and moments are most of the memory traffic of a step.
    fn backward_and_update(
        &mut self,
        mut dy: Tensor,
        isa: Isa,
        update: &Update,
    ) -> Result<(Tensor, f64)> {
        let (x, part) = self.begin_backward(&mut dy);
        let dx = self.input_gradient(dy.clone())?;
        let [weight, bias] = &mut self.parameters;
        let first = weight.rows().start;
        let mut square_sum = 0.0;
        if weight.trainable {
            square_sum += with_operands!(self, &dy, &x, part, operands => {
                let rounded = self.rounded.as_mut().map_or(&mut [][..], |r| &mut r.pairs[..]);
                operands.update(isa, update, first, weight.slices(), rounded)
            });
        }
        if bias.trainable {
            // All ranks have the same bias.
            if weight.share.rank == 0 {
                square_sum += bias.gradient_square_sum(isa);
            }
            bias.update(isa, update);
        }
        Ok((dx, square_sum))
    }
}
