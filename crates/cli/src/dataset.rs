//! Where the photos come from: what `--data` means.

use std::path::Path;

use alexnet_data::split::{Dataset, SplitOptions};
use anyhow::{Context, Result};

/// A data set and what the user is told about it.
pub struct Opened {
    /// The photos with their split.
    pub dataset: Dataset,
}

/// Opens `data`.
///
/// # Errors
/// When there are no photos.
pub fn open(data: Option<&Path>, val_fraction: f64, seed: u64) -> Result<Opened> {
    let data = data.context("drawn flowers come later")?;
    Ok(Opened { dataset: Dataset::open(data, &SplitOptions { val_fraction, seed })? })
}
