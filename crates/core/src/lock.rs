//! A lock on files that only one process at a time may write. It is a lock of the operating system
//! on a lock file. The existence of the file alone is not a lock, so a killed process leaves no
//! lock.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

use crate::{Error, Result};

/// A lock that is held until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    /// Whether the file system supports locks. If not, nothing is locked.
    pub is_supported: bool,
}

impl Lock {
    /// Acquires the lock on the file at `path`; if another process holds it, waits for a short time.
    /// The file is created if it is missing, and stays after the lock is released. The process
    /// writes its number and host name there, for users.
    ///
    /// # Errors
    /// [`Error::Held`] when another process, or this one, holds the lock; [`Error::Io`] when the
    /// file cannot be written or is not a regular file (a symbolic link is not followed).
    pub fn acquire(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
            let source =
                io::Error::new(io::ErrorKind::AlreadyExists, "it is not a regular file; remove it");
            return Err(Error::Io { action: "lock", path: path.to_owned(), source });
        }
        let open =
            || File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open().map_err(Error::io("lock", path))?;
        let deadline = Instant::now() + MAX_WAIT;
        let locked = loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(INTERVAL);
                }
                locked => break locked,
            }
        };
        match locked {
            Ok(()) => {
                write_holder(&mut file).map_err(Error::io("write", path))?;
                Ok(Self { _file: file, is_supported: true })
            }
            Err(TryLockError::WouldBlock) => {
                Err(Error::Held { path: path.to_owned(), by: read_holder(file) })
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Self { _file: file, is_supported: false })
            }
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path)(error)),
        }
    }
}

/// Returns the process that holds the lock on the file at `path`, as its text for users; `None` if no
/// process does, there is no such file, or the file system does not support locks.
pub fn holder(path: impl AsRef<Path>) -> Option<String> {
    let file = File::open(path).ok()?;
    // The shared lock is released when the file is closed.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_holder(file)),
        _ => None,
    }
}

/// How long a lock is waited for. A killed process holds it until the system has ended the process,
/// which can be later than the end of the launcher that killed it.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// The time between two attempts.
const INTERVAL: Duration = Duration::from_millis(20);

/// The number of bytes that are read of the holder's text.
const MAX_HOLDER_BYTES: u64 = 300;

fn read_holder(file: File) -> String {
    let mut by = String::new();
    // The content is only shown to users, so a read error is ignored.
    let _ = file.take(MAX_HOLDER_BYTES).read_to_string(&mut by);
    if by.trim().is_empty() { "another process".into() } else { by.trim().to_owned() }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    let host = gethostname::gethostname();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} on {}", process::id(), host.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_fails_and_names_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        fs::write(&path, "process 1 on a machine with a long name, which was killed").unwrap();
        assert_eq!(holder(&path), None);
        let lock = Lock::acquire(&path).unwrap();
        assert!(holder(&path).unwrap().starts_with(&format!("process {} on ", process::id())));
        let Err(Error::Held { by, .. }) = Lock::acquire(&path) else { panic!("held twice") };
        assert!(
            by.starts_with(&format!("process {} on ", process::id())) && !by.contains("killed"),
            "{by}"
        );
        // It is released while another thread waits.
        thread::scope(|scope| {
            let second = scope.spawn(|| Lock::acquire(&path).map(drop));
            thread::sleep(5 * INTERVAL);
            drop(lock);
            second.join().unwrap().unwrap();
        });
        assert_eq!(holder(&path), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [precious, path] = ["precious", ".lock"].map(|name| folder.path().join(name));
        fs::write(&precious, "words").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        let error = Lock::acquire(&path).unwrap_err().to_string();
        assert!(error.contains(".lock: it is not a regular file; remove it"), "{error}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "words");
    }
}
