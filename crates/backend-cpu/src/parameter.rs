//! A parameter with its gradient and moments, in the layout of the kernels.

use std::ops::Range;

use alexnet_core::{
    Array, memory,
    sum_order::{Share, images_per_part},
};
use ndarray::{ArrayView3, ArrayViewMut2, Axis};
use rayon::prelude::*;

use crate::{
    kernels::Isa,
    optimizer::{Apply, Slices, SquareSum, Update},
    parallel::ELEMENTS,
};

/// The values, gradient and moments of a parameter of the topology.
#[derive(Debug)]
pub struct ParameterState {
    /// Its name, such as `features.0.weight`.
    pub name: String,
    /// Its shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// The layout of values, gradient and moments.
    pub layout: Layout,
    /// The share of this rank in the outputs, which are the first dimension. Values, gradient and
    /// moments have only these.
    pub share: Share,
    /// The values.
    pub values: Vec<f32>,
    /// Whether training updates it. If not, it has no gradient and no moments.
    pub trainable: bool,
    /// The gradient of the last backward pass that stored one. It is overwritten, not accumulated.
    pub gradient: Vec<f32>,
    /// The moments in the order of `Optimizer::moments`.
    pub moments: Vec<Vec<f32>>,
}

/// The memory layout of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// PyTorch's layout, row-major.
    Pytorch,
    /// `[out, in/groups, kh, kw]` stored as `[kh, kw, in/groups, out]`.
    OutputsLast,
}

impl Layout {
    /// Converts from PyTorch's layout to this one.
    pub fn import(self, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
        match self {
            Self::Pytorch => values,
            Self::OutputsLast => reversed([shape[0], shape[1], shape[2] * shape[3]], &values),
        }
    }

    /// Converts from this layout to PyTorch's.
    pub fn export(self, shape: &[usize], values: &[f32]) -> Vec<f32> {
        match self {
            Self::Pytorch => values.to_vec(),
            Self::OutputsLast => reversed([shape[2] * shape[3], shape[1], shape[0]], values),
        }
    }
}

/// Returns the numbers of a row-major array with the order of its dimensions reversed.
fn reversed(shape: [usize; 3], values: &[f32]) -> Vec<f32> {
    let array =
        ArrayView3::from_shape(shape, values).expect("the number of values matches the shape");
    let [first, second, third] = shape;
    let mut reversed = memory::zeros(values.len());
    let planes = reversed.par_chunks_mut((first * second).max(1)).zip(0..third);
    planes.for_each(|(plane, index)| {
        let plane = ArrayViewMut2::from_shape((second, first), plane);
        let mut plane = plane.expect("a plane has the extents of the other dimensions");
        plane.assign(&array.index_axis(Axis(2), index).reversed_axes());
    });
    reversed
}

impl ParameterState {
    /// Whether this rank has only some outputs.
    pub fn is_divided(&self) -> bool {
        self.share != Share::WHOLE
    }

    /// Returns the outputs, rows of the weight `[out, …]`, that this rank has.
    pub fn rows(&self) -> Range<usize> {
        self.share.of(self.shape[0])
    }

    /// Returns the shape of the part that this rank has.
    pub fn own_shape(&self) -> Vec<usize> {
        [&[self.rows().len()], &self.shape[1..]].concat()
    }

    /// Returns sums of the squared gradient, in f64. Those of all ranks, in their order, are the same
    /// for any number of ranks.
    pub fn gradient_square_sums(&self, isa: Isa) -> Vec<f64> {
        let piece = match *self.shape {
            [outputs, inputs] => images_per_part(outputs) * inputs,
            _ => ELEMENTS,
        };
        let pieces = self.gradient.par_chunks(piece);
        pieces.map(|gradient| isa.run(SquareSum(gradient))).collect()
    }

    /// Returns the sum of the squared gradient of the rows of this rank, in f64.
    pub fn gradient_square_sum(&self, isa: Isa) -> f64 {
        self.gradient_square_sums(isa).iter().sum()
    }

    /// Returns the gradient in PyTorch's layout.
    pub fn gradient_array(&self) -> Array {
        Array { shape: self.shape.clone(), values: self.layout.export(&self.shape, &self.gradient) }
    }

    /// Returns the values and moments for an update.
    pub fn slices(&mut self) -> Slices<'_> {
        let (first, second) = self
            .moments
            .split_first_mut()
            .map_or((&mut [][..], None), |(first, rest)| (first.as_mut_slice(), rest.first_mut()));
        let second = second.map_or(&mut [][..], Vec::as_mut_slice);
        Slices { values: &mut self.values, moments: [first, second] }
    }

    /// Does one step of the optimizer. Each element is read and written once.
    pub fn update(&mut self, isa: Isa, update: &Update) {
        let gradient = std::mem::take(&mut self.gradient);
        let pieces = gradient.par_chunks(ELEMENTS).zip(self.slices().pieces(ELEMENTS));
        pieces.for_each(|(gradient, slices)| isa.run(Apply { update, gradient, slices }));
        self.gradient = gradient;
    }
}
