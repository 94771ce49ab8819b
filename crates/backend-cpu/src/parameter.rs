//! A parameter with its gradient and moments, and the optimiser's equations over it.

use alexnet_core::{
    Optimizer, Step,
    optimizer::{Adam, AdamFactors},
};
use ndarray::ArrayView3;
use pulp::Arch;
use rayon::prelude::*;

use crate::parallel::ELEMENTS;

/// A parameter of a layer.
#[derive(Debug)]
pub struct Parameter {
    /// `features.0.weight`.
    pub name: String,
    /// Its shape as PyTorch has it.
    pub shape: Vec<usize>,
    /// How the numbers of values, gradient and moments lie.
    pub layout: Layout,
    /// The numbers.
    pub values: Vec<f32>,
    /// Whether it learns; if not, it has neither gradient nor moments.
    pub learns: bool,
    /// Of the last backward pass; overwritten, never accumulated.
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
    let array = ArrayView3::from_shape(shape, values).expect("a parameter has as many numbers as its shape says");
    array.reversed_axes().iter().copied().collect()
}

impl Parameter {
    /// The sum of the squared gradient, in f64.
    pub fn gradient_square_sum(&self) -> f64 {
        let partial: Vec<f64> = self.gradient.par_chunks(ELEMENTS).map(square_sum).collect();
        partial.iter().sum()
    }

    /// One step of the equations in [`alexnet_core::optimizer`], each element read and written once. `scale` multiplies
    /// the gradient (1 when nothing is clipped).
    pub fn update(&mut self, optimizer: &Optimizer, step: &Step, scale: f32) {
        let Self { values, gradient, moments, .. } = self;
        let lr = step.lr;
        match (*optimizer, moments.as_mut_slice()) {
            (Optimizer::Adam { adam, weight_decay }, [m, v]) => {
                let update = AdamUpdate {
                    adam,
                    factors: adam.factors(lr, step.number),
                    scale,
                    l2: weight_decay,
                    keep: 1.0,
                };
                update.apply(values, gradient, m, v);
            }
            (Optimizer::AdamW { adam, weight_decay }, [m, v]) => {
                let keep = 1.0 - lr * weight_decay;
                let update =
                    AdamUpdate { adam, factors: adam.factors(lr, step.number), scale, l2: 0.0, keep };
                update.apply(values, gradient, m, v);
            }
            (Optimizer::Sgd { momentum, weight_decay }, [b]) => {
                (values.par_chunks_mut(ELEMENTS), gradient.par_chunks(ELEMENTS), b.par_chunks_mut(ELEMENTS))
                    .into_par_iter()
                    .for_each(|(w, g, b)| {
                        Arch::new().dispatch(|| {
                            for ((w, g), b) in w.iter_mut().zip(g).zip(b) {
                                *b = momentum * *b + (scale * *g + weight_decay * *w);
                                *w -= lr * *b;
                            }
                        });
                    });
            }
            _ => unreachable!("the moments are made by `Optimizer::moments` of the same optimiser"),
        }
    }
}

/// A step of Adam or AdamW: they differ in where weight decay enters.
#[derive(Clone, Copy)]
struct AdamUpdate {
    adam: Adam,
    factors: AdamFactors,
    /// Multiplies the gradient.
    scale: f32,
    /// Multiplies the weight and is added to the gradient.
    l2: f32,
    /// Multiplies the weight first.
    keep: f32,
}

impl AdamUpdate {
    fn apply(self, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        (
            w.par_chunks_mut(ELEMENTS),
            g.par_chunks(ELEMENTS),
            m.par_chunks_mut(ELEMENTS),
            v.par_chunks_mut(ELEMENTS),
        )
            .into_par_iter()
            .for_each(|(w, g, m, v)| Arch::new().dispatch(|| self.apply_to_chunk(w, g, m, v)));
    }

    #[inline(always)]
    fn apply_to_chunk(self, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let Self { adam: Adam { beta1, beta2, eps }, factors, scale, l2, keep } = self;
        for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let g = scale * *g + l2 * *w;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * (g * g);
            *w = *w * keep - factors.step_size * *m / (v.sqrt() * factors.inverse_correction + eps);
        }
    }
}

fn square_sum(values: &[f32]) -> f64 {
    // Sixteen sums, so that the loop runs in vector lanes; always the same ones, so that the bits stay.
    let mut lanes = [0.0f64; 16];
    Arch::new().dispatch(|| {
        let chunks = values.chunks_exact(16);
        for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane += f64::from(*value) * f64::from(*value);
        }
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(*value) * f64::from(*value);
            }
        }
    });
    lanes.iter().sum()
}
