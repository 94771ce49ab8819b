//! The CPU engine of this project: pure Rust with rayon, without a system library.
//!
//! A topology is lowered to layers (`lower`), each with a forward and a backward pass (`layers`).
//! Convolutions (`convolution`) use Winograd's algorithm for the supported geometries, and
//! otherwise im2col with the matrix product of a library. The inner loops (`kernels`) are compiled
//! for several instruction sets, and [`Isa::best`] is chosen at run time. Images are stored
//! channels last. The buffers of tensors (`tensor`) return to a pool, so that after the first step
//! there are few allocations.
//!
//! **Results are bitwise equal for any number of threads:** the order of every sum depends only on
//! sizes (`parallel`). The engine uses the rayon pool of the caller.
#![deny(unsafe_code)]

mod convolution;
mod device;
mod divided;
mod division;
mod kernels;
mod layers;
mod lower;
#[allow(unsafe_code, reason = "calls malloc_trim of the GNU C library")]
mod memory;
mod model;
mod optimizer;
mod parallel;
mod parameter;
mod tensor;

use alexnet_core::{
    Backend, Device, Model, Options, Result, State, Topology, inspection::Observed,
};

use crate::{
    device::NAME,
    divided::Divided,
    lower::{Lowered, lower},
    model::CpuModel,
    tensor::Pool,
};
pub use crate::{
    division::Division,
    kernels::{Isa, Kernels},
};

/// The engine `cpu`.
#[derive(Clone, Debug, Default)]
pub struct CpuBackend {
    /// The kernels that it uses.
    pub kernels: Kernels,
    /// The ranks that divide the layers of a model among them. All of them compile the same network,
    /// and call the methods of the model at the same time. Such a model computes gradients only for
    /// training ([`Model::hand_out_gradients`]).
    pub division: Option<Division>,
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

    fn compile(
        &self,
        topology: &Topology,
        state: State,
        options: &Options,
    ) -> Result<Box<dyn Model>> {
        device::check(options.device)?;
        let classes = topology.classes()?;
        state.check(topology)?;
        options.check(topology)?;
        let stepped = !state.moments.is_empty();
        let pool = Pool::default();
        let division = self.division.as_ref();
        let Lowered { layers, layers_after } =
            lower(topology, state, options, self.kernels, division, &pool)?;
        Ok(Box::new(CpuModel {
            input: topology.input,
            classes,
            divided: Divided::new(division.and_then(Division::ranks), &layers, &pool),
            layers,
            observed: Observed::new(topology, &options.observed, &layers_after),
            optimizer: options.optimizer,
            isa: self.kernels.isa,
            pool,
            stepped,
        }))
    }
}
