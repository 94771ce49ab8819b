//! A lock on what one process at a time may write: a file that is locked, not one that is there, so that a killed process leaves no
//! lock behind.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::Path,
    process,
};

use crate::{Error, Result};

/// Held while it lives, and by no process that has ended, in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    /// Whether the file system knows locks; without them nothing is held.
    pub is_kept: bool,
}

impl Lock {
    /// Takes the lock that the file at `path` stands for, which is made if there is none and stays when the lock is gone. Who holds
    /// it is written there, to be read by people.
    ///
    /// # Errors
    /// [`Error::Held`] when another process, or this one, has it; [`Error::Io`] when the file cannot be written, or is something
    /// else than a file: a link would lead elsewhere.
    pub fn acquire(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
            let source = io::Error::new(io::ErrorKind::AlreadyExists, "it is not a plain file; remove it");
            return Err(Error::Io { action: "lock", path: path.to_owned(), source });
        }
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open().map_err(Error::io("lock", path))?;
        match file.try_lock() {
            Ok(()) => {
                sign(&mut file).map_err(Error::io("write", path))?;
                Ok(Self { _file: file, is_kept: true })
            }
            Err(TryLockError::WouldBlock) => {
                let mut by = String::new();
                // What another wrote there is for people, and of use only where it can be read.
                let _ = file.take(MOST_READ).read_to_string(&mut by);
                let by = if by.trim().is_empty() { "another process" } else { by.trim() };
                Err(Error::Held { path: path.to_owned(), by: by.to_owned() })
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Self { _file: file, is_kept: false })
            }
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path)(error)),
        }
    }
}

/// Of the words of whoever holds a lock.
const MOST_READ: u64 = 300;

fn sign(file: &mut File) -> io::Result<()> {
    let host = gethostname::gethostname();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} on {}", process::id(), host.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_holds_it_and_the_next_is_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        fs::write(&path, "process 1 on a machine with a long name, which was killed").unwrap();
        let lock = Lock::acquire(&path).unwrap();
        let Err(Error::Held { by, .. }) = Lock::acquire(&path) else { panic!("held twice") };
        assert!(by.starts_with(&format!("process {} on ", process::id())) && !by.contains("killed"), "{by}");
        drop(lock);
        Lock::acquire(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_neither_followed_nor_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let [precious, path] = ["precious", ".lock"].map(|name| folder.path().join(name));
        fs::write(&precious, "words").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        let error = Lock::acquire(&path).unwrap_err().to_string();
        assert!(error.contains(".lock: it is not a plain file; remove it"), "{error}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "words");
    }
}
