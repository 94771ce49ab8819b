//! Runs the conformance suite with all kernels of this engine.

use std::process::ExitCode;

use alexnet_backend_cpu::{CpuBackend, Isa, Kernels};
use alexnet_conformance::{self as conformance, Products, Subject};
use alexnet_core::Precision;

fn main() -> ExitCode {
    let with = |kernels| Subject::new(CpuBackend { kernels, ..CpuBackend::default() });
    let exact = with(Kernels { exact: true, ..Kernels::default() }).named("cpu-exact");
    let other =
        |isa| with(Kernels { isa, ..Kernels::default() }).named(format!("cpu-{isa}")).small();
    let bf16 = Kernels { precision: Precision::Bf16, ..Kernels::default() };
    let plain = with(Kernels { exact: true, ..bf16 }).named("cpu-bf16-exact");
    let in_bf16 = [
        plain.with_products(Products::Bf16).small(),
        with(bf16).named("cpu-bf16").with_products(Products::Bf16Transformed),
    ];
    conformance::main(
        [with(Kernels::default()), exact]
            .into_iter()
            .chain(in_bf16)
            .chain(Isa::available().skip(1).map(other)),
    )
}
