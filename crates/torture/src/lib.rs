//! What strangers, disks and power lines do to files, done to this program on purpose.
//!
//! [`targets`] are the parsers, [`seeds`] sound files for each, [`mutate`] damages them, [`campaign`] tries them and tells what was
//! seen. `tests/parsers.rs` tries some in each run of the tests, the binary `torture` (`cargo xtask torture`) as many as time allows,
//! each parser in a process of its own with little memory.
//!
//! The mutations are ours because they must run on stable Rust, in the ordinary tests, on every system: libFuzzer (`cargo-fuzz`,
//! `bolero` with its engines) wants a nightly compiler, and without coverage those tools give random bytes, which no parser reads past
//! the first. What takes the place of coverage here: a file that brings a message never seen before is mutated on.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod disk;
pub mod memory;
pub mod mutate;
pub mod panics;
pub mod predict;
pub mod repair;
pub mod seeds;
pub mod targets;

/// How many times more than usual the ordinary tests try: `ALEXNET_TORTURE`, or 1.
///
/// # Panics
/// When it is no number.
pub fn factor() -> usize {
    std::env::var("ALEXNET_TORTURE").map_or(1, |text| text.parse().expect("ALEXNET_TORTURE is a number"))
}
