//! The subcommands, one a file.

pub mod bench;
pub mod data;
pub mod evaluate;
pub mod predict;
pub mod summary;
pub mod train;
