//! Runs the conformance suite with all kernels of this engine.

use std::process::ExitCode;

use alexnet_backend_cpu::{CpuBackend, Isa, Kernels};
use alexnet_conformance::{self as conformance, Subject};

fn main() -> ExitCode {
    let with = |kernels| Subject::new(CpuBackend { kernels, ..CpuBackend::default() });
    let exact = with(Kernels { exact: true, ..Kernels::default() }).named("cpu-exact");
    let other = |isa| with(Kernels { isa, exact: false }).named(format!("cpu-{isa}")).small();
    conformance::main(
        [with(Kernels::default()), exact].into_iter().chain(Isa::available().skip(1).map(other)),
    )
}
