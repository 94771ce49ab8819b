//! The suite that every engine passes.

use alexnet_backend_candle::CandleBackend;

#[test]
fn conforms() {
    let report = alexnet_core::conformance::run(&CandleBackend);
    println!("{report}");
    report.unwrap();
}
