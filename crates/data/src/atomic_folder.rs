//! Creates a folder that appears whole or not at all, even when the process is killed or another does the same.

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

/// The file inside a finished folder that says what it was made of.
const MARKER: &str = ".complete";

/// Creates `destination`: fills a hidden folder beside it with `fill`, syncs it and renames it.
///
/// With `made_of`, a folder that was finished earlier from the same source is taken as it is; without, only an empty folder may be
/// there. A lock makes a second process wait for the first and then find its result; the leftovers of an interrupted process are
/// removed.
///
/// # Errors
/// [`Error::Exists`] when something else is there; [`Error::Io`]; the errors of `fill`.
pub fn create(
    destination: &Path,
    made_of: Option<&str>,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if is_finished(destination, made_of)? {
        return Ok(());
    }
    let parent = match destination.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let lock_path = beside(destination, "lock")?;
    let lock = open_own(&lock_path)?;
    match lock.lock() {
        Err(error) if error.kind() != ErrorKind::Unsupported => {
            return Err(Error::Io { action: "lock", path: lock_path, source: error });
        }
        _ => {}
    }
    if !is_finished(destination, made_of)? {
        let partial = beside(destination, "partial")?;
        remove(&partial)?;
        fs::create_dir(&partial).map_err(Error::io("create", &partial))?;
        let made = fill(&partial).and_then(|()| finish(&partial, destination, made_of));
        if let Err(error) = made {
            // The error that matters is the first one; a leftover is removed by the next run.
            let _ = remove(&partial);
            return Err(error);
        }
        sync(parent)?;
    }
    // Only now: whoever still waits for the removed file finds the folder finished.
    let _ = fs::remove_file(&lock_path);
    Ok(())
}

/// Whether the folder is there and was made from the same source.
fn is_finished(destination: &Path, made_of: Option<&str>) -> Result<bool> {
    let mut entries = match fs::read_dir(destination) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::Io { action: "read", path: destination.to_owned(), source: error }),
    };
    if entries.next().is_none() {
        return Ok(false);
    }
    let found = fs::read_to_string(destination.join(MARKER)).ok();
    match (found, made_of) {
        (Some(found), Some(made_of)) if found == made_of => Ok(true),
        (Some(_), Some(_)) => {
            Err(Error::Exists { path: destination.to_owned(), holds: "it was made from something else" })
        }
        _ => Err(Error::Exists { path: destination.to_owned(), holds: "it is not empty" }),
    }
}

fn finish(partial: &Path, destination: &Path, made_of: Option<&str>) -> Result<()> {
    if let Some(made_of) = made_of {
        let marker = partial.join(MARKER);
        File::create(&marker)
            .and_then(|mut file| file.write_all(made_of.as_bytes()))
            .map_err(Error::io("write", &marker))?;
    }
    let entries: Vec<_> = WalkDir::new(partial)
        .into_iter()
        .filter_map(|entry| entry.ok().map(walkdir::DirEntry::into_path))
        .collect();
    entries.par_iter().try_for_each(|path| sync(path))?;
    match fs::remove_dir(destination) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::Io { action: "replace", path: destination.to_owned(), source: error });
        }
        _ => {}
    }
    fs::rename(partial, destination).map_err(Error::io("create", destination))
}

/// `.NAME.suffix` in the same folder.
fn beside(destination: &Path, suffix: &str) -> Result<PathBuf> {
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
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let [precious, lock] = ["precious", ".new.lock"].map(|name| place.path().join(name));
        fs::write(&precious, "words").unwrap();
        std::os::unix::fs::symlink(&precious, &lock).unwrap();
        let make = || create(&place.path().join("new"), None, |_| Ok(()));
        let message = make().unwrap_err().to_string();
        assert!(message.contains(".new.lock: it is a link; remove it"), "{message}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "words");
        // What is no link is kept as it is while it is held.
        fs::remove_file(&lock).unwrap();
        fs::write(&lock, "words").unwrap();
        assert!(
            create(&place.path().join("new"), None, |_| Err(Error::io("x", "y")(ErrorKind::Other.into())))
                .is_err()
        );
        assert_eq!(fs::read_to_string(&lock).unwrap(), "words");
        make().unwrap();
        assert!(!lock.exists());
    }
}
