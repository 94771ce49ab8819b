//! The subsets of a data set by their use: training, validation, test.

use alexnet_data::dataset::{Dataset, Item};
use serde::{Deserialize, Serialize};

/// A subset of a data set by its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// The validation images
    Val,
    /// The training images
    Train,
    /// The test images, if the folder has a test subset
    Test,
    /// All images
    All,
}

impl Split {
    pub(crate) fn items(self, dataset: &Dataset) -> Vec<Item> {
        match self {
            Self::Val => dataset.val.clone(),
            Self::Train => dataset.train.clone(),
            Self::Test => dataset.test.clone(),
            Self::All => dataset.all().collect(),
        }
    }

    /// The name of its images in messages.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Val => "validation images",
            Self::Train => "training images",
            Self::Test => "test images",
            Self::All => "images",
        }
    }
}
