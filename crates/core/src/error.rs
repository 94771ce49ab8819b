//! The errors of this crate and of every engine.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::text::{escaped, shown, shown_path};

/// What an engine, a topology or a file of a run can refuse.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A node of the topology cannot work on the shape that reaches it.
    #[error("the network is not valid at node `{node}`: {reason}")]
    Topology {
        /// The node at fault.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A batch, a state or a cotangent does not fit the network.
    #[error("{what} does not fit the network: expected {expected}, found {found}")]
    Shape {
        /// What was handed over.
        what: String,
        /// The shape that the network needs.
        expected: String,
        /// The shape that came.
        found: String,
    },
    /// Parameters are missing, unknown or of another shape; the message is a table of name, expected, found.
    #[error("the parameters do not fit the network:\n{table}")]
    Parameters {
        /// One line a parameter: name, expected, found.
        table: String,
    },
    /// A field of a configuration, or an argument, has a value that makes no sense.
    #[error("{field} cannot be {}: {reason}", escaped(value))]
    Invalid {
        /// The name of the field or argument.
        field: &'static str,
        /// The value given.
        value: String,
        /// Why it is refused.
        reason: String,
    },
    /// The loss, a gradient or a weight became infinite or not a number.
    #[error(
        "the {what} is not finite at step {step} (epoch {epoch}): lower the learning rate, or look at the images"
    )]
    NotFinite {
        /// `loss`, `gradient`, ….
        what: &'static str,
        /// The step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
    },
    /// The engine has no such device.
    #[error("the engine `{backend}` has no device `{device}`: {reason}")]
    Device {
        /// The engine.
        backend: &'static str,
        /// The device asked for.
        device: String,
        /// Which it has, and how to get the other.
        reason: String,
    },
    /// The engine failed inside.
    #[error("the engine `{backend}` failed: {message}")]
    Backend {
        /// The engine.
        backend: &'static str,
        /// Its own words.
        message: String,
    },
    /// An image of a batch could not be read; the text names it.
    #[error("{0}")]
    Image(String),
    /// Batches could not be read.
    #[error("{0}")]
    Data(String),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", shown_path(path))]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A weights file does not match the checksum in it.
    #[error(
        "{} has changed since it was written (checksum {}, now {found}): it is damaged, and another copy of it is needed; or another \
         program changed it and kept the old checksum",
        shown_path(path),
        shown(written)
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The checksum in it.
        written: String,
        /// The checksum of its content.
        found: String,
    },
    /// A lock is held by another.
    #[error("{} is locked by {}", shown_path(path), shown(by))]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// Who says to hold it: process and host.
        by: String,
    },
    /// There is no such file.
    #[error("{} is not {expected}: there is no such file", shown_path(path))]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: FileKind,
    },
    /// A file was read but is not what it should be.
    #[error("{} is not {expected}: {reason}", shown_path(path))]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: FileKind,
        /// What is wrong.
        reason: String,
    },
}

/// What a file should be; displayed with its article.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Weights, ours or of another program.
    Weights,
    /// The checkpoint of a run.
    Checkpoint,
    /// Names of classes.
    ClassNames,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weights => "a weights file",
            Self::Checkpoint => "a checkpoint",
            Self::ClassNames => "a file of class names",
        })
    }
}

/// A result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: an [`Error::Io`] that names the action and the file.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }
}
