//! A parameter with its gradient and moments, in the layout that the kernels read.

use ndarray::ArrayView3;
use rayon::prelude::*;

use crate::{
    kernels::Isa,
    optimizer::{Apply, Slices, SquareSum, Update},
    parallel::ELEMENTS,
};

/// The values, gradient and moments of a parameter of the topology.
#[derive(Debug)]
pub struct ParameterState {
    /// `features.0.weight`.
    pub name: String,
    /// Its shape as PyTorch has it.
    pub shape: Vec<usize>,
    /// How the numbers of values, gradient and moments lie.
    pub layout: Layout,
    /// The numbers.
    pub values: Vec<f32>,
    /// Whether training updates it; if not, it has neither gradient nor moments.
    pub trainable: bool,
    /// Of the last backward pass that left one; overwritten, never accumulated.
    pub gradient: Vec<f32>,
    /// In the order of [`Optimizer::moments`].
    pub moments: Vec<Vec<f32>>,
}

/// How a parameter's numbers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As PyTorch's do, row-major.
    Pytorch,
    /// `[out, in/groups, kh, kw]` as `[kh, kw, in/groups, out]`.
    OutputsLast,
}

impl Layout {
    /// From PyTorch's order.
    pub fn import(self, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
        match self {
            Self::Pytorch => values,
            Self::OutputsLast => reversed([shape[0], shape[1], shape[2] * shape[3]], &values),
        }
    }

    /// To PyTorch's order.
    pub fn export(self, shape: &[usize], values: &[f32]) -> Vec<f32> {
        match self {
            Self::Pytorch => values.to_vec(),
            Self::OutputsLast => reversed([shape[2] * shape[3], shape[1], shape[0]], values),
        }
    }
}

/// The numbers of a row-major array with its dimensions in the opposite order.
fn reversed(shape: [usize; 3], values: &[f32]) -> Vec<f32> {
    let array =
        ArrayView3::from_shape(shape, values).expect("a parameter has as many numbers as its shape says");
    array.reversed_axes().iter().copied().collect()
}

impl ParameterState {
    /// The sum of the squared gradient, in f64.
    pub fn gradient_square_sum(&self, isa: Isa) -> f64 {
        let pieces = self.gradient.par_chunks(ELEMENTS);
        let partial: Vec<f64> = pieces.map(|gradient| isa.run(SquareSum(gradient))).collect();
        partial.iter().sum()
    }

    /// Weights and moments, to update.
    pub fn slices(&mut self) -> Slices<'_> {
        let (first, second) = self
            .moments
            .split_first_mut()
            .map_or((&mut [][..], None), |(first, rest)| (first.as_mut_slice(), rest.first_mut()));
        let second = second.map_or(&mut [][..], Vec::as_mut_slice);
        Slices { values: &mut self.values, moments: [first, second] }
    }

    /// One step of the optimizer, each element read and written once.
    pub fn update(&mut self, isa: Isa, update: &Update) {
        let gradient = std::mem::take(&mut self.gradient);
        let pieces = gradient.par_chunks(ELEMENTS).zip(self.slices().pieces(ELEMENTS));
        pieces.for_each(|(gradient, slices)| isa.run(Apply { update, gradient, slices }));
        self.gradient = gradient;
    }
}
