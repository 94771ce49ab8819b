//! The ReLU as a separate layer. A ReLU after a convolution or a linear layer is fused into that
//! layer.

use alexnet_core::{Backward, Layer, Mode, Result};
use rayon::prelude::*;

use super::{CpuLayer, needs_backward, take_saved};
use crate::{
    kernels::{
        Isa,
        elementwise::{MaskGradient, relu},
    },
    parallel::ELEMENTS,
    tensor::Tensor,
};

/// `max(x, 0)`.
pub struct Relu {
    isa: Isa,
    /// The output.
    saved_for_backward: Option<Tensor>,
}

impl Relu {
    /// Creates a ReLU.
    pub fn new(isa: Isa) -> Self {
        Self { isa, saved_for_backward: None }
    }
}

impl Layer<Tensor> for Relu {
    fn forward(&mut self, mut x: Tensor, mode: Mode) -> Result<Tensor> {
        x.values_mut()
            .par_chunks_mut(ELEMENTS)
            .for_each(|chunk| chunk.iter_mut().for_each(|x| *x = relu(*x)));
        self.saved_for_backward = needs_backward(mode).then(|| x.clone());
        Ok(x)
    }
}

impl Backward<Tensor> for Relu {
    fn backward(&mut self, mut dy: Tensor) -> Result<Tensor> {
        let y = take_saved(&mut self.saved_for_backward);
        let chunks = dy.values_mut().par_chunks_mut(ELEMENTS).zip(y.values().par_chunks(ELEMENTS));
        chunks.for_each(|(dy, y)| self.isa.run(MaskGradient { dy, y }));
        Ok(dy)
    }
}

impl CpuLayer for Relu {}
