//! The engines in this binary: the one place that names them.

#[cfg(not(unix))]
use std::process;
use std::{env, process::Command};

use alexnet_core::{Backend, Device};
use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{parse, tch_program};

/// An engine by name; all are known to every binary, so that a missing one can be explained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Pure Rust on the host's processors
    #[default]
    Cpu,
    /// Candle's tensors; GPUs with --device
    Candle,
    /// Libtorch, the library under PyTorch; NVIDIA GPUs with --device
    Tch,
}

impl Engine {
    /// The engine itself, if this binary was built with it.
    pub fn backend(self) -> Option<Box<dyn Backend>> {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => Some(Box::new(alexnet_backend_cpu::CpuBackend::default())),
            #[cfg(feature = "candle")]
            Self::Candle => Some(Box::new(alexnet_backend_candle::CandleBackend)),
            #[cfg(feature = "tch")]
            Self::Tch => Some(Box::new(alexnet_backend_tch::TchBackend)),
            #[allow(unreachable_patterns, reason = "reached when a feature is off")]
            _ => None,
        }
    }

    /// The engines in this binary.
    pub fn compiled() -> Vec<Box<dyn Backend>> {
        Self::value_variants().iter().filter_map(|engine| engine.backend()).collect()
    }

    /// As `--backend` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Candle => "candle",
            Self::Tch => "tch",
        }
    }
}

/// An engine, where it computes and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The engine.
    #[serde(default)]
    pub backend: Engine,
    /// Its device.
    #[serde(default)]
    pub device: Device,
    /// What the engine `cpu` was told to compute with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isa: Option<InstructionSet>,
    /// How it convolves, if not as it finds best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convolution: Option<Convolution>,
}

/// An instruction set of the engine `cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstructionSet {
    /// x86-64 with AVX-512
    Avx512,
    /// x86-64 with AVX2 and FMA
    Avx2,
    /// AArch64
    Neon,
    /// Plain Rust
    Portable,
}

/// A way to convolve of the engine `cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convolution {
    /// In Winograd's domain where that applies
    Winograd,
    /// As products with im2col's matrices, exact on small integers
    Im2col,
}

/// What every command that computes takes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
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

impl EngineArgs {
    /// What was asked for. Another engine brings its own default device.
    pub fn choice_or(&self, default: Choice) -> Choice {
        let default = match self.backend {
            Some(backend) if backend != default.backend => Choice { backend, ..Choice::default() },
            _ => default,
        };
        Choice {
            device: self.device.unwrap_or(default.device),
            isa: self.isa.or(default.isa),
            convolution: self.convolution.or(default.convolution),
            ..default
        }
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

    /// [`Choice::start`] of what was asked for, or of the engine `cpu`.
    ///
    /// # Errors
    /// When this binary lacks the engine, or the engine the device.
    pub fn start(&self) -> Result<(Choice, Box<dyn Backend>)> {
        let choice = self.choice_or(Choice::default());
        Ok((choice, choice.start(self.threads)?))
    }
}

impl Choice {
    /// The engine, if this binary was built with it.
    ///
    /// # Errors
    /// When it cannot compute in the way that was asked for.
    fn backend(self) -> Result<Option<Box<dyn Backend>>> {
        let Self { isa, convolution, .. } = self;
        if isa.is_none() && convolution.is_none() {
            return Ok(self.backend.backend());
        }
        if self.backend != Engine::Cpu {
            bail!("`--isa` and `--convolution` are for the engine `cpu`, not for `{}`", self.backend.name());
        }
        #[cfg(feature = "cpu")]
        {
            use alexnet_backend_cpu::{CpuBackend, Isa, Kernels};

            let isa = match isa {
                None => Isa::best(),
                Some(InstructionSet::Avx512) => Isa::Avx512,
                Some(InstructionSet::Avx2) => Isa::Avx2,
                Some(InstructionSet::Neon) => Isa::Neon,
                Some(InstructionSet::Portable) => Isa::Portable,
            };
            if !isa.is_available() {
                let available: Vec<String> = Isa::available().map(|isa| isa.to_string()).collect();
                bail!(
                    "this processor has no `{isa}`; it has: {}. Choose one with `--isa`",
                    available.join(", ")
                );
            }
            let exact = convolution == Some(Convolution::Im2col);
            Ok(Some(Box::new(CpuBackend { kernels: Kernels { isa, exact } })))
        }
        #[cfg(not(feature = "cpu"))]
        Ok(None)
    }

    /// The engine, with threads to run in. Called once, before anything computes.
    ///
    /// # Errors
    /// When this binary lacks the engine, or the engine the device.
    pub fn start(self, threads: Threads) -> Result<Box<dyn Backend>> {
        let name = self.backend.name();
        let Some(backend) = self.backend()? else {
            if self.backend == Engine::Tch {
                tch_program::exec_if_built()?;
            }
            let compiled: Vec<&str> = Engine::compiled().iter().map(|engine| engine.name()).collect();
            bail!(
                "this binary was built without the engine `{name}`; it has: {}. `cargo xtask train --backend {name}` builds \
                 one that has it",
                compiled.join(", ")
            );
        };
        if !backend.devices().contains(&self.device) {
            let devices: Vec<String> = backend.devices().iter().map(Device::to_string).collect();
            bail!(
                "the engine `{name}` has no device `{}` here; it has: {}. `alexnet doctor` tells what a GPU needs",
                self.device,
                devices.join(", ")
            );
        }
        keep_f32(&[self.device])?;
        threads.start()?;
        Ok(backend)
    }
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
