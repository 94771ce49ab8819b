//! Opens and syncs files that this crate writes.

use std::{fs::File, path::Path};

use crate::{Error, Result};

/// Opens a file of this crate and keeps its content, or creates it. A link is an error: who may write to the folder could point it
/// anywhere.
pub fn open_own(path: &Path) -> Result<File> {
    if path.is_symlink() {
        let source = std::io::Error::other("it is a link; remove it");
        return Err(Error::Io { action: "open", path: path.to_owned(), source });
    }
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path).map_err(Error::io("create", path))
}

/// Syncs a file or a folder to the disk. Windows cannot open a folder as a file, and its renames need no sync.
pub fn sync(path: &Path) -> Result<()> {
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}
