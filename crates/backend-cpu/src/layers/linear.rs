//! The fully connected layer, with an optional ReLU on its output. Work is divided over features, so that each weight is
//! read once a pass.

use alexnet_core::{Backward, Layer, Mode, Result};
use ndarray::{ArrayView2, ArrayViewMut2, Axis, parallel::prelude::*};
use rayon::prelude::*;

use super::{
    CpuLayer, keeps, kept,
    relu::{mask_gradient, relu},
};
use crate::{
    matmul::{Write, matmul},
    parallel::ELEMENTS,
    parameter::Parameter,
    tensor::{Pool, Tensor},
};

/// Features of one task.
const FEATURES: usize = 64;

/// `y = W·x + b`, then `max(y, 0)` when fused.
pub struct Linear {
    /// Weight `[out, in]` and bias `[out]`.
    parameters: [Parameter; 2],
    /// Whether a ReLU is fused.
    relu: bool,
    /// Whether anything before this layer learns.
    needs_dx: bool,
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
    pub fn new(parameters: [Parameter; 2], relu: bool, needs_dx: bool, pool: Pool) -> Self {
        Self { parameters, relu, needs_dx, pool, kept: None }
    }

    /// `[out, in]`.
    fn extents(&self) -> (usize, usize) {
        (self.parameters[0].shape[0], self.parameters[0].shape[1])
    }
}

/// A view of a matrix in a slice.
///
/// # Panics
/// When the slice has another length: a mistake in a layer.
pub fn matrix(values: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), values).expect("the slice holds rows × columns numbers")
}

/// A view of a matrix in a slice, to write; as [`matrix`].
pub fn matrix_mut(values: &mut [f32], rows: usize, columns: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows, columns), values).expect("the slice holds rows × columns numbers")
}

impl Layer<Tensor> for Linear {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let (outputs, inputs) = self.extents();
        let [weight, bias] = &self.parameters;
        let mut y = self.pool.tensor(x.batch, &[outputs]); // [N, out]
        let x_matrix = matrix(x.values(), x.batch, inputs);
        matrix_mut(y.values_mut(), x.batch, outputs)
            .axis_chunks_iter_mut(Axis(1), FEATURES)
            .into_par_iter()
            .zip(weight.values.par_chunks(FEATURES * inputs))
            .zip(bias.values.par_chunks(FEATURES))
            .for_each(|((mut y, weight), bias)| {
                let weight = matrix(weight, bias.len(), inputs);
                matmul(y.view_mut().reversed_axes(), Write::Replace, weight, x_matrix.t());
                for mut row in y.rows_mut() {
                    for (y, b) in row.iter_mut().zip(bias) {
                        *y = if self.relu { relu(*y + b) } else { *y + b };
                    }
                }
            });
        self.kept = keeps(mode).then(|| Kept { x, y: self.relu.then(|| y.clone()) });
        Ok(y)
    }
}

impl Backward<Tensor> for Linear {
    fn backward(&mut self, mut dy: Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.extents();
        let Kept { x, y } = kept(&mut self.kept);
        if let Some(y) = y {
            let chunks = dy.values_mut().par_chunks_mut(ELEMENTS).zip(y.values().par_chunks(ELEMENTS));
            chunks.for_each(|(dy, y)| mask_gradient(dy, y));
        }
        let dy_matrix = matrix(dy.values(), dy.batch, outputs);
        let x_matrix = matrix(x.values(), x.batch, inputs);

        let [weight, bias] = &mut self.parameters;
        // Those that do not learn have no gradient to write to.
        bias.gradient.fill(0.0);
        for row in dy_matrix.rows() {
            bias.gradient.iter_mut().zip(row).for_each(|(b, dy)| *b += dy);
        }
        weight
            .gradient
            .par_chunks_mut(FEATURES * inputs)
            .zip(dy_matrix.axis_chunks_iter(Axis(1), FEATURES).into_par_iter())
            .for_each(|(gradient, dy)| {
                let gradient = matrix_mut(gradient, dy.ncols(), inputs);
                matmul(gradient, Write::Replace, dy.t(), x_matrix);
            });

        if !self.needs_dx {
            return Ok(dy);
        }
        let weight = matrix(&weight.values, outputs, inputs);
        let mut dx = self.pool.tensor(x.batch, &[inputs]);
        matrix_mut(dx.values_mut(), x.batch, inputs)
            .axis_chunks_iter_mut(Axis(1), FEATURES)
            .into_par_iter()
            .zip(weight.axis_chunks_iter(Axis(1), FEATURES).into_par_iter())
            .for_each(|(dx, weight)| matmul(dx, Write::Replace, dy_matrix, weight));
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
