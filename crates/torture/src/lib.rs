//! Robustness tests of this project: damaged and malicious files, disk errors and kills.
//!
//! [`targets`] are the parsers, [`seeds`] are valid files for each, [`mutate`] mutates them, and
//! [`campaign`] tries the mutated files and reports the results. `tests/parsers.rs` tries some
//! files in each run of the tests. The binary `torture` (`cargo xtask torture`) tries as many as
//! time allows, each parser in a separate process with limited memory.
//!
//! No fuzzing tool is used, since the mutations must run on stable Rust, in the ordinary tests and
//! on every system. libFuzzer (`cargo-fuzz`, `bolero` with its engines) needs a nightly compiler,
//! and without coverage these tools generate random bytes, which parsers refuse after the first
//! bytes. Instead of coverage, new messages are used here: a file with a message that was not seen
//! before is mutated again.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod disk;
pub mod memory;
pub mod mutate;
pub mod panics;
pub mod predict;
pub mod repair;
pub mod seeds;
mod shards;
pub mod targets;

/// Returns the factor by which the ordinary tests try more files than usual: `ALEXNET_TORTURE`, or 1.
///
/// # Panics
/// When it is not a number.
pub fn factor() -> usize {
    std::env::var("ALEXNET_TORTURE")
        .map_or(1, |text| text.parse().expect("ALEXNET_TORTURE is a number"))
}
