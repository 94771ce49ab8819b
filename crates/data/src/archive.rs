//! Unpacking a `.tgz` that nobody has to trust.
//!
//! An archive holds files and folders. Links, devices and paths that leave the folder are refused, sizes are counted while
//! they are read, and what is unpacked appears whole or not at all.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::fetch::sha256;
use crate::{Error, Result, staged};

/// What an archive may grow to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files together.
    pub total_bytes: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Files and folders.
    pub entries: u64,
}

impl Default for Limits {
    /// 4 GiB in at most 1,000,000 entries of at most 256 MiB: ten times the flower photos, and more.
    fn default() -> Self {
        Self { total_bytes: 4 << 30, file_bytes: 256 << 20, entries: 1_000_000 }
    }
}

/// What lies between two files: padding, headers, and names too long for a header. More is an attempt to fill the memory.
const BETWEEN_FILES: u64 = 1 << 20;

/// Unpacks `archive` into the folder `into`, and returns it.
///
/// If all lies in one top folder, `into` takes its place: `flower_photos/daisy/1.jpg` becomes `INTO/daisy/1.jpg`.
/// An earlier unpacking of the same archive (the same bytes, by size and SHA-256) is taken as it is; the hash is computed
/// anew each time, half a second for the flower photos, since a date would tell nothing about a file that was copied.
///
/// `progress` is called with the bytes of the archive that were read and their number.
///
/// # Errors
/// [`Error::Archive`] names the entry and the reason; [`Error::Exists`] when `into` holds anything else;
/// [`Error::Io`].
pub fn unpack(
    archive: &Path,
    into: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PathBuf> {
    let (bytes, digest) = sha256(archive)?;
    if bytes == 0 {
        return Err(refuse(archive, "it is empty; fetch it again"));
    }
    let made_of = format!("sha256 {digest}\nbytes {bytes}\n");
    staged::folder(into, Some(&made_of), |partial| {
        extract(archive, partial, limits, &mut |read| progress(read, bytes))?;
        lift_top_folder(partial)
    })?;
    Ok(into.to_owned())
}

/// Writes the entries below `folder`.
fn extract(archive: &Path, folder: &Path, limits: &Limits, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let (read, allowance) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(BETWEEN_FILES)));
    let file = File::open(archive).map_err(Error::io("read", archive))?;
    let compressed = Counted { inner: BufReader::with_capacity(1 << 16, file), read: Rc::clone(&read) };
    let tar_bytes = Allowed { inner: MultiGzDecoder::new(compressed), allowance: Rc::clone(&allowance) };
    let broken = |error: io::Error| refuse(archive, explain(&error));

    let mut tar = Archive::new(tar_bytes);
    let mut room = limits.total_bytes;
    let mut entries = 0;
    let mut files = 0;
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        entries += 1;
        if entries > limits.entries {
            return Err(refuse(archive, format!("it has more than {} entries", limits.entries)));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refuse_entry = |reason: &str| refuse(archive, format!("its entry `{name}` {reason}"));
        let kind = kind(&entry).map_err(|reason| refuse_entry(reason))?;
        let target = folder.join(inside(&entry.path_bytes()).map_err(|reason| refuse_entry(reason))?);
        match kind {
            Kind::Note => {}
            Kind::Folder => fs::create_dir_all(&target).map_err(Error::io("create", &target))?,
            Kind::File => {
                allowance.set(u64::MAX);
                let limit = limits.file_bytes.min(room);
                let size = write(&mut entry, &target, limit).map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists => refuse_entry("appears twice"),
                    ErrorKind::FileTooLarge if room < limits.file_bytes => {
                        refuse(archive, format!("it unpacks to more than {} bytes", limits.total_bytes))
                    }
                    ErrorKind::FileTooLarge => {
                        refuse_entry(&format!("unpacks to more than {} bytes", limits.file_bytes))
                    }
                    _ => refuse_entry(&format!("cannot be unpacked: {}", explain(&error))),
                })?;
                room -= size;
                files += 1;
            }
        }
        allowance.set(BETWEEN_FILES);
        progress(read.get());
    }
    if files == 0 {
        return Err(refuse(archive, "it holds no files"));
    }
    // To the end, where the checksum stands.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(broken)?;
    progress(read.get());
    Ok(())
}

