//! The suite that every engine passes.

use alexnet_backend_tch::TchBackend;

#[test]
fn conforms() {
    let report = alexnet_core::conformance::run(&TchBackend);
    println!("{report}");
    report.unwrap();
}
