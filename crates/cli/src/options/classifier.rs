//! Loads the classifier of the commands that take weights, an orientation and an engine.

use std::path::Path;

use alexnet::{Classifier, Observer};
use anyhow::Result;

use super::{EngineOptions, OrientationOption, engine};

/// Prepares the process for the engine and loads the weights; `None` means the best weights of the
/// newest run.
///
/// # Errors
/// If the engine is missing or the weights cannot be read.
pub fn load_classifier(
    weights: Option<&Path>,
    orientation: OrientationOption,
    options: &EngineOptions,
    observer: &mut dyn Observer,
) -> Result<Classifier> {
    let config = options.config();
    engine::ready(config, options.threads)?;
    let mut builder = Classifier::builder().engine(config);
    if let Some(orientation) = orientation.given() {
        builder = builder.exif_orientation(orientation);
    }
    Ok(builder.load_observed(weights, observer)?)
}
