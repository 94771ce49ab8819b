//! The engines in this binary: the one place that names them.

use alexnet_core::{Backend, Device};
use anyhow::{Result, bail};
use clap::ValueEnum;

/// An engine by name; all are known, so that a missing one can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Pure Rust on the host's processors
    Cpu,
}

impl Engine {
    /// The engine itself.
    pub fn backend(self) -> Box<dyn Backend> {
        match self {
            Self::Cpu => Box::new(alexnet_backend_cpu::CpuBackend),
        }
    }
}

/// What every command that computes takes.
#[derive(Clone, Debug, clap::Args)]
pub struct EngineArgs {
    /// Engine
    #[arg(long, value_enum, default_value = "cpu")]
    pub backend: Engine,
    /// Where the engine computes: cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Threads that compute and prepare photos [default: all cores]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
}

impl EngineArgs {
    /// Sizes the pool that everything runs in and gives the engine. Called once, before anything computes.
    ///
    /// # Errors
    /// When the device is not the engine's.
    pub fn start(&self) -> Result<Box<dyn Backend>> {
        let backend = self.backend.backend();
        if !backend.devices().contains(&self.device) {
            let devices: Vec<String> = backend.devices().iter().map(Device::to_string).collect();
            bail!(
                "the engine `{}` has no device `{}` here; it has: {}",
                backend.name(),
                self.device,
                devices.join(", ")
            );
        }
        start_threads(self.workers)?;
        Ok(backend)
    }
}

/// Sizes the rayon pool.
///
/// # Errors
/// When threads cannot be started.
pub fn start_threads(workers: Option<u16>) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(workers.map_or(0, usize::from)).build_global()?;
    Ok(())
}
