//! Errors of this engine.

use alexnet_core::Error;

/// The name of this engine.
pub const NAME: &str = "candle";

/// Converts an error of candle into core's, for `map_err`.
pub fn failed(error: candle_core::Error) -> Error {
    Error::Backend { backend: NAME, message: error.to_string() }
}
