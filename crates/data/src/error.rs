//! The errors of this crate. Messages name the file and the cause; programs that use the crate add
//! the next step.

use std::path::{Path, PathBuf};

use alexnet_core::text::{escaped, shown_path};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of the operating system.
    #[error("cannot {action} {}: {source}", shown_path(path))]
    Io {
        /// `read`, `write`, `create`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// An image that cannot be decoded.
    #[error("{} is not a readable image: {}", shown_path(path), escaped(reason))]
    Image {
        /// The file; `-` for standard input.
        path: PathBuf,
        /// The decoder's message.
        reason: String,
    },
    /// A folder that is not a data set.
    #[error("{} is not a data set: {}", shown_path(path), escaped(reason))]
    Dataset {
        /// The folder.
        path: PathBuf,
        /// Why it is not a data set.
        reason: String,
    },
    /// A shard or an index of shards that cannot be used.
    #[error("{} {}", shown_path(path), escaped(reason))]
    Shards {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as a clause whose subject is the file, and the next step.
        reason: String,
    },
    /// The classes are so small that no image is used for validation.
    #[error(
        "{} is too small to split: a share of {fraction} leaves no image to validate with",
        shown_path(path)
    )]
    NoneValidates {
        /// The folder.
        path: PathBuf,
        /// The share of validation images in each class.
        fraction: f64,
    },
    /// An archive that is refused.
    #[error("{} was not unpacked: {}", shown_path(path), escaped(reason))]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The reason, with the entry if one is the cause.
        reason: String,
    },
    /// A download that failed.
    #[error("cannot fetch {url}: {}", escaped(reason))]
    Fetch {
        /// The URL.
        url: String,
        /// The cause.
        reason: String,
    },
    /// A file or folder that exists and is not overwritten.
    #[error("{} was not written: {holds}; remove it or choose another folder", shown_path(path))]
    Exists {
        /// The file or folder.
        path: PathBuf,
        /// What it holds, as a clause such as "it is not empty".
        holds: &'static str,
    },
    /// A folder that would be written is in the folder of the images.
    #[error(
        "{} was not written, because the images are in {}; choose another folder",
        shown_path(path),
        shown_path(images)
    )]
    AmongImages {
        /// The folder.
        path: PathBuf,
        /// The folder of the images.
        images: PathBuf,
    },
    /// A setting has an invalid value.
    #[error("{field} cannot be {value}: {reason}")]
    Invalid {
        /// The name of the setting.
        field: &'static str,
        /// The value given.
        value: String,
        /// Why it is invalid.
        reason: &'static str,
    },
    /// An error of the core crate, such as a file that cannot be written.
    #[error(transparent)]
    Core(#[from] alexnet_core::Error),
}

/// A result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns a closure for `map_err` that creates an [`Error::Io`] with the action and the file.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Returns the reason without the path.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Image { reason, .. } => reason,
            Self::Io { action, source, .. } => format!("cannot {action} it: {source}"),
            other => other.to_string(),
        }
    }
}

impl From<Error> for alexnet_core::Error {
    fn from(error: Error) -> Self {
        Self::Data(error.to_string())
    }
}
