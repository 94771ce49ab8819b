//! The inner loops. They are generic over [`pulp::Simd`] and compiled for each instruction set. The
//! caller chooses the instruction set at run time.
//!
//! * [`gemm`] is the matrix product of Winograd convolutions and of the backward pass of linear
//!   layers.
//! * [`dot`] is the matrix product of the forward pass of linear layers.
//! * [`winograd`] transforms images, gradients and weights to and from the Winograd domain.
//! * [`bf16`] rounds and multiplies numbers in bf16.
//! * [`elementwise`] contains bias, ReLU, masks and sums over pixels.
//! * [`vector`] reads and writes vectors.

#[expect(unsafe_code, reason = "calls instructions that only some processors have")]
pub mod bf16;
pub mod dot;
pub mod elementwise;
#[expect(
    unsafe_code,
    reason = "tiles are read and written through pointers; the bounds are checked once per call"
)]
pub mod gemm;
pub mod vector;
#[expect(
    unsafe_code,
    reason = "tiles are read and written through pointers; the bounds are checked once per call"
)]
pub mod winograd;

use std::fmt;

use alexnet_core::Precision;
use pulp::{Arch, WithSimd};

use self::bf16::{Kernel, WithEmulated};

/// The kernels that the engine uses.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// The instruction set.
    pub isa: Isa,
    /// Whether all convolutions are plain sums of products, which are exact for small integers.
    /// Otherwise Winograd convolution is used for the supported geometries.
    pub exact: bool,
    /// The precision of products.
    pub precision: Precision,
}

impl Default for Kernels {
    fn default() -> Self {
        Self { isa: Isa::best(), exact: false, precision: Precision::F32 }
    }
}

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 (F, BW, CD, DQ, VL): 32 registers of 16 numbers.
    Avx512,
    /// x86-64 with AVX2 and FMA: 16 registers of 8 numbers.
    Avx2,
    /// AArch64: 32 registers of 4 numbers.
    Neon,
    /// Plain Rust for any processor.
    Portable,
}

impl Isa {
    /// All instruction sets, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// Returns the instruction sets of this processor, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Returns the fastest instruction set of this processor.
    pub fn best() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    fn arch(self) -> Option<Arch> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            Self::Portable => Some(Arch::Scalar),
            #[allow(unreachable_patterns, reason = "each target has only some of them")]
            _ => None,
        }
    }

    /// Runs `kernel` with this instruction set, or with plain Rust if the processor does not have
    /// it.
    pub(crate) fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        self.arch().unwrap_or(Arch::Scalar).dispatch(kernel)
    }

    /// Whether the processor has instructions for bf16.
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Self::Avx512 && self.is_available() && bf16::is_native();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Runs `kernel` with instructions for bf16.
    ///
    /// # Panics
    /// When the processor does not have them ([`Isa::has_bf16`]), which is a bug in a layer.
    pub(crate) fn run_with_bf16<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if let (Some(Arch::V4(simd)), true) = (self.arch(), bf16::is_native()) {
            return bf16::run_native(simd, kernel);
        }
        drop(kernel);
        panic!("the instruction set {self} has no bf16")
    }

    /// Runs `kernel` like [`Isa::run`], with instructions for bf16 if the processor has them. The
    /// result has the same bits without them.
    pub(crate) fn run_bf16<K: Kernel>(self, kernel: K) -> K::Output {
        if self.has_bf16() {
            return self.run_with_bf16(kernel);
        }
        // Vectors of 512 bits are left to the instructions, to have fewer kernels to compile.
        let isa = if self == Self::Avx512 { Self::Avx2 } else { self };
        isa.run(WithEmulated(kernel))
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        self.arch().is_some()
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
