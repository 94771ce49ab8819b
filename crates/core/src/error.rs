//! The errors of this crate and of every engine.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::text::{escaped, shown, shown_path};

/// The errors of engines, topologies and the files of a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A node of the topology cannot process the shape of its input.
    #[error("the network is not valid at node `{node}`: {reason}")]
    Topology {
        /// The name of the node.
        node: String,
        /// The reason.
        reason: String,
    },
    /// A batch, a gradient or a cotangent does not fit the network.
    #[error("{what} does not fit the network: expected {expected}, found {found}")]
    Shape {
        /// What has the wrong shape.
        what: String,
        /// The shape that the network needs.
        expected: String,
        /// The shape that was passed.
        found: String,
    },
    /// Parameters are missing, unknown or have the wrong shape. The message contains a table of
    /// name, expected and found shape.
    #[error("the parameters do not fit the network:\n{table}")]
    Parameters {
        /// One line per parameter: name, expected, found.
        table: String,
    },
    /// A setting or an argument has an invalid value.
    #[error("{field} cannot be {}: {reason}", escaped(value))]
    Invalid {
        /// The name of the setting or argument.
        field: &'static str,
        /// The value given.
        value: String,
        /// Why it is invalid.
        reason: String,
    },
    /// The loss, a gradient or a weight became infinite or not a number.
    #[error(
        "the {what} is not finite at step {step} (epoch {epoch}): lower the learning rate, or check the images"
    )]
    NotFinite {
        /// `loss`, `gradient`, ….
        what: &'static str,
        /// The step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
    },
    /// The engine cannot use this device.
    #[error("the engine `{backend}` has no device `{device}`: {reason}")]
    Device {
        /// The engine.
        backend: &'static str,
        /// The requested device.
        device: String,
        /// Which devices the engine has, and how to get this one.
        reason: String,
    },
    /// The engine's library returned an error.
    #[error("the engine `{backend}` failed: {message}")]
    Backend {
        /// The engine.
        backend: &'static str,
        /// The library's message.
        message: String,
    },
    /// An image of a batch could not be read; the message names it.
    #[error("{0}")]
    Image(String),
    /// Batches could not be read.
    #[error("{0}")]
    Data(String),
    /// The ranks of a group cannot exchange messages.
    #[error("the ranks cannot go on together: {0}")]
    Ranks(String),
    /// Another rank has an error; the message names the rank and the error.
    #[error("{0}")]
    OtherRank(String),
    /// An operation on a file failed.
    #[error("cannot {action} {}: {source}", shown_path(path))]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A weights file does not match its checksum.
    #[error(
        "{} has changed since it was written (checksum {}, now {found}): it is damaged and must be replaced by an intact copy, or another \
         program changed it without updating the checksum",
        shown_path(path),
        shown(written)
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The checksum stored in the file.
        written: String,
        /// The checksum of its content.
        found: String,
    },
    /// Another process holds the lock.
    #[error("{} is locked by {}", shown_path(path), shown(by))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The process and host that hold it, as written in the file.
        by: String,
    },
    /// The file does not exist.
    #[error("{} is not {expected}: there is no such file", shown_path(path))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The expected kind.
        expected: FileKind,
    },
    /// A file was read, but is not of the expected kind.
    #[error("{} is not {expected}: {reason}", shown_path(path))]
    Format {
        /// The file.
        path: PathBuf,
        /// The expected kind.
        expected: FileKind,
        /// The reason.
        reason: String,
    },
}

/// The kind of a file; displayed with its article.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A weights file, of this project or of another program.
    Weights,
    /// The checkpoint of a run.
    Checkpoint,
    /// A file of class names.
    ClassNames,
    /// The index of the neighbors of images.
    NeighborIndex,
    /// The scalars of a run, for TensorBoard.
    Events,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weights => "a weights file",
            Self::Checkpoint => "a checkpoint",
            Self::ClassNames => "a file of class names",
            Self::NeighborIndex => "an index of neighbors",
            Self::Events => "an event file of TensorBoard",
        })
    }
}

/// A result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns a function for `map_err` that creates an [`Error::Io`] with this action and file.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }
}
