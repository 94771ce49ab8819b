//! The engines. No other file of the library names their crates.

use std::sync::Arc;

use alexnet_core::{Backend, Collective, Precision};
use serde::{Deserialize, Serialize};

use crate::parallel::Parallel;

/// How ranks divide a model, if they do.
pub(crate) type Ranks = Option<(Parallel, Arc<dyn Collective>)>;

/// An engine by name. Every build knows all names, so that errors can explain a missing engine.
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
    /// All engines.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Candle, Self::Tch];

    /// Creates the engine, if this build has it.
    pub fn backend(self) -> Option<Box<dyn Backend>> {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => Some(Box::new(alexnet_backend_cpu::CpuBackend::default())),
            #[cfg(feature = "candle")]
            Self::Candle => Some(Box::new(alexnet_backend_candle::CandleBackend)),
            #[cfg(feature = "tch")]
            Self::Tch => Some(Box::new(alexnet_backend_tch::TchBackend::default())),
            #[allow(unreachable_patterns, reason = "reached when a feature is off")]
            _ => None,
        }
    }

    /// Creates the engines of this build.
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

/// The convolution algorithm of the engine `cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Convolution {
    /// Winograd's algorithm where it applies, otherwise im2col
    Winograd,
    /// Matrix products of im2col, exact on small integers
    Im2col,
}

/// The processor lacks an instruction set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this processor has no `{isa}`; it has: {}", available.join(", "))]
pub struct NoInstructionSet {
    /// The requested instruction set.
    pub isa: String,
    /// The instruction sets of this processor.
    pub available: Vec<String>,
}

/// Returns the names of the instruction sets of this processor that the engine `cpu` can use, the
/// fastest first. Empty if this build lacks the engine.
pub fn instruction_sets() -> Vec<String> {
    #[cfg(feature = "cpu")]
    return alexnet_backend_cpu::Isa::available().map(|isa| isa.to_string()).collect();
    #[cfg(not(feature = "cpu"))]
    vec![]
}

/// Returns the name of the instruction set that the engine `cpu` uses. `None` means the best of this
/// processor.
pub(crate) fn instruction_set(isa: Option<InstructionSet>) -> String {
    #[cfg(feature = "cpu")]
    let best = alexnet_backend_cpu::Isa::best().to_string();
    #[cfg(not(feature = "cpu"))]
    let best = String::new();
    isa.map_or(best, |isa| format!("{isa:?}").to_lowercase())
}

/// Creates the engine `tch` with a precision, if this build has it.
#[cfg_attr(
    not(feature = "tch"),
    allow(unused_variables, reason = "this build has no engine to configure")
)]
pub(crate) fn tch(precision: Precision) -> Option<Box<dyn Backend>> {
    #[cfg(feature = "tch")]
    return Some(Box::new(alexnet_backend_tch::TchBackend { precision }));
    #[cfg(not(feature = "tch"))]
    None
}

/// Creates the engine `cpu` with an instruction set and a convolution algorithm, if this build has
/// it. `None` means the best instruction set, and Winograd where it applies. The layers of its models
/// are divided among `ranks`.
///
/// # Errors
/// When the processor lacks the instruction set.
#[cfg_attr(
    not(feature = "cpu"),
    allow(unused_variables, reason = "this build has no engine to configure")
)]
pub(crate) fn cpu(
    isa: Option<InstructionSet>,
    convolution: Option<Convolution>,
    precision: Precision,
    ranks: Ranks,
) -> Result<Option<Box<dyn Backend>>, NoInstructionSet> {
    #[cfg(feature = "cpu")]
    {
        use alexnet_backend_cpu::{CpuBackend, Division, Isa, Kernels};

        let isa = match isa {
            None => Isa::best(),
            Some(InstructionSet::Avx512) => Isa::Avx512,
            Some(InstructionSet::Avx2) => Isa::Avx2,
            Some(InstructionSet::Neon) => Isa::Neon,
            Some(InstructionSet::Portable) => Isa::Portable,
        };
        if !isa.is_available() {
            let available = Isa::available().map(|isa| isa.to_string()).collect();
            return Err(NoInstructionSet { isa: isa.to_string(), available });
        }
        let exact = convolution == Some(Convolution::Im2col);
        let division = ranks.and_then(|(parallel, ranks)| match parallel {
            Parallel::Data => None,
            Parallel::Hybrid => Some(Division::Linear(ranks)),
            Parallel::Towers => Some(Division::Towers(ranks)),
        });
        Ok(Some(Box::new(CpuBackend { kernels: Kernels { isa, exact, precision }, division })))
    }
    #[cfg(not(feature = "cpu"))]
    Ok(None)
}
