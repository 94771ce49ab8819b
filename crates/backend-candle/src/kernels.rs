//! What the kernels for the host share: convolution, max pooling, the optimizer.

use candle_core::{CpuStorage, Error, Layout, Result};

/// Elements that one task of an element-wise loop handles: its streams fit in the second-level cache.
pub const ELEMENTS: usize = 16 * 1024;

/// The numbers of a tensor that lie side by side.
///
/// # Errors
/// candle's, when they do not, or are no f32.
pub fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice()?[start..end]),
        None => Err(Error::RequiresContiguous { op: "a kernel on the host" }),
    }
}
