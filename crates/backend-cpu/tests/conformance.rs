//! The suite that every engine passes, with each way to compute.

use alexnet_backend_cpu::{CpuBackend, Isa, Kernels};
use alexnet_core::conformance::{self, Report};

fn passes(kernels: Kernels, report: Report) {
    println!("{kernels:?} {report}");
    report.unwrap();
}

#[test]
fn the_default_conforms() {
    let kernels = Kernels::default();
    passes(kernels, conformance::run(&CpuBackend { kernels }));
}

#[test]
fn exact_convolutions_conform() {
    let kernels = Kernels { exact: true, ..Kernels::default() };
    passes(kernels, conformance::run(&CpuBackend { kernels }));
}

#[test]
fn every_instruction_set_conforms() {
    for isa in Isa::available().skip(1) {
        let kernels = Kernels { isa, exact: false };
        passes(kernels, conformance::run_small(&CpuBackend { kernels }));
    }
}
