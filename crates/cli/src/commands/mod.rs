//! The subcommands, one a file.

pub mod bench;
pub mod summary;
