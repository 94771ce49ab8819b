//! The training loop over any engine and any source of batches.

use crate::{Batch, Result};

/// Where batches come from. Each batch is a pure function of the source's seed, the epoch and its index, so an epoch can be
/// entered anywhere.
pub trait Batches {
    /// Training batches an epoch.
    fn steps_per_epoch(&self) -> usize;

    /// The training batches of `epoch` (from 0), beginning with the one at index `first`. A batch may be smaller than
    /// the others, or empty, when photos had to be skipped.
    fn train(&self, epoch: u64, first: usize) -> Box<dyn Iterator<Item = Result<Batch>> + '_>;

    /// The validation batches, always in the same order.
    fn validation(&self) -> Box<dyn Iterator<Item = Result<Batch>> + '_>;
}
