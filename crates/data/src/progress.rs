//! The type of callbacks that report progress.

/// A callback with the number of processed images and the number of all images. Several threads
/// call it.
pub type Progress<'a> = dyn Fn(usize, usize) + Sync + 'a;
