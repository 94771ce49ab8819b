//! What the benchmarks share: the engines.
#![forbid(unsafe_code)]

use alexnet_backend_cpu::CpuBackend;
use alexnet_core::Backend;

/// The engines, listed once.
pub fn engines() -> Vec<Box<dyn Backend>> {
    vec![Box::new(CpuBackend)]
}
