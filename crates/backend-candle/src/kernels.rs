//! Code that the CPU kernels of convolution, max pooling and the optimizer share.

use candle_core::{CpuStorage, Error, Layout, Result};

/// The number of elements of one task of an element-wise loop. Its arrays fit in the second-level
/// cache.
pub const ELEMENTS: usize = 16 * 1024;

/// Returns the numbers of a contiguous f32 tensor.
///
/// # Errors
/// Those of candle, when it is not contiguous or not f32.
pub fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice()?[start..end]),
        None => Err(Error::RequiresContiguous { op: "a CPU kernel" }),
    }
}
