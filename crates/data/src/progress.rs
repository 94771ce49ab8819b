//! How long work on many images tells how far it is.

/// Told how many images are done, and how many there are; from several threads.
pub type Progress<'a> = dyn Fn(usize, usize) + Sync + 'a;
