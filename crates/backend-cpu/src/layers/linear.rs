//! The fully connected layer, with an optional ReLU on its output. Work is divided over features, so that each weight is
//! read once a pass, whatever the batch.

use alexnet_core::{Backward, Layer, Mode, Result};
use rayon::prelude::*;

use super::{CpuLayer, keeps, kept};
use crate::{
    kernels::{
        Isa,
        elementwise::{MaskGradient, relu},
        product::{Extents, Left, Product, Right, Store},
    },
    parallel::ELEMENTS,
    parameter::Parameter,
    tensor::{Pool, Tensor, transpose_padded},
};

/// Output features of one task: whole tiles of 14 rows.
const OUTPUTS: usize = 56;

/// Input features of one task.
const INPUTS: usize = 512;

/// A batch is padded to a multiple of this, a vector of the widest instruction set.
const LANES: usize = 16;

/// `y = W·x + b`, then `max(y, 0)` when fused.
pub struct Linear {
    /// Weight `[out, in]` and bias `[out]`.
    parameters: [Parameter; 2],
    /// Whether a ReLU is fused.
    relu: bool,
    /// Whether anything before this layer learns.
    needs_dx: bool,
    isa: Isa,
    pool: Pool,
    kept: Option<Kept>,
}

struct Kept {
    x: Tensor,
    /// Only with a fused ReLU.
    y: Option<Tensor>,
}

impl Linear {
    /// A layer over `weight` and `bias`.
    pub fn new(parameters: [Parameter; 2], relu: bool, needs_dx: bool, isa: Isa, pool: Pool) -> Self {
        Self { parameters, relu, needs_dx, isa, pool, kept: None }
    }

    /// `[out, in]`.
    fn extents(&self) -> (usize, usize) {
        (self.parameters[0].shape[0], self.parameters[0].shape[1])
    }
}

impl Layer<Tensor> for Linear {
    /// The batch lies in the lanes of the vectors: `yᵀ [out, N] = W · xᵀ [in, N]`.
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let (outputs, inputs) = self.extents();
        let [weight, bias] = &self.parameters;
        let (batch, padded) = (x.batch, x.batch.next_multiple_of(LANES));
        let mut x_transposed = self.pool.take(inputs * padded);
        if padded > batch {
            x_transposed.fill(0.0);
        }
        transpose_padded(x.values(), batch, inputs, &mut x_transposed, padded);
        let mut y_transposed = self.pool.take(outputs * padded);
        y_transposed
            .par_chunks_mut(OUTPUTS * padded)
            .zip(weight.values.par_chunks(OUTPUTS * inputs))
            .for_each(|(y, weight)| {
                let extents = Extents { m: y.len() / padded, n: padded, k: inputs };
                let left = Left { values: weight, row: inputs, column: 1 };
                let right = Right { values: &x_transposed, row: padded };
                self.isa.run(Product::new(extents, left, right, Store { values: y, row: padded }));
            });
        let mut y = self.pool.tensor(batch, &[outputs]); // [N, out]
        for (i, y) in y.values_mut().chunks_exact_mut(outputs).enumerate() {
            for ((y, b), sums) in y.iter_mut().zip(&bias.values).zip(y_transposed.chunks_exact(padded)) {
                *y = if self.relu { relu(sums[i] + b) } else { sums[i] + b };
            }
        }
        self.kept = keeps(mode).then(|| Kept { x, y: self.relu.then(|| y.clone()) });
        Ok(y)
    }
}

impl Backward<Tensor> for Linear {
    fn backward(&mut self, mut dy: Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.extents();
        let Kept { x, y } = kept(&mut self.kept);
        let batch = x.batch;
        if let Some(y) = y {
            let chunks = dy.values_mut().par_chunks_mut(ELEMENTS).zip(y.values().par_chunks(ELEMENTS));
            chunks.for_each(|(dy, y)| self.isa.run(MaskGradient { dy, y }));
        }

        let isa = self.isa;
        let [weight, bias] = &mut self.parameters;
        // Those that do not learn have no gradient to write to.
        bias.gradient.fill(0.0);
        for dy in dy.values().chunks_exact(outputs) {
            bias.gradient.iter_mut().zip(dy).for_each(|(b, dy)| *b += dy);
        }
        weight.gradient.par_chunks_mut(OUTPUTS * inputs).enumerate().for_each(|(i, gradient)| {
            let extents = Extents { m: gradient.len() / inputs, n: inputs, k: batch };
            let left = Left { values: &dy.values()[i * OUTPUTS..], row: 1, column: outputs };
            let right = Right { values: x.values(), row: inputs };
            isa.run(Product::new(extents, left, right, Store { values: gradient, row: inputs }));
        });

        if !self.needs_dx {
            return Ok(dy);
        }
        // [pieces, N, INPUTS]
        let pieces = inputs.div_ceil(INPUTS);
        let mut dx_pieces = self.pool.take(pieces * batch * INPUTS);
        dx_pieces.par_chunks_mut(batch * INPUTS).enumerate().for_each(|(i, dx)| {
            let first = i * INPUTS;
            let extents = Extents { m: batch, n: INPUTS.min(inputs - first), k: outputs };
            let left = Left { values: dy.values(), row: outputs, column: 1 };
            let right = Right { values: &weight.values[first..], row: inputs };
            isa.run(Product::new(extents, left, right, Store { values: dx, row: INPUTS }));
        });
        let mut dx = self.pool.tensor(batch, &[inputs]);
        for (i, dx) in dx.values_mut().chunks_exact_mut(inputs).enumerate() {
            for (dx, piece) in dx.chunks_mut(INPUTS).zip(dx_pieces.chunks_exact(batch * INPUTS)) {
                dx.copy_from_slice(&piece[i * INPUTS..][..dx.len()]);
            }
        }
        Ok(dx)
    }
}

impl CpuLayer for Linear {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }
}
