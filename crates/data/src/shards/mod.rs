//! Shards: `tar` files with images and their classes, as the Python library `webdataset` has them,
//! and an index of ours beside them. `docs/shards.md` describes both formats.
//!
//! [`samples`] lists the images of a shard, [`index`] is the file with which no shard needs to be
//! listed, [`Shards`] reads images.

pub mod index;
mod reader;
pub mod samples;

pub(crate) use self::reader::{BLOCK, Location, Shard, stamp};
pub use self::reader::{Place, Shards};
/// The file of the index.
pub const INDEX: &str = "index.bin";

/// The file in a folder that is being packed. It describes what is packed.
pub const UNFINISHED: &str = ".packing";

/// The number of bytes at the start of a shard whose checksum is in the index.
pub const HEAD: u64 = 4096;

/// Returns whether a path has only names as its parts, so that it stays inside of a folder that it
/// is appended to.
pub(crate) fn is_inside(path: &str) -> bool {
    path.split('/').all(is_name)
}

/// Returns whether a text can be the name of a file on any system.
pub(crate) fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', '\0'])
}

/// Returns whether a text can be the name of a class: that of a folder, which has at most 255 bytes.
pub(crate) fn is_class_name(name: &str) -> bool {
    is_name(name) && name.len() <= 255
}
