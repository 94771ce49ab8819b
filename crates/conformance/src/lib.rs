//! One suite for every engine: holds it to a plain f64 [`mod@reference`], and whole networks to PyTorch as well.
//!
//! An engine's crate runs the suite as a test without the usual harness (`harness = false`), `tests/conformance.rs`:
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
//! Each case is a test of its own, named by engine, operation and check: `cargo test --test conformance conv2d` runs those
//! of convolution, `cargo test --test conformance -- --list` lists all.
//!
//! Single operations are reached through the byte boundary by a *probe*: a 1×1 convolution in front whose outputs are small
//! integers (or dyadic fractions), so that every product and every partial sum below it is exact in f32. The network's
//! logits are then the operation's output, its own parameters' gradients show its weight gradient, and the probe's
//! gradients are sums over its input gradient. How close is close enough stands beside each kind of case.
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

pub use runner::{Subject, main};
