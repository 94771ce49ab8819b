//! Creates a folder atomically: it is complete or does not exist, even if the process is killed or
//! several processes create it.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use walkdir::WalkDir;

use crate::{
    Error, Result,
    files::{open_own, sync},
};

/// The file in a complete folder that identifies its source.
const MARKER: &str = ".complete";

/// Creates `destination`: fills a hidden folder next to it with `fill`, syncs it and renames it.
///
/// With `source`, a folder that was created earlier from the same source is left unchanged.
/// Without, the folder may exist only if it is empty. A lock file makes a second process wait for
/// the first one and then use its result. The partial folder of an interrupted process is removed.
///
/// # Errors
/// [`Error::Exists`] if the folder holds something else; [`Error::Io`]; the errors of `fill`.
pub fn create(
    destination: &Path,
    source: Option<&str>,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if is_complete(destination, source)? {
        return Ok(());
    }
    let parent = match destination.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let lock_path = hidden_sibling(destination, "lock")?;
    let lock = open_own(&lock_path)?;
    match lock.lock() {
        Err(error) if error.kind() != ErrorKind::Unsupported => {
            return Err(Error::Io { action: "lock", path: lock_path, source: error });
        }
        _ => {}
    }
    if !is_complete(destination, source)? {
        let partial = hidden_sibling(destination, "partial")?;
        remove(&partial)?;
        fs::create_dir(&partial).map_err(Error::io("create", &partial))?;
        let created = fill(&partial).and_then(|()| finish(&partial, destination, source));
        if let Err(error) = created {
            // Report the first error only; if this removal fails, the next call removes the folder.
            let _ = remove(&partial);
            return Err(error);
        }
        sync(parent)?;
    }
    // Remove the lock file last: processes that still wait for it then find the complete folder.
    let _ = fs::remove_file(&lock_path);
    Ok(())
}

/// Returns whether the folder exists and was created from the same source. An empty folder counts
/// as missing.
fn is_complete(destination: &Path, source: Option<&str>) -> Result<bool> {
    let mut entries = match fs::read_dir(destination) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(Error::Io { action: "read", path: destination.to_owned(), source: error });
        }
    };
    if entries.next().is_none() {
        return Ok(false);
    }
    let found = fs::read_to_string(destination.join(MARKER)).ok();
    match (found, source) {
        (Some(found), Some(source)) if found == source => Ok(true),
        (Some(_), Some(_)) => Err(Error::Exists {
            path: destination.to_owned(),
            holds: "it was created from another source",
        }),
        _ => Err(Error::Exists { path: destination.to_owned(), holds: "it is not empty" }),
    }
}

fn finish(partial: &Path, destination: &Path, source: Option<&str>) -> Result<()> {
    if let Some(source) = source {
        let marker = partial.join(MARKER);
        File::create(&marker)
            .and_then(|mut file| file.write_all(source.as_bytes()))
            .map_err(Error::io("write", &marker))?;
    }
    let entries: Vec<_> = WalkDir::new(partial)
        .into_iter()
        .filter_map(|entry| entry.ok().map(walkdir::DirEntry::into_path))
        .collect();
    entries.par_iter().try_for_each(|path| sync(path))?;
    match fs::remove_dir(destination) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::Io {
                action: "replace",
                path: destination.to_owned(),
                source: error,
            });
        }
        _ => {}
    }
    fs::rename(partial, destination).map_err(Error::io("create", destination))
}

/// Returns the path `.NAME.suffix` in the same folder.
fn hidden_sibling(destination: &Path, suffix: &str) -> Result<PathBuf> {
    let Some(name) = destination.file_name() else {
        let source = ErrorKind::InvalidFilename.into();
        return Err(Error::Io { action: "create", path: destination.to_owned(), source });
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(suffix);
    Ok(destination.with_file_name(hidden))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::Io { action: "remove", path: folder.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_link_with_the_name_of_the_lock_file_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let [precious, lock] = ["precious", ".new.lock"].map(|name| place.path().join(name));
        fs::write(&precious, "words").unwrap();
        std::os::unix::fs::symlink(&precious, &lock).unwrap();
        let make = || create(&place.path().join("new"), None, |_| Ok(()));
        let message = make().unwrap_err().to_string();
        assert!(message.contains(".new.lock: it is a link; remove it"), "{message}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "words");
        // A regular file keeps its content while it is locked.
        fs::remove_file(&lock).unwrap();
        fs::write(&lock, "words").unwrap();
        assert!(
            create(&place.path().join("new"), None, |_| Err(Error::io("x", "y")(
                ErrorKind::Other.into()
            )))
            .is_err()
        );
        assert_eq!(fs::read_to_string(&lock).unwrap(), "words");
        make().unwrap();
        assert!(!lock.exists());
    }
}
