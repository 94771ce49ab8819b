//! Which photos train and which validate.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A photo with its class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Relative to [`Dataset::root`], with `/` between the parts.
    pub path: String,
    /// Index in [`Dataset::classes`].
    pub class: usize,
}

/// A data set with its split: the content of `split.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// The folder that the paths start from.
    pub root: PathBuf,
    /// Class names, sorted.
    pub classes: Vec<String>,
    /// Photos to train with, by class, then by name.
    pub train: Vec<Item>,
    /// Photos to validate with, by class, then by name.
    pub val: Vec<Item>,
}
