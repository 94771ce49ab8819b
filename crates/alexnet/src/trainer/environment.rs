//! What a run keeps about the machine that it was made on.

use serde::Serialize;

use crate::EngineConfig;

/// Where a run was made: `environment.json`.
#[derive(Serialize)]
pub(super) struct Environment {
    version: &'static str,
    #[serde(flatten)]
    engine: EngineConfig,
    os: &'static str,
    arch: &'static str,
    threads: usize,
}

impl Environment {
    /// This machine.
    pub fn here(engine: EngineConfig) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            engine,
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            threads: rayon::current_num_threads(),
        }
    }
}
