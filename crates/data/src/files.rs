//! Opens and syncs files that this crate writes.

use std::{fs::File, path::Path};

use crate::{Error, Result};

/// Opens a file that this crate writes, without truncating it, or creates it. A link is an error:
/// anyone with write access to the folder could let it point to another file.
pub fn open_own(path: &Path) -> Result<File> {
    if path.is_symlink() {
        let source = std::io::Error::other("it is a link; remove it");
        return Err(Error::Io { action: "open", path: path.to_owned(), source });
    }
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path).map_err(Error::io("create", path))
}

/// Syncs a file or a folder to the disk. Does nothing for folders on Windows, which cannot be
/// opened as files; renames need no sync there.
pub fn sync(path: &Path) -> Result<()> {
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}
