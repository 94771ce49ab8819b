//! The conformance suite for all engines. It compares an engine with a plain f64 [`mod@reference`],
//! and complete networks also with PyTorch.
//!
//! The crate of an engine runs the suite in `tests/conformance.rs`, a test with `harness = false`:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use alexnet_conformance::{Subject, reference::Reference};
//!
//! fn main() -> ExitCode {
//!     alexnet_conformance::main([Subject::new(Reference)])
//! }
//! ```
//!
//! Each case is a separate test, named by engine, operation and check. `cargo test --test
//! conformance conv2d` runs the cases of convolution, `cargo test --test conformance -- --list`
//! lists all cases.
//!
//! The inputs of engines are bytes. To test single operations with other inputs, a *probe* precedes
//! them: a 1×1 convolution whose outputs are small integers (or dyadic fractions), so that every
//! product and every partial sum in it is exact in f32. The logits of the network are then the
//! output of the operation, the gradients of its parameters are returned directly, and the
//! gradients of the probe's parameters are sums over its input gradient. The tolerances are
//! documented with each kind of case.
#![forbid(unsafe_code)]

mod case;
mod cases;
mod compare;
mod experiment;
#[cfg(test)]
mod fault_injection;
mod fixtures;
mod naming;
pub mod reference;
mod runner;

pub use case::Products;
pub use runner::{Subject, main};
