//! The options of commands that use trained weights.

use std::path::PathBuf;

use alexnet::{Classifier, Observer, data::augment::views::Views};
use anyhow::Result;

use super::{EngineOptions, OrientationOption, engine};

/// Weights, and how images are prepared and computed.
#[derive(Clone, Debug, clap::Args)]
pub struct ClassifierOptions {
    /// Weights file [default: the best weights of the newest run]
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub orientation: OrientationOption,
    #[command(flatten)]
    pub engine: EngineOptions,
}

impl ClassifierOptions {
    /// Prepares the process for the engine and loads the weights.
    ///
    /// # Errors
    /// If the engine is missing or the weights cannot be read.
    pub fn load(&self, observer: &mut dyn Observer) -> Result<Classifier> {
        self.load_for(Views::Whole, observer)
    }

    /// Does the same as [`ClassifierOptions::load`], for these views of each image.
    ///
    /// # Errors
    /// As [`ClassifierOptions::load`].
    pub fn load_for(&self, views: Views, observer: &mut dyn Observer) -> Result<Classifier> {
        let config = self.engine.config();
        engine::ready(config, self.engine.threads)?;
        let mut builder = Classifier::builder().engine(config).views(views);
        if let Some(orientation) = self.orientation.given() {
            builder = builder.exif_orientation(orientation);
        }
        Ok(builder.load_observed(self.weights.as_deref(), observer)?)
    }
}