enum Kind {
    File,
    Folder,
    /// About the archive itself, such as the commit that `git archive` records.
    Note,
}

fn kind<R: Read>(entry: &Entry<'_, R>) -> Result<Kind, &'static str> {
    match entry.header().entry_type() {
        // Before POSIX, a slash at the end made a folder.
        EntryType::Regular if entry.path_bytes().ends_with(b"/") => Ok(Kind::Folder),
        EntryType::Regular | EntryType::Continuous => Ok(Kind::File),
        EntryType::Directory => Ok(Kind::Folder),
        EntryType::XGlobalHeader => Ok(Kind::Note),
        EntryType::Symlink => Err("is a symbolic link"),
        EntryType::Link => Err("is a hard link"),
        EntryType::Char | EntryType::Block => Err("is a device"),
        EntryType::Fifo => Err("is a pipe"),
        _ => Err("is neither a file nor a folder"),
    }
}

/// The path of an entry, if it stays below the folder on every system.
fn inside(path: &[u8]) -> Result<PathBuf, &'static str> {
    let path = std::str::from_utf8(path).map_err(|_| "has a name that is not UTF-8")?;
    if path.starts_with('/') {
        return Err("has an absolute path");
    }
    if path.contains('\\') || path.as_bytes().get(1) == Some(&b':') {
        return Err("has a path of Windows");
    }
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    if parts.clone().any(|part| part == "..") {
        return Err("leaves its folder by `..`");
    }
    Ok(parts.collect())
}

/// Writes one file of at most `limit` bytes, whatever its header says, and returns its size.
fn write<R: Read>(entry: &mut Entry<'_, R>, target: &Path, limit: u64) -> io::Result<u64> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = File::create_new(target)?;
    let size = io::copy(&mut entry.by_ref().take(limit.saturating_add(1)), &mut file)?;
    match size {
        _ if size > limit => Err(ErrorKind::FileTooLarge.into()),
        _ if size < entry.size() => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(size),
    }
}

/// If there is one folder and nothing else but hidden files, what it holds takes its place.
fn lift_top_folder(folder: &Path) -> Result<()> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
        entries.map(|entry| Ok(entry.map_err(Error::io("read", folder))?.path())).collect()
    };
    let visible: Vec<PathBuf> = list(folder)?
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")))
        .collect();
    let [top] = &visible[..] else { return Ok(()) };
    if !top.is_dir() {
        return Ok(());
    }
    // Out of the way first: it may hold something of its own name.
    let aside = folder.join(".top");
    fs::rename(top, &aside).map_err(Error::io("rename", top))?;
    for path in list(&aside)? {
        let to = folder.join(path.file_name().unwrap_or_default());
        fs::rename(&path, to).map_err(Error::io("rename", &path))?;
    }
    fs::remove_dir(&aside).map_err(Error::io("remove", &aside))
}

/// Counts the bytes that pass.
struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

/// Fails when more bytes pass than are allowed just now.
struct Allowed<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Allowed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let left = self.allowance.get().checked_sub(n as u64);
        self.allowance.set(left.ok_or_else(|| io::Error::other("its headers are too large"))?);
        Ok(n)
    }
}

/// What an error of the decoders means.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "it ends in the middle; fetch it again".into(),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => format!("it is not a whole .tgz ({error})"),
        _ => error.to_string(),
    }
}

fn refuse(archive: &Path, reason: impl Into<String>) -> Error {
    Error::Archive { path: archive.to_owned(), reason: reason.into() }
}
