//! The engine, and how many threads everything runs in.

#[cfg(not(unix))]
use std::process;
use std::{env, process::Command};

use alexnet::{
    Convolution, Engine, EngineChanges, EngineConfig, InstructionSet,
    core::{Backend, Device},
};
use anyhow::Result;

use crate::{parse, tch_program};

/// What every command that computes takes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// Engine [default: cpu]
    #[arg(long, value_name = "NAME", value_enum)]
    backend: Option<Engine>,
    /// Where the engine computes: cpu, cuda, cuda:N or metal [default: cpu]
    #[arg(long, value_name = "PLACE")]
    device: Option<Device>,
    /// Instruction set of the engine `cpu` [default: the best that the processor has]
    #[arg(long, value_name = "NAME", value_enum)]
    isa: Option<InstructionSet>,
    /// How the engine `cpu` convolves [default: winograd]
    #[arg(long, value_name = "NAME", value_enum)]
    convolution: Option<Convolution>,
    #[command(flatten)]
    pub threads: Threads,
}

/// How many threads everything runs in.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct Threads {
    /// Threads that compute and prepare images [default: all cores]
    #[arg(short = 'j', long, value_name = "N", value_parser = parse::between(1u16, 1024))]
    workers: Option<u16>,
}

impl Threads {
    /// Sizes the pool that everything runs in. Called once, before anything computes.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn start(self) -> Result<()> {
        let workers = self.workers.map_or(0, usize::from);
        Ok(rayon::ThreadPoolBuilder::new().num_threads(workers).build_global()?)
    }
}

impl EngineOptions {
    /// What was given.
    pub fn changes(&self) -> EngineChanges {
        let Self { backend, device, isa, convolution, threads: _ } = *self;
        EngineChanges { backend, device, isa, convolution }
    }

    /// What was asked for.
    pub fn config(&self) -> EngineConfig {
        self.changes().apply(EngineConfig::default())
    }

    /// The option that was given to choose an engine, or how it computes.
    pub fn chosen(&self) -> Option<&'static str> {
        let Self { backend, device, isa, convolution, threads: _ } = self;
        [
            ("--backend", backend.is_some()),
            ("--device", device.is_some()),
            ("--isa", isa.is_some()),
            ("--convolution", convolution.is_some()),
        ]
        .into_iter()
        .find_map(|(option, given)| given.then_some(option))
    }

    /// The engine that was asked for, with threads to run in.
    ///
    /// # Errors
    /// When this binary lacks the engine, or the engine the device.
    pub fn start(&self) -> Result<(EngineConfig, Box<dyn Backend>)> {
        let config = self.config();
        ready(config, self.threads)?;
        Ok((config, config.start()?))
    }
}

/// Makes the process ready to compute on an engine. Called once, before anything computes.
///
/// # Errors
/// When the process cannot be started again, or threads cannot.
pub fn ready(engine: EngineConfig, threads: Threads) -> Result<()> {
    if engine.backend == Engine::Tch && engine.backend.backend().is_none() {
        tch_program::exec_if_built()?;
    }
    // A device that is missing is said without starting again.
    drop(engine.start()?);
    keep_f32(&[engine.device])?;
    threads.start()
}

/// NVIDIA's libraries round f32 products to TF32 where a program lets them, and libtorch does for convolutions. This variable
/// forbids it, but they read it when they are loaded, so the program starts itself again with it, unless the user has set it.
///
/// # Errors
/// When it cannot be started again.
pub fn keep_f32(devices: &[Device]) -> Result<()> {
    const VARIABLE: &str = "NVIDIA_TF32_OVERRIDE";
    if !devices.iter().any(|device| matches!(device, Device::Cuda(_))) || env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let mut again = Command::new(env::current_exe()?);
    again.args(env::args_os().skip(1)).env(VARIABLE, "0");
    #[cfg(unix)]
    return Err(std::os::unix::process::CommandExt::exec(&mut again).into());
    #[cfg(not(unix))]
    process::exit(again.status()?.code().unwrap_or(1));
}
