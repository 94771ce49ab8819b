//! The settings of an engine: which one, on which device, and how it computes.

use std::sync::Arc;

use alexnet_core::{Backend, Collective, Device, Precision};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    engine::{self, Convolution, Engine, InstructionSet, Ranks},
    parallel::Parallel,
};

/// An engine, its device and its settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineConfig {
    /// The engine.
    #[serde(default)]
    pub backend: Engine,
    /// The device.
    #[serde(default)]
    pub device: Device,
    /// The instruction set of the engine `cpu`; `None` means the best of this processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isa: Option<InstructionSet>,
    /// The convolution algorithm of the engine `cpu`; `None` means Winograd where it applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convolution: Option<Convolution>,
    /// The precision of the engines `cpu` and `tch`; `None` means f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
}

impl From<Engine> for EngineConfig {
    fn from(backend: Engine) -> Self {
        Self { backend, ..Self::default() }
    }
}

/// Changes to an [`EngineConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineChanges {
    /// Another engine, with its own default device, instruction set and convolution algorithm. The
    /// precision stays the same.
    pub backend: Option<Engine>,
    /// Another device.
    pub device: Option<Device>,
    /// Another instruction set.
    pub isa: Option<InstructionSet>,
    /// Another convolution algorithm.
    pub convolution: Option<Convolution>,
    /// Another precision.
    pub precision: Option<Precision>,
}

impl EngineChanges {
    /// The configuration with these changes.
    pub fn apply(self, to: EngineConfig) -> EngineConfig {
        let to = match self.backend {
            Some(backend) if backend != to.backend => {
                EngineConfig { precision: to.precision, ..backend.into() }
            }
            _ => to,
        };
        EngineConfig {
            backend: to.backend,
            device: self.device.unwrap_or(to.device),
            isa: self.isa.or(to.isa),
            convolution: self.convolution.or(to.convolution),
            precision: self.precision.or(to.precision),
        }
    }
}

impl EngineConfig {
    /// Creates the engine.
    ///
    /// # Errors
    /// [`Error::NoEngine`] when this build lacks the engine, [`Error::NoDevice`] when the engine
    /// lacks the device, [`Error::NoInstructionSet`] when the processor lacks the instruction set,
    /// [`Error::OnlyForCpu`] when `isa` or `convolution` is set for another engine than `cpu`,
    /// [`Error::NoBf16`] when the engine does not have it.
    pub fn start(self) -> Result<Box<dyn Backend>> {
        self.start_on(None)
    }

    /// Creates the engine. The layers of its models are divided among `ranks` as `parallel` says.
    ///
    /// # Errors
    /// As [`EngineConfig::start`]; [`Error::CannotDivide`] for another engine than `cpu`, except with
    /// [`Parallel::Data`].
    pub fn start_divided(
        self,
        parallel: Parallel,
        ranks: Arc<dyn Collective>,
    ) -> Result<Box<dyn Backend>> {
        match (parallel, self.backend) {
            (Parallel::Data, _) => self.start(),
            (_, Engine::Cpu) => self.start_on(Some((parallel, ranks))),
            (_, engine) => Err(Error::CannotDivide { parallel, engine }),
        }
    }

    fn start_on(self, ranks: Ranks) -> Result<Box<dyn Backend>> {
        let Some(backend) = self.backend(ranks)? else {
            let compiled = Engine::compiled().iter().map(|engine| engine.name()).collect();
            return Err(Error::NoEngine { engine: self.backend, compiled });
        };
        if !backend.devices().contains(&self.device) {
            let devices = backend.devices();
            return Err(Error::NoDevice { engine: self.backend, device: self.device, devices });
        }
        Ok(backend)
    }

    fn backend(self, ranks: Ranks) -> Result<Option<Box<dyn Backend>>> {
        let Self { backend, isa, convolution, .. } = self;
        let precision = self.precision.unwrap_or_default();
        match backend {
            Engine::Cpu => Ok(engine::cpu(isa, convolution, precision, ranks)?),
            engine if isa.is_some() || convolution.is_some() => Err(Error::OnlyForCpu { engine }),
            Engine::Tch => Ok(engine::tch(precision)),
            engine if precision == Precision::Bf16 => Err(Error::NoBf16 { engine }),
            engine => Ok(engine.backend()),
        }
    }
}
