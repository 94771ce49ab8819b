//! The engines: the one file that names them.

use alexnet_core::{Backend, Device};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// An engine by name. All are known to every build, so that a missing one can be explained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Pure Rust on the host's processors
    #[default]
    Cpu,
    /// Candle's tensors, on the processor or a GPU
    Candle,
    /// Libtorch, the library under PyTorch, on the processor or an NVIDIA GPU
    Tch,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Candle, Self::Tch];

    /// The engine itself, if this build has it.
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

    /// The engines of this build.
    pub fn compiled() -> Vec<Box<dyn Backend>> {
        Self::ALL.iter().filter_map(|engine| engine.backend()).collect()
    }

    /// `cpu`, `candle` or `tch`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Candle => "candle",
            Self::Tch => "tch",
        }
    }
}

/// An instruction set of the engine `cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
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

/// How the engine `cpu` convolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Convolution {
    /// In Winograd's domain where that applies
    Winograd,
    /// As products with im2col's matrices, exact on small integers
    Im2col,
}

/// An engine, where it computes and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineConfig {
    /// The engine.
    #[serde(default)]
    pub backend: Engine,
    /// Its device.
    #[serde(default)]
    pub device: Device,
    /// The instruction set of the engine `cpu`; `None` chooses the best that the processor has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isa: Option<InstructionSet>,
    /// How the engine `cpu` convolves; `None` chooses Winograd where that applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convolution: Option<Convolution>,
}

impl From<Engine> for EngineConfig {
    fn from(backend: Engine) -> Self {
        Self { backend, ..Self::default() }
    }
}

/// Changes to an [`EngineConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineChanges {
    /// Another engine; it brings its own default device.
    pub backend: Option<Engine>,
    /// Another device.
    pub device: Option<Device>,
    /// Another instruction set.
    pub isa: Option<InstructionSet>,
    /// Another way to convolve.
    pub convolution: Option<Convolution>,
}

impl EngineChanges {
    /// The configuration with these changes.
    pub fn apply(self, to: EngineConfig) -> EngineConfig {
        let to = match self.backend {
            Some(backend) if backend != to.backend => backend.into(),
            _ => to,
        };
        EngineConfig {
            backend: to.backend,
            device: self.device.unwrap_or(to.device),
            isa: self.isa.or(to.isa),
            convolution: self.convolution.or(to.convolution),
        }
    }
}

impl EngineConfig {
    /// The engine, ready to compile networks for its device.
    ///
    /// # Errors
    /// [`Error::NoEngine`] when this build lacks the engine, [`Error::NoDevice`] when the engine lacks the device,
    /// [`Error::NoInstructionSet`] when the processor lacks the instruction set, [`Error::OnlyForCpu`] when another engine than
    /// `cpu` is told how to compute.
    pub fn start(self) -> Result<Box<dyn Backend>> {
        let Some(backend) = self.backend()? else {
            let compiled = Engine::compiled().iter().map(|engine| engine.name()).collect();
            return Err(Error::NoEngine { engine: self.backend, compiled });
        };
        if !backend.devices().contains(&self.device) {
            let devices = backend.devices();
            return Err(Error::NoDevice { engine: self.backend, device: self.device, devices });
        }
        Ok(backend)
    }

    fn backend(self) -> Result<Option<Box<dyn Backend>>> {
        let Self { isa, convolution, .. } = self;
        if isa.is_none() && convolution.is_none() {
            return Ok(self.backend.backend());
        }
        if self.backend != Engine::Cpu {
            return Err(Error::OnlyForCpu { engine: self.backend });
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
                let available = Isa::available().map(|isa| isa.to_string()).collect();
                return Err(Error::NoInstructionSet { isa: isa.to_string(), available });
            }
            let exact = convolution == Some(Convolution::Im2col);
            Ok(Some(Box::new(CpuBackend { kernels: Kernels { isa, exact } })))
        }
        #[cfg(not(feature = "cpu"))]
        Ok(None)
    }
}
