//! AlexNet on libtorch, the library under PyTorch: its kernels and its automatic differentiation.
//!
//! A topology is lowered to layers (`lower`, `layers`), each a few calls of libtorch. Activations and the weights of
//! convolutions are `channels_last`, `[N, H, W, C]` in memory, which is how images come and what libtorch's convolutions
//! like best on processors and on GPUs. Loss, dropout masks and the numbers of bytes are core's, so they are those of every
//! other engine. The optimizers' equations run over pieces of a parameter that stay in the cache (`optimizer`): libtorch's
//! own fused optimizers are not reachable from Rust, and its plain ones pass over the memory eight times.
//!
//! Only libtorch's fallible calls are used. Threads are as many as those of the rayon pool that the caller runs in.
#![deny(unsafe_code)]

mod device;
mod error;
mod layers;
mod lower;
#[expect(unsafe_code, reason = "the C library's settings are foreign functions")]
mod memory;
mod model;
mod optimizer;
mod parameter;

use crate::{error::NAME, lower::lower, model::Libtorch};
use alexnet_core::{Backend, Device, Model, Options, Result, State, Topology, autodiff::AutodiffModel};

/// The engine `tch`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TchBackend;

impl Backend for TchBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn devices(&self) -> Vec<Device> {
        device::present()
    }

    fn compile(&self, topology: &Topology, state: &State, options: &Options) -> Result<Box<dyn Model>> {
        let device = device::open(options.device)?;
        if device == tch::Device::Cpu {
            memory::keep();
            share_threads();
        }
        Ok(Box::new(AutodiffModel::compile(Libtorch { device }, topology, state, options, lower)?))
    }
}

/// Gives libtorch as many threads as the rayon pool has when it is called from this thread, and none of its own when it is
/// called from the pool, whose threads divide the work already. The number is one of the calling thread.
fn share_threads() {
    rayon::broadcast(|_| tch::set_num_threads(1));
    tch::set_num_threads(i32::try_from(rayon::current_num_threads()).unwrap_or(i32::MAX));
}
