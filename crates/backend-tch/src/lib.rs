//! AlexNet on libtorch, the library under PyTorch: its kernels and its automatic differentiation.
//!
//! A topology is lowered to layers (`lower`, `layers`), each a few calls of libtorch. Activations and the weights of
//! convolutions are `channels_last`, `[N, H, W, C]` in memory, which is how pictures come and what libtorch's convolutions
//! like best on processors and on GPUs. Loss, dropout masks and the numbers of bytes are core's, so they are those of every
//! other engine. The optimisers' equations run over pieces of a parameter that stay in the cache (`parameter`): libtorch's
//! own fused optimisers are not reachable from Rust, and its plain ones pass over the memory eight times.
//!
//! Only libtorch's fallible calls are used. Threads are as many as those of the rayon pool that the caller runs in.
#![deny(unsafe_code)]

mod layers;
mod lower;
#[expect(unsafe_code, reason = "the C library's settings are foreign functions")]
mod memory;
mod model;
mod parameter;

use alexnet_core::{Backend, Device, Error, Model, Options, Result, State, Topology};
use tch::{Cuda, TchError};

use crate::{lower::lower, model::TchModel};

/// The engine `tch`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TchBackend;

const NAME: &str = "tch";

impl Backend for TchBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn devices(&self) -> Vec<Device> {
        let gpus = usize::try_from(Cuda::device_count()).unwrap_or(0);
        [Device::Cpu].into_iter().chain((0..gpus).map(Device::Cuda)).collect()
    }

    fn compile(&self, topology: &Topology, state: &State, options: &Options) -> Result<Box<dyn Model>> {
        let device = self.device(options.device)?;
        let classes = topology.classes()?;
        state.check(topology)?;
        options.check(topology)?;
        if device == tch::Device::Cpu {
            memory::keep();
            share_threads();
        }
        let (layers, parameters) = lower(topology, state, options, device).map_err(failed)?;
        Ok(Box::new(TchModel {
            input: topology.input,
            classes,
            layers,
            parameters,
            optimizer: options.optimizer,
            device,
            stepped: !state.moments.is_empty(),
        }))
    }
}

/// Gives libtorch as many threads as the rayon pool has when it is called from this thread, and none of its own when it is
/// called from the pool, whose threads divide the work already. The number is one of the calling thread.
fn share_threads() {
    rayon::broadcast(|_| tch::set_num_threads(1));
    tch::set_num_threads(i32::try_from(rayon::current_num_threads()).unwrap_or(i32::MAX));
}

impl TchBackend {
    /// libtorch's name of a device that is here.
    fn device(&self, device: Device) -> Result<tch::Device> {
        let here = self.devices();
        match device {
            Device::Cpu => Ok(tch::Device::Cpu),
            Device::Cuda(index) if here.contains(&device) => Ok(tch::Device::Cuda(index)),
            Device::Cuda(_) | Device::Metal => {
                let here: Vec<String> = here.iter().map(Device::to_string).collect();
                Err(Error::Device {
                    backend: NAME,
                    device: device.to_string(),
                    reason: format!(
                        "this libtorch sees {}; for an NVIDIA GPU it must be the CUDA build (`cargo xtask libtorch --cuda`) \
                         and a driver must be installed",
                        here.join(", ")
                    ),
                })
            }
        }
    }
}

/// libtorch's error as core's.
fn failed(error: TchError) -> Error {
    // The first line says what is wrong; the rest is a trace of C++.
    let message = error.to_string();
    Error::Backend { backend: NAME, message: message.lines().next().unwrap_or_default().into() }
}
