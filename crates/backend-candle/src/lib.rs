//! AlexNet on candle: Hugging Face's tensors, their graph and its derivative, on the host and on GPUs.
//!
//! A topology is lowered to layers (`lower`, `layers`), and candle differentiates what they did. Images are
//! `[N, H, W, C]` inside, so that what lies under a row of a window is contiguous; weights of convolutions are stored in the
//! order of a patch, and `parameter` turns them and their moments into PyTorch's layout at the boundary.
//!
//! **Four things candle leaves to us**, because on the host its own are slow or differ from the contract:
//! - convolution (`convolution`): patches of a few images at a time, multiplied by candle; linear layers are the
//!   convolution of a single pixel;
//! - the derivative of ReLU at 0, which is 0;
//! - max pooling with overlapping windows, which candle does not differentiate, and its ties (`layers`);
//! - the optimizers (`optimizer`), because their moments are part of a state.
//!
//! Each of these is a kernel for the host and, for other devices, a composition of candle's operations. Compositions run
//! on the host as well, where the tests hold them to the kernels; as the only path a training step would take seven times
//! as long. On GPUs, linear layers and convolutions are candle-nn's, but for convolutions whose gradients candle gets wrong
//! (`layers/gpu.rs`).
//!
//! Threads are those of the rayon pool that the caller runs in, but candle divides its products among as many as
//! `RAYON_NUM_THREADS` or the physical cores, and adds large tensors on threads of its own.
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

use alexnet_core::{Backend, Device, Model, Options, Result, State, Topology, autodiff::AutodiffModel};

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

    fn compile(&self, topology: &Topology, state: &State, options: &Options) -> Result<Box<dyn Model>> {
        let device = device::open(options.device)?;
        Ok(Box::new(AutodiffModel::compile(Candle { device }, topology, state, options, lower)?))
    }
}
