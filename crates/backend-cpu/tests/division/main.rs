//! Models whose layers are divided among ranks, which are threads here.

mod hybrid;
#[path = "../network/mod.rs"]
mod network;
mod steps;
mod towers;
