//! The subcommands, one per file.

pub mod bench;
pub mod completions;
pub mod convert;
pub mod data;
pub mod doctor;
pub mod evaluate;
pub mod explain;
pub mod export;
pub mod features;
pub mod kernels;
pub mod lr_find;
pub mod man;
pub mod neighbours;
pub mod parity;
pub mod predict;
pub mod recipes;
pub mod runs;
pub mod schema;
pub mod serve;
pub mod summary;
pub mod train;
