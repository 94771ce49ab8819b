//! Runs the conformance suite on the device in `ALEXNET_TEST_DEVICE`, or on the CPU.

use std::{env, process::ExitCode};

use alexnet_backend_tch::TchBackend;
use alexnet_conformance::{self as conformance, Subject};
use alexnet_core::Device;

fn main() -> ExitCode {
    let device = env::var("ALEXNET_TEST_DEVICE").map_or(Ok(Device::Cpu), |device| device.parse());
    let subject = Subject::new(TchBackend::default());
    conformance::main([subject.on(device.expect("ALEXNET_TEST_DEVICE"))])
}
