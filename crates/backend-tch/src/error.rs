//! Errors of this engine.

use alexnet_core::Error;
use tch::TchError;

/// The name of this engine.
pub const NAME: &str = "tch";

/// Converts an error of libtorch into core's, for `map_err`.
pub fn failed(error: TchError) -> Error {
    // The first line says what is wrong; the rest is a trace of C++.
    let message = error.to_string();
    Error::Backend { backend: NAME, message: message.lines().next().unwrap_or_default().into() }
}
