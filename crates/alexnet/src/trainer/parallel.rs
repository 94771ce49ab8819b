//! The engine of a run whose ranks divide the computation.

use std::sync::Arc;

use alexnet_core::{Backend, Collective, Error as CoreError, towers::tower};

use crate::{Parallel, Result, TrainConfig};

/// Creates the engine of a run.
///
/// # Errors
/// As [`crate::EngineConfig::start_divided`]; [`alexnet_core::Error::Invalid`] when a rank would have
/// to process its images of a step in several batches, or when the network or the number of ranks does
/// not allow two towers.
pub fn start(
    parallel: Parallel,
    config: &TrainConfig,
    ranks: &Arc<dyn Collective>,
) -> Result<Box<dyn Backend>> {
    let (accumulate, size) = (config.accumulate, ranks.size());
    if parallel == Parallel::Towers {
        // One process computes both towers.
        tower(&config.variant.topology(2), size.max(2))?;
    }
    if parallel != Parallel::Data && size > 1 && accumulate as usize > size {
        let reason = format!(
            "with {parallel} parallelism it can be at most the number of ranks, {size}, since all images of a step are processed at once"
        );
        let value = accumulate.to_string();
        return Err(CoreError::Invalid { field: "accumulate", value, reason }.into());
    }
    config.engine.start_divided(parallel, Arc::clone(ranks))
}
