//! Options for the engine and the number of CPU threads, and the preparation of the process for
//! them.

#[cfg(not(unix))]
use std::process;
use std::{env, process::Command};

use alexnet::{
    Convolution, Engine, EngineChanges, EngineConfig, InstructionSet,
    core::{Backend, Device, Precision},
};
use anyhow::Result;

use crate::{parse, tch_program};

/// The options of every command that runs a network.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// Engine [default: cpu]
    #[arg(long, value_name = "NAME", value_enum)]
    backend: Option<Engine>,
    /// Device that the engine computes on: cpu, cuda, cuda:N or metal [default: cpu]
    #[arg(long, value_name = "NAME")]
    device: Option<Device>,
    /// Instruction set of the engine `cpu` [default: the fastest that the processor supports]
    #[arg(long, value_name = "NAME", value_enum)]
    isa: Option<InstructionSet>,
    /// Convolution algorithm of the engine `cpu` [default: winograd]
    #[arg(long, value_name = "NAME", value_enum)]
    convolution: Option<Convolution>,
    /// Precision of the factors of products: f32, or bf16 on the engines `cpu` and `tch` [default:
    /// f32]
    #[arg(long, value_name = "TYPE")]
    precision: Option<Precision>,
    #[command(flatten)]
    pub threads: Threads,
}

/// The number of CPU threads.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct Threads {
    /// CPU threads for computing and for preparing images [default: all cores]
    #[arg(short = 'j', long, value_name = "N", value_parser = parse::between(1u16, 1024))]
    workers: Option<u16>,
}

impl Threads {
    /// Returns the number of threads: `default` if it is not given.
    pub fn or(self, default: usize) -> Self {
        Self { workers: self.workers.or(u16::try_from(default).ok()) }
    }

    /// Creates rayon's global thread pool, which the whole process uses. Must be called once,
    /// before any computation.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn start(self) -> Result<()> {
        let workers = self.workers.map_or(0, usize::from);
        Ok(rayon::ThreadPoolBuilder::new().num_threads(workers).build_global()?)
    }
}

impl EngineOptions {
    /// Returns the options that were given, as changes to an engine configuration.
    pub fn changes(&self) -> EngineChanges {
        let Self { backend, device, isa, convolution, precision, threads: _ } = *self;
        EngineChanges { backend, device, isa, convolution, precision }
    }

    /// Returns the engine configuration: the given options and defaults for the others.
    pub fn config(&self) -> EngineConfig {
        self.changes().apply(EngineConfig::default())
    }

    /// Returns the first given option that chooses an engine or how it computes.
    pub fn chosen(&self) -> Option<&'static str> {
        let Self { backend, device, isa, convolution, precision, threads: _ } = self;
        [
            ("--backend", backend.is_some()),
            ("--device", device.is_some()),
            ("--isa", isa.is_some()),
            ("--convolution", convolution.is_some()),
            ("--precision", precision.is_some()),
        ]
        .into_iter()
        .find_map(|(option, given)| given.then_some(option))
    }

    /// Prepares the process and starts the engine.
    ///
    /// # Errors
    /// If this binary lacks the engine, or the engine does not have the device.
    pub fn start(&self) -> Result<(EngineConfig, Box<dyn Backend>)> {
        let config = self.config();
        ready(config, self.threads)?;
        Ok((config, config.start()?))
    }
}

/// Prepares the process to compute on an engine: [`choose_program`], then starts the threads. Must
/// be called once, before any computation.
///
/// # Errors
/// If the engine or device is not available, or the process or threads cannot be started.
pub fn ready(engine: EngineConfig, threads: Threads) -> Result<()> {
    choose_program(engine)?;
    threads.start()
}

/// Replaces the process by a binary that has the engine, in the environment that the engine needs,
/// if this process has not both.
///
/// # Errors
/// If the engine or device is not available, or the process cannot be started.
pub fn choose_program(engine: EngineConfig) -> Result<()> {
    if engine.backend == Engine::Tch && engine.backend.backend().is_none() {
        tch_program::exec_if_built()?;
    }
    // Reports a missing engine or device before the process is restarted.
    drop(engine.start()?);
    disable_tf32(&[engine.device])
}

/// Disables TF32 on NVIDIA GPUs, so that f32 products are not rounded to it: restarts this process
/// with `NVIDIA_TF32_OVERRIDE=0` if one of `devices` is a CUDA device and the variable is not set.
///
/// NVIDIA's libraries round the factors of f32 products to TF32 if a program allows it, and
/// libtorch allows it for convolutions. They read the variable when they are loaded, so setting it
/// in the running process is too late.
///
/// # Errors
/// If the process cannot be restarted.
pub fn disable_tf32(devices: &[Device]) -> Result<()> {
    const VARIABLE: &str = "NVIDIA_TF32_OVERRIDE";
    if !devices.iter().any(|device| matches!(device, Device::Cuda(_)))
        || env::var_os(VARIABLE).is_some()
    {
        return Ok(());
    }
    let mut restart = Command::new(env::current_exe()?);
    restart.args(env::args_os().skip(1)).env(VARIABLE, "0");
    #[cfg(unix)]
    return Err(std::os::unix::process::CommandExt::exec(&mut restart).into());
    #[cfg(not(unix))]
    process::exit(restart.status()?.code().unwrap_or(1));
}
