//! Writes the entries of an archive to a folder, within limits.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use alexnet_core::text::shown;

use crate::{Error, Result};

/// Limits of the content of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Limit of the bytes of all files together.
    pub total_bytes: u64,
    /// Limit of the bytes of one file.
    pub file_bytes: u64,
    /// Limit of the number of files and folders.
    pub entries: u64,
}

impl Default for Limits {
    /// 4 GiB in at most 1,000,000 entries of at most 256 MiB, which is more than ten times the size
    /// of the flower photos.
    fn default() -> Self {
        Self { total_bytes: 4 << 30, file_bytes: 256 << 20, entries: 1_000_000 }
    }
}

/// The state of unpacking an archive: the target folder and the remaining limits.
pub struct Unpacked<'a> {
    pub archive: &'a Path,
    folder: &'a Path,
    limits: &'a Limits,
    /// Bytes that may still be written.
    bytes_left: u64,
    entries: u64,
    files: u64,
}

impl<'a> Unpacked<'a> {
    pub fn new(archive: &'a Path, folder: &'a Path, limits: &'a Limits) -> Self {
        Self { archive, folder, limits, bytes_left: limits.total_bytes, entries: 0, files: 0 }
    }

    /// Whether no file was unpacked.
    pub fn is_empty(&self) -> bool {
        self.files == 0
    }

    /// Counts an entry, and fails if there are more than the limit.
    pub fn count(&mut self) -> Result<()> {
        self.entries += 1;
        match self.entries {
            n if n > self.limits.entries => Err(refuse(
                self.archive,
                format!("it has more than {} entries", self.limits.entries),
            )),
            _ => Ok(()),
        }
    }

    pub fn refuse(&self, name: &[u8], reason: &str) -> Error {
        refuse(
            self.archive,
            format!("its entry `{}` {reason}", shown(&String::from_utf8_lossy(name))),
        )
    }

    /// Creates a folder.
    pub fn add_folder(&mut self, name: &[u8]) -> Result<()> {
        let target = self.target(name)?;
        fs::create_dir_all(&target).map_err(Error::io("create", &target))
    }

    /// Writes a file. `size` is its size in the header. Fails if the content is shorter than `size`
    /// or longer than the limits.
    pub fn add_file(&mut self, name: &[u8], size: u64, content: &mut dyn Read) -> Result<()> {
        let target = self.target(name)?;
        let limit = self.limits.file_bytes.min(self.bytes_left);
        let written = write(content, size, &target, limit).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => self.refuse(name, "appears twice"),
            ErrorKind::FileTooLarge if self.bytes_left < self.limits.file_bytes => refuse(
                self.archive,
                format!("it unpacks to more than {} bytes", self.limits.total_bytes),
            ),
            ErrorKind::FileTooLarge => {
                self.refuse(name, &format!("unpacks to more than {} bytes", self.limits.file_bytes))
            }
            _ => self.refuse(name, &format!("cannot be unpacked: {}", explain(&error))),
        })?;
        self.bytes_left -= written;
        self.files += 1;
        Ok(())
    }

    fn target(&self, name: &[u8]) -> Result<PathBuf> {
        Ok(self.folder.join(relative(name).map_err(|reason| self.refuse(name, reason))?))
    }
}

/// Returns the path of an entry relative to the target folder, if it cannot leave the folder on any
/// operating system.
fn relative(path: &[u8]) -> Result<PathBuf, &'static str> {
    let path = std::str::from_utf8(path).map_err(|_| "has a name that is not UTF-8")?;
    if path.starts_with('/') {
        return Err("has an absolute path");
    }
    if path.contains('\\') || path.as_bytes().get(1) == Some(&b':') {
        return Err("has a Windows path");
    }
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    if parts.clone().any(|part| part == "..") {
        return Err("leaves its folder with `..`");
    }
    Ok(parts.collect())
}

/// Writes one file of at least `size` and at most `limit` bytes. Returns its size.
fn write(content: &mut dyn Read, size: u64, target: &Path, limit: u64) -> io::Result<u64> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = File::create_new(target)?;
    let written = io::copy(&mut content.take(limit.saturating_add(1)), &mut file)?;
    match written {
        _ if written > limit => Err(ErrorKind::FileTooLarge.into()),
        _ if written < size => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(written),
    }
}

/// Describes an error of the decompressors.
pub fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "it is truncated; download it again".into(),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => format!("it is damaged ({error})"),
        _ => error.to_string(),
    }
}

pub fn refuse(archive: &Path, reason: impl Into<String>) -> Error {
    Error::Archive { path: archive.to_owned(), reason: reason.into() }
}
