//! The errors of starting a server.

use std::io;

use alexnet::core::Error as CoreError;

/// A result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is not valid.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The address is in use, or does not exist on this machine.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address and port.
        address: String,
        /// The cause.
        error: io::Error,
    },
    /// The threads of the server cannot be started.
    #[error("cannot start the server's threads: {0}")]
    Threads(io::Error),
}
