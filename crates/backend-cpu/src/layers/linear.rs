//! The fully connected layer, with an optional fused ReLU. The work is divided by features, so that
//! each weight is read once per pass for any batch size. The weights can be divided among ranks
//! ([`crate::division`]).

use alexnet_core::{
    Backward, Layer, Mode, Result,
    sum_order::{BalancedSum, images_per_part},
};
use rayon::prelude::*;

use super::{CpuLayer, needs_backward, take_saved};
use crate::{
    division::LayerRanks,
    kernels::{
        Isa,
        dot::DotRows,
        elementwise::{MaskGradient, SumPixels},
        gemm::{Extents, Finish, Gemm, Left, Right, Store},
    },
    optimizer::{ApplyToSums, Update},
    parallel::{ELEMENTS, add_partial_sums},
    parameter::ParameterState,
    tensor::{Buffer, Pool, Tensor, transpose},
};

/// The number of output features of one task.
const OUTPUTS: usize = 56;

/// The number of input features of one task.
const INPUTS: usize = 512;

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
        isa: Isa,
        pool: Pool,
    ) -> Self {
        Self { parameters, division, relu, needs_dx, isa, pool, saved_for_backward: None }
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
        by_output[rows.start * x.batch..rows.end * x.batch]
            .par_chunks_mut(OUTPUTS * x.batch)
            .zip(weight.values.par_chunks(OUTPUTS * inputs))
            .zip(bias.values[rows].par_chunks(OUTPUTS))
            .for_each(|((y, weight), bias)| {
                self.isa.run(DotRows { x: x.values(), weight, bias, inputs, relu: self.relu, y });
            });
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
    /// The outputs are divided into parts like the images of a step ([`alexnet_core::sum_order`]), and
    /// the sums over the parts are added as a balanced tree, so that ranks can compute nodes of it. A
    /// block of the weights, of one part, is in the first-level cache while it is used.
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
        let sum_of_columns = |first: usize| {
            let n = INPUTS.min(inputs - first);
            let mut sum = BalancedSum::default();
            for output in rows.clone().step_by(part) {
                let mut products = self.pool.take(batch * n);
                let extents = Extents { m: batch, n, k: part.min(rows.end - output) };
                let left = Left { values: &dy.values()[output..], row: outputs, column: 1 };
                let weight = &weight.values[(output - rows.start) * inputs + first..];
                let right = Right { values: weight, row: inputs };
                let store = Store { values: &mut products, row: n };
                self.isa.run(Gemm::new(extents, left, right, store));
                sum.push(products, add);
            }
            sum.finish(add)
        };
        let columns = (0..inputs.div_ceil(INPUTS)).into_par_iter();
        let sums: Vec<Option<Buffer>> = columns.map(|i| sum_of_columns(i * INPUTS)).collect();
        let mut dx = self.pool.tensor(batch, &[inputs]);
        for (i, dx) in dx.values_mut().chunks_exact_mut(inputs).enumerate() {
            for (dx, sums) in dx.chunks_mut(INPUTS).zip(&sums) {
                match sums {
                    Some(sums) => dx.copy_from_slice(&sums[i * dx.len()..][..dx.len()]),
                    // A rank without outputs. Adding 0 would change -0 to 0.
                    None => dx.fill(-0.0),
                }
            }
        }
        if let Some(OutputDivision { ranks, sums_dx: true }) = &self.division {
            ranks.collective().sum(dx.values_mut())?;
        }
        Ok(dx)
    }
}

fn add(sum: &mut Buffer, more: &Buffer) {
    sum.iter_mut().zip(more.iter()).for_each(|(sum, more)| *sum += more);
}

/// Returns the product that computes the weight gradient of `outputs` outputs, from index `first`,
/// and passes it to `finish`.
fn weight_gradient<'a, F: Finish>(
    dy: &'a Tensor,
    (x, images_per_part): (&'a Tensor, usize),
    first: usize,
    outputs: usize,
    finish: F,
) -> Gemm<'a, F, true> {
    let extents = Extents { m: outputs, n: x.item_len(), k: x.batch };
    let left = Left { values: &dy.values()[first..], row: 1, column: dy.item_len() };
    let right = Right { values: x.values(), row: x.item_len() };
    Gemm::in_parts(extents, left, right, images_per_part, finish)
}

impl Backward<Tensor> for Linear {
    fn backward(&mut self, mut dy: Tensor) -> Result<Tensor> {
        let (_, inputs) = self.extents();
        let (x, part) = self.begin_backward(&mut dy);
        let isa = self.isa;
        let [weight, _] = &mut self.parameters;
        let first = weight.rows().start;
        if weight.trainable {
            weight.gradient.resize(weight.values.len(), 0.0);
        }
        weight.gradient.par_chunks_mut(OUTPUTS * inputs).enumerate().for_each(|(i, gradient)| {
            let rows = gradient.len() / inputs;
            let store = Store { values: gradient, row: inputs };
            isa.run(weight_gradient(&dy, (&x, part), first + i * OUTPUTS, rows, store));
        });
        self.input_gradient(dy)
    }
}

impl CpuLayer for Linear {
    fn parameters(&self) -> &[ParameterState] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [ParameterState] {
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
        let (_, inputs) = self.extents();
        let (x, part) = self.begin_backward(&mut dy);
        let dx = self.input_gradient(dy.clone())?;
        let [weight, bias] = &mut self.parameters;
        let first = weight.rows().start;
        let mut square_sum = 0.0;
        if weight.trainable {
            let pieces = weight.slices().pieces(OUTPUTS * inputs);
            let sums = pieces.into_par_iter().enumerate().map(|(i, slices)| {
                let rows = slices.values.len() / inputs;
                let apply = ApplyToSums { update, slices, row: inputs, square_sum: 0.0 };
                isa.run(weight_gradient(&dy, (&x, part), first + i * OUTPUTS, rows, apply))
                    .square_sum
            });
            // Added in a fixed order, independently of the threads.
            square_sum += sums.collect::<Vec<f64>>().iter().sum::<f64>();
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
