//! A convolution in f32 whose factors are rounded to bf16 before they are multiplied.

use super::{Convolution, WeightSums};
use crate::{
    kernels::{Isa, bf16::RoundNumbers},
    tensor::{Buffer, Pool},
};

/// Any convolution algorithm, with factors rounded to bf16. Products of such factors are exact in
/// f32.
pub struct Rounded<C> {
    convolution: C,
    isa: Isa,
    pool: Pool,
}

impl<C: Convolution> Rounded<C> {
    /// Creates the convolution.
    pub fn new(convolution: C, isa: Isa, pool: Pool) -> Self {
        Self { convolution, isa, pool }
    }

    fn round(&self, numbers: &[f32]) -> Buffer {
        let mut rounded = self.pool.take(numbers.len());
        self.isa.run_bf16(RoundNumbers { from: numbers, to: &mut rounded });
        rounded
    }
}

impl<C: Convolution> Convolution for Rounded<C> {
    fn set_weight(&mut self, weight: &[f32], needs_dx: bool) {
        let weight = self.round(weight);
        self.convolution.set_weight(&weight, needs_dx);
    }

    fn images_per_task(&self) -> usize {
        self.convolution.images_per_task()
    }

    fn forward(&self, x: &[f32], single_image: bool, bias: &[f32], relu: bool, y: &mut [f32]) {
        self.convolution.forward(&self.round(x), single_image, bias, relu, y);
    }

    fn sums_len(&self) -> usize {
        self.convolution.sums_len()
    }

    fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        weight: Option<WeightSums<'_>>,
        dx: Option<&mut [f32]>,
    ) {
        self.convolution.backward(&self.round(x), &self.round(dy), weight, dx);
    }
}
