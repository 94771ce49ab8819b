//! The machine of a run.

use serde::Serialize;

use crate::{EngineConfig, Parallel};

/// The machine and the version, written to `environment.json`.
#[derive(Serialize)]
pub(super) struct Environment {
    version: &'static str,
    #[serde(flatten)]
    engine: EngineConfig,
    os: &'static str,
    arch: &'static str,
    threads: usize,
    ranks: usize,
    parallel: String,
}

impl Environment {
    /// This machine, the number of ranks, and how they divide the computation.
    pub fn here(engine: EngineConfig, ranks: usize, parallel: Parallel) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            engine,
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            threads: rayon::current_num_threads(),
            ranks,
            parallel: parallel.to_string(),
        }
    }
}
