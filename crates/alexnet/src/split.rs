//! The subsets of a data set by their use: training, validation, test.

use alexnet_data::dataset::{Dataset, Item};
use serde::{Deserialize, Serialize};

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Those that validate
    Val,
    /// Those that train
    Train,
    /// Those of the test half, where the folder has one
    Test,
    /// All of them
    All,
}

impl Split {
    pub(crate) fn items(self, dataset: &Dataset) -> Vec<Item> {
        match self {
            Self::Val => dataset.val.clone(),
            Self::Train => dataset.train.clone(),
            Self::Test => dataset.test.clone(),
            Self::All => dataset.all().cloned().collect(),
        }
    }

    /// What its images are called.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Val => "validation images",
            Self::Train => "training images",
            Self::Test => "test images",
            Self::All => "images",
        }
    }
}
