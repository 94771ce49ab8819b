//! The type of callbacks that report progress.

/// Called with the number of images that are done and of all, from several threads.
pub type Progress<'a> = dyn Fn(usize, usize) + Sync + 'a;
