//! Image data sets: from files to the batches for training and evaluation.
//!
//! - Sources: [`fetch`] downloads an archive, [`archive`] unpacks one, [`synthetic`] draws flowers.
//! - Data sets: [`dataset`] reads folders of the accepted layouts, [`shards`] reads shards, [`pack`]
//!   writes them, [`split`] splits them into
//!   training and validation images, [`copy`] writes a split into folders, [`known_split`] detects
//!   an earlier split, [`check`] reports issues.
//! - Images: [`decode`] decodes files, [`resize`] resizes images, [`framing`] chooses the part that
//!   the network sees, [`augment`] augments images for training, [`preprocess`] prepares them for
//!   evaluation and prediction, [`corruption`] corrupts them for evaluation, [`loader`] loads
//!   batches.
#![forbid(unsafe_code)]

pub mod archive;
mod atomic_folder;
pub mod augment;
pub mod check;
pub mod checksum;
pub mod copy;
pub mod corruption;
pub mod dataset;
pub mod decode;
pub mod error;
pub mod fetch;
mod files;
#[cfg(test)]
mod fixtures;
pub mod framing;
pub mod guard;
pub mod known_split;
pub mod loader;
pub mod pack;
pub mod preprocess;
pub mod progress;
pub mod resize;
pub mod shards;
pub mod split;
pub mod synthetic;

pub use error::{Error, Result};
