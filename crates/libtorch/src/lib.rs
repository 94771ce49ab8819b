//! Where libtorch is on this machine, and which.
//!
//! The engine `tch` is linked with libtorch, PyTorch's library for C++. [`find`] looks for it in the places a user may name
//! and in the project's own cache ([`cache`]), and tells a whole one of the right version from anything else before a
//! compiler runs into it. Nothing here prints, fetches or reads the environment: the caller passes a function that does.
#![forbid(unsafe_code)]

pub mod cache;
mod find;
mod link;
pub mod manifest;
mod problem;
mod version;

use std::ffi::OsString;

pub use find::{Libtorch, Source, find, python};
pub use link::linker_arguments;
pub use problem::{Cause, Problem};

/// The version that this workspace's `tch` is written for; no other will do, since the interface changes with each.
pub const VERSION: &str = "2.13.0";

/// The value of an environment variable, as [`std::env::var_os`] gives it.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;
