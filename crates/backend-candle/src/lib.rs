//! An engine based on candle, Hugging Face's tensor library with automatic differentiation, for CPU
//! and GPUs.
//!
//! A topology is lowered to layers (`lower`, `layers`), and candle differentiates their operations.
//! Images are stored as `[N, H, W, C]`, so that a row of a window is contiguous. The weights of
//! convolutions are stored in the order of a patch; `parameter` converts them and their moments
//! from and to PyTorch's layout.
//!
//! **Four parts are implemented here**, because candle's own are slow on the CPU or do not behave
//! as required:
//! - convolution (`convolution`): patches of a few images at a time are multiplied by candle;
//!   linear layers are the convolution of a single pixel;
//! - the derivative of ReLU at 0, which is 0;
//! - max pooling with overlapping windows, which candle does not differentiate, and its ties
//!   (`layers`);
//! - the optimizers (`optimizer`), because their moments must be part of the state.
//!
//! Each of these is a kernel for the CPU and, for other devices, a composition of candle's
//! operations. The compositions can also run on the CPU, where tests compare them with the kernels;
//! a training step with them takes seven times as long. On GPUs, linear layers and convolutions are
//! those of candle-nn, except convolutions whose gradients candle computes wrongly
//! (`layers/gpu.rs`).
//!
//! The engine uses the rayon pool of the caller. But candle divides matrix products among
//! `RAYON_NUM_THREADS` threads, or as many as there are physical cores, and adds large tensors on
//! its own threads.
#![forbid(unsafe_code)]

mod convolution;
mod device;
mod error;
mod kernels;
mod layers;
mod lower;
mod model;
mod optimizer;
mod parameter;
#[cfg(test)]
mod test_support;

use alexnet_core::{
    Backend, Device, Model, Options, Result, State, Topology, autodiff::AutodiffModel,
};

use crate::{error::NAME, lower::lower, model::Candle};

/// The engine `candle`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CandleBackend;

impl Backend for CandleBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn devices(&self) -> Vec<Device> {
        device::present()
    }

    fn compile(
        &self,
        topology: &Topology,
        state: State,
        options: &Options,
    ) -> Result<Box<dyn Model>> {
        let device = device::open(options.device)?;
        Ok(Box::new(AutodiffModel::compile(Candle { device }, topology, &state, options, lower)?))
    }
}
