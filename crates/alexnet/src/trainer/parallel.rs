//! How the ranks of a run divide the computation.

use std::sync::Arc;

use alexnet_core::{Backend, Collective, Error as CoreError};

use crate::{Result, TrainConfig};

/// How ranks divide the computation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Parallel {
    /// Each rank has the whole network and a share of the images; gradients are added
    #[default]
    Data,
    /// Convolutions as in `data`; each rank has a share of the linear layers' weights, and
    /// activations are exchanged (engine `cpu`)
    Hybrid,
    /// Both of two ranks process all images; each has half of the channels and a share of the linear
    /// layers' weights (networks with two groups, engine `cpu`)
    Towers,
}

impl Parallel {
    /// Creates the engine of a run.
    ///
    /// # Errors
    /// As [`crate::EngineConfig::start`] and [`crate::EngineConfig::start_hybrid`];
    /// [`alexnet_core::Error::Invalid`] when a rank would have to process its images of a step in
    /// several batches, which hybrid parallelism does not do.
    pub(super) fn start(
        self,
        config: &TrainConfig,
        ranks: &Arc<dyn Collective>,
    ) -> Result<Box<dyn Backend>> {
        let (accumulate, size) = (config.accumulate, ranks.size());
        match self {
            Self::Data => config.engine.start(),
            Self::Hybrid if size > 1 && accumulate as usize > size => {
                Err(CoreError::Invalid {
                    field: "accumulate",
                    value: accumulate.to_string(),
                    reason: format!(
                        "with hybrid parallelism it can be at most the number of ranks, {size}, since a rank processes its images of a step at once"
                    ),
                }
                .into())
            }
            Self::Hybrid => config.engine.start_hybrid(Arc::clone(ranks)),
            Self::Towers => Err(CoreError::Invalid {
                field: "parallel",
                value: "towers".into(),
                reason: "no engine can train with towers".into(),
            }
            .into()),
        }
    }
}
