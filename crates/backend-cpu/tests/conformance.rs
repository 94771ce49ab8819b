//! The suite that every engine passes.

use alexnet_backend_cpu::CpuBackend;

#[test]
fn conforms() {
    let report = alexnet_core::conformance::run(&CpuBackend::default());
    println!("{report}");
    report.unwrap();
}
