//! Everything between image files and the batches that a network is trained and evaluated on.
//!
//! - Where they come from: [`fetch`] downloads an archive, [`archive`] unpacks one, [`synthetic`] draws flowers.
//! - What a folder holds: [`dataset`] reads the layouts that are accepted, [`split`] decides which images train and which validate,
//!   [`copy`] writes a split into folders, [`known_split`] finds an earlier split again, [`check`] reports what is wrong.
//! - From a file to a batch: [`decode`] gives pixels, [`resize`] resizes them, [`augment`] varies them for training,
//!   [`preprocess`] prepares them for evaluation and prediction, [`loader`] makes batches.
#![forbid(unsafe_code)]

pub mod archive;
mod atomic_folder;
pub mod augment;
pub mod check;
pub mod checksum;
pub mod copy;
pub mod dataset;
pub mod decode;
pub mod error;
pub mod fetch;
mod files;
#[cfg(test)]
mod fixtures;
pub mod guard;
pub mod known_split;
pub mod loader;
pub mod preprocess;
pub mod progress;
pub mod resize;
pub mod split;
pub mod synthetic;

pub use error::{Error, Result};
