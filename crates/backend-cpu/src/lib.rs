//! AlexNet's own engine: pure Rust, rayon, and no system library.
//!
//! A topology is lowered to layers (`lower`), each with its own forward and backward pass (`layers`). Convolutions
//! (`convolution`) run in Winograd's domain where that applies and as im2col with a library's matrix product elsewhere;
//! the inner loops (`kernels`) are compiled for several instruction sets, of which [`Isa::best`] is chosen when the program
//! runs. Images lie channels last. A batch flows through the layers as tensors (`tensor`) whose buffers return to a pool, so
//! that after the first step little is allocated.
//!
//! **The same bits for any number of threads:** every sum is formed in an order that depends on sizes alone (`parallel`).
//! Threads are those of the rayon pool that the caller runs in.
#![deny(unsafe_code)]

mod convolution;
mod device;
mod kernels;
mod layers;
mod lower;
#[allow(unsafe_code, reason = "a call of the C library where it is GNU's")]
mod memory;
mod model;
mod optimizer;
mod parallel;
mod parameter;
mod tensor;

use alexnet_core::{Backend, Device, Model, Options, Result, State, Topology};

pub use crate::kernels::{Isa, Kernels};
use crate::{device::NAME, lower::lower, model::CpuModel, tensor::Pool};

/// The engine `cpu`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuBackend {
    /// How it computes.
    pub kernels: Kernels,
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn devices(&self) -> Vec<Device> {
        device::present()
    }

    fn exact_convolutions(&self) -> bool {
        self.kernels.exact
    }

    fn compile(&self, topology: &Topology, state: &State, options: &Options) -> Result<Box<dyn Model>> {
        device::check(options.device)?;
        let classes = topology.classes()?;
        state.check(topology)?;
        options.check(topology)?;
        let pool = Pool::default();
        let layers = lower(topology, state, options, self.kernels, &pool)?;
        let stepped = !state.moments.is_empty();
        Ok(Box::new(CpuModel {
            input: topology.input,
            classes,
            layers,
            optimizer: options.optimizer,
            isa: self.kernels.isa,
            pool,
            stepped,
        }))
    }
}
