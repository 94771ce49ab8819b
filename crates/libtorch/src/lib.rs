//! Finds libtorch on this machine.
//!
//! The engine `tch` is linked with libtorch, PyTorch's library for C++. [`find`] searches it in the
//! folders that the user names and in the project's cache ([`cache`]), and checks that it is
//! complete and has the right version, before a compiler fails. This crate does not print, does not
//! download, and reads the environment only through a function that the caller passes.
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

/// The version that this workspace's `tch` needs. Other versions cannot be used, since the
/// interface changes with each version.
pub const VERSION: &str = "2.13.0";

/// A function that returns the value of an environment variable, like [`std::env::var_os`].
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;
