//! An engine based on libtorch, the C++ library of PyTorch, with its kernels and its automatic
//! differentiation.
//!
//! A topology is lowered to layers (`lower`, `layers`), each a few calls of libtorch. Activations
//! and the weights of convolutions are `channels_last`, `[N, H, W, C]` in memory, which is the
//! layout of input images, and the one for which libtorch's convolutions are fastest on CPUs and
//! GPUs. Loss, dropout masks and normalization are those of core, as in all engines. The optimizers
//! process pieces of a parameter that stay in the cache (`optimizer`), since libtorch's fused
//! optimizers are not available in Rust, and its plain ones pass over the memory eight times.
//!
//! Only libtorch's fallible functions are used. The number of threads is that of the caller's rayon
//! pool.
#![deny(unsafe_code)]

mod device;
mod error;
mod layers;
mod lower;
#[expect(unsafe_code, reason = "calls mallopt of the C library")]
mod memory;
mod model;
mod optimizer;
mod parameter;

use alexnet_core::{
    Backend, Device, Model, Options, Precision, Result, State, Topology, autodiff::AutodiffModel,
};

use crate::{error::NAME, lower::lower, model::Libtorch};

/// The engine `tch`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TchBackend {
    /// The precision of convolutions and linear layers. With bf16, these are those of PyTorch's
    /// autocast: factors, biases and results are rounded to bf16.
    pub precision: Precision,
}

impl Backend for TchBackend {
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
        if device == tch::Device::Cpu {
            memory::keep_freed_memory();
            share_threads();
        }
        Ok(Box::new(AutodiffModel::compile(
            Libtorch { device, precision: self.precision },
            topology,
            &state,
            options,
            lower,
        )?))
    }
}

/// Sets the number of threads that libtorch uses: as many as the rayon pool has for calls from this
/// thread, and one for calls from the threads of the pool, which already divide the work. libtorch
/// stores this number per calling thread.
fn share_threads() {
    rayon::broadcast(|_| tch::set_num_threads(1));
    tch::set_num_threads(i32::try_from(rayon::current_num_threads()).unwrap_or(i32::MAX));
}
