//! Unpacking a `.tgz` that nobody has to trust.
//!
//! An archive holds files and folders. Links, devices and paths that leave the folder are refused, sizes are
//! counted while they are read, and what is unpacked appears whole or not at all.

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

/// What lies between two files: padding, headers, and names too long for a header. More is an attempt to fill
/// the memory.
const BETWEEN_FILES: u64 = 1 << 20;

/// Unpacks `archive` into the folder `into`, and returns it.
///
/// If all lies in one top folder, `into` takes its place: `flower_photos/daisy/1.jpg` becomes
/// `INTO/daisy/1.jpg`. An earlier unpacking of the same archive (the same bytes, by size and SHA-256) is
/// taken as it is; the hash is computed anew each time, half a second for the flower photos, since a date
/// would tell nothing about a file that was copied.
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
        let kind = kind(&entry).map_err(refuse_entry)?;
        let target = folder.join(inside(&entry.path_bytes()).map_err(refuse_entry)?);
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use tar::{Builder, Header};

    use super::*;

    /// A header as a hostile hand would write it: no library in between that corrects it.
    fn header(path: &[u8], kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    fn file(path: &str, content: &[u8]) -> Vec<u8> {
        let header = header(path.as_bytes(), EntryType::Regular, content.len() as u64);
        let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
        [header.as_bytes(), content, &padding].concat()
    }

    fn special(path: &str, kind: EntryType) -> Vec<u8> {
        let mut header = header(path.as_bytes(), kind, 0);
        header.set_link_name("target").unwrap();
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn tgz(entries: &[Vec<u8>]) -> Vec<u8> {
        gzip(&[entries.concat(), vec![0; 1024]].concat())
    }

    /// An archive in a folder of its own, to be unpacked into `photos` beside it.
    struct Trial(tempfile::TempDir);

    impl Trial {
        fn new(archive: &[u8]) -> Self {
            let trial = Self(tempfile::tempdir().unwrap());
            fs::write(trial.archive(), archive).unwrap();
            trial
        }

        fn archive(&self) -> PathBuf {
            self.0.path().join("a.tgz")
        }

        fn photos(&self) -> PathBuf {
            self.0.path().join("photos")
        }

        fn unpack(&self, limits: &Limits) -> Result<PathBuf> {
            unpack(&self.archive(), &self.photos(), limits, &mut |_, _| {})
        }

        /// All files, with their content, below the folder that holds the archive.
        fn files(&self) -> Vec<(String, String)> {
            let mut files: Vec<(String, String)> = walkdir::WalkDir::new(self.0.path())
                .into_iter()
                .map(|entry| entry.unwrap().into_path())
                .filter(|path| path.is_file() && *path != self.archive() && !path.ends_with(".complete"))
                .map(|path| {
                    let name = path.strip_prefix(self.0.path()).unwrap().to_str().unwrap().to_owned();
                    (name, fs::read_to_string(path).unwrap())
                })
                .collect();
            files.sort();
            files
        }
    }

    #[track_caller]
    fn refused(archive: &[u8], limits: &Limits, cause: &str) {
        let trial = Trial::new(archive);
        let message = trial.unpack(limits).unwrap_err().to_string();
        assert!(message.contains(cause), "expected `{cause}`: {message}");
        assert!(message.contains("a.tgz was not unpacked"), "{message}");
        assert!(!trial.photos().exists(), "{cause}: something was unpacked");
        let left = trial.files();
        assert!(left.iter().all(|(name, _)| name == ".photos.lock"), "{cause}: {left:?}");
    }

    #[test]
    fn a_lone_top_folder_gives_way() {
        let trial = Trial::new(&tgz(&[
            special("top/", EntryType::Directory),
            file("top/LICENSE.txt", b"free"),
            file("./top/daisy/1.jpg", b"one"),
            file("top/top/2.jpg", b"two"),
            file("top/empty", b""),
        ]));
        assert_eq!(trial.unpack(&Limits::default()).unwrap(), trial.photos());
        let expected = [("LICENSE.txt", "free"), ("daisy/1.jpg", "one"), ("empty", ""), ("top/2.jpg", "two")];
        assert_eq!(trial.files(), expected.map(|(name, text)| (format!("photos/{name}"), text.to_owned())));
    }

    #[test]
    fn class_folders_at_the_top_stay() {
        let trial = Trial::new(&tgz(&[
            file("a/1.jpg", b"1"),
            file("b/1.jpg", b"2"),
            special("c/", EntryType::Directory),
        ]));
        trial.unpack(&Limits::default()).unwrap();
        assert_eq!(trial.files().len(), 2);
        assert!(trial.photos().join("a/1.jpg").is_file() && trial.photos().join("c").is_dir());
    }

    /// GNU and PAX write names above 100 bytes in different ways; `git archive` begins with a note.
    #[test]
    fn long_names_and_notes_are_read() {
        let long = format!("top/{}/{}.jpg", "d".repeat(120), "f".repeat(150));
        let mut gnu = Builder::new(Vec::new());
        let mut small = Header::new_gnu();
        small.set_size(3);
        small.set_mode(0o644);
        gnu.append_data(&mut small, &long, &b"gnu"[..]).unwrap();
        let trial = Trial::new(&gzip(&gnu.into_inner().unwrap()));
        trial.unpack(&Limits::default()).unwrap();
        assert_eq!(trial.files()[0].0, long.replace("top/", "photos/"));

        let record = format!("path={long}\n");
        let record = format!("{} {record}", record.len() + 4);
        let mut pax = header(b"pax", EntryType::XHeader, record.len() as u64).as_bytes().to_vec();
        pax.extend(record.as_bytes());
        pax.resize(pax.len().next_multiple_of(512), 0);
        let mut note = header(b"pax_global_header", EntryType::XGlobalHeader, 14).as_bytes().to_vec();
        note.extend(b"14 comment=ab\n");
        note.resize(1024, 0);
        let trial = Trial::new(&tgz(&[note, pax, file("short", b"pax")]));
        trial.unpack(&Limits::default()).unwrap();
        assert_eq!(trial.files(), [(long.replace("top/", "photos/"), "pax".to_owned())]);
    }

    #[test]
    fn entries_that_are_no_files_are_refused() {
        for (kind, cause) in [
            (EntryType::Symlink, "`x/evil` is a symbolic link"),
            (EntryType::Link, "`x/evil` is a hard link"),
            (EntryType::Char, "`x/evil` is a device"),
            (EntryType::Block, "`x/evil` is a device"),
            (EntryType::Fifo, "`x/evil` is a pipe"),
            (EntryType::new(b'Q'), "`x/evil` is neither"),
        ] {
            refused(&tgz(&[file("x/1.jpg", b"1"), special("x/evil", kind)]), &Limits::default(), cause);
        }
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        for (path, cause) in [
            ("../evil", "`../evil` leaves its folder"),
            ("x/../../evil", "leaves its folder"),
            ("x/..", "leaves its folder"),
            ("/evil", "absolute"),
            ("C:/evil", "Windows"),
            ("C:evil", "Windows"),
            ("..\\evil", "Windows"),
            ("\\\\host\\evil", "Windows"),
        ] {
            refused(&tgz(&[file("x/1.jpg", b"1"), file(path, b"2")]), &Limits::default(), cause);
        }
        let latin = header(b"x/\xe9.jpg", EntryType::Regular, 0).as_bytes().to_vec();
        refused(&tgz(&[latin]), &Limits::default(), "not UTF-8");
    }

    #[test]
    fn an_entry_that_appears_twice_is_refused() {
        refused(&tgz(&[file("x/1", b"1"), file("./x//1", b"2")]), &Limits::default(), "appears twice");
        let both = [special("x/1/", EntryType::Directory), file("x/1", b"2")];
        refused(&tgz(&both), &Limits::default(), "appears twice");
    }

    #[test]
    fn bombs_are_refused() {
        let limits = Limits { total_bytes: 2500, file_bytes: 1000, entries: 4 };
        let kilo = |name: &str| file(name, &[b'x'; 1000]);
        Trial::new(&tgz(&[kilo("a"), kilo("b")])).unpack(&limits).unwrap();
        refused(&tgz(&[file("big", &[0; 1001])]), &limits, "`big` unpacks to more than 1000");
        refused(&tgz(&[kilo("a"), kilo("b"), kilo("c")]), &limits, "more than 2500 bytes");
        let many: Vec<_> = (0..5).map(|k| file(&k.to_string(), b"")).collect();
        refused(&tgz(&many), &limits, "more than 4 entries");

        // A name of 3 MB would be held in memory before anyone sees the entry.
        let mut name = header(b"././@LongLink", EntryType::GNULongName, 3 << 20).as_bytes().to_vec();
        name.resize(512 + (3 << 20), b'n');
        refused(&tgz(&[name.clone(), file("x", b"1")]), &Limits::default(), "headers are too large");
        refused(&tgz(&[file("x", b"1"), name]), &Limits::default(), "headers are too large");
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        refused(b"", &Limits::default(), "is empty");
        refused(b"<html>404</html>", &Limits::default(), "not a whole .tgz");
        refused(&gzip(b"no tar in here"), &Limits::default(), "");
        refused(&tgz(&[]), &Limits::default(), "holds no files");
        refused(&tgz(&[special("x/", EntryType::Directory)]), &Limits::default(), "holds no files");
    }

    /// Wherever it is cut, and whichever byte is changed: refused.
    #[test]
    fn a_damaged_archive_is_refused() {
        let noise: Vec<u8> = (0..3000u32).map(|k| (k.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let good = tgz(&[file("x/1.jpg", &noise), file("x/2.jpg", &noise)]);
        for cut in [9, 100, 1500, good.len() / 2, good.len() - 9, good.len() - 8, good.len() - 1] {
            refused(&good[..cut], &Limits::default(), "");
        }
        for at in [700, good.len() - 5] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            refused(&bad, &Limits::default(), "");
        }
        // Cut before it was compressed.
        let entry = file("x/1.jpg", &noise);
        refused(&gzip(&entry[..2000]), &Limits::default(), "ends in the middle");
    }

    #[test]
    fn a_finished_unpacking_is_kept_and_another_is_not_touched() {
        let trial = Trial::new(&tgz(&[file("x/1.jpg", b"1")]));
        trial.unpack(&Limits::default()).unwrap();
        fs::write(trial.photos().join("mine.txt"), "mine").unwrap();
        let mut calls = 0;
        unpack(&trial.archive(), &trial.photos(), &Limits::default(), &mut |_, _| calls += 1).unwrap();
        assert_eq!(calls, 0);
        assert_eq!(trial.files().len(), 2);

        fs::write(trial.archive(), tgz(&[file("x/2.jpg", b"2")])).unwrap();
        assert!(matches!(trial.unpack(&Limits::default()), Err(Error::Exists { .. })));
        fs::remove_file(trial.photos().join(".complete")).unwrap();
        assert!(matches!(trial.unpack(&Limits::default()), Err(Error::Exists { .. })));
        assert_eq!(trial.files().len(), 2);
    }

    #[test]
    fn the_leftovers_of_a_killed_process_are_removed() {
        let trial = Trial::new(&tgz(&[file("x/1.jpg", b"whole"), file("y/1.jpg", b"whole")]));
        let partial = trial.0.path().join(".photos.partial/x");
        fs::create_dir_all(&partial).unwrap();
        fs::write(partial.join("1.jpg"), "ha").unwrap();
        fs::write(trial.0.path().join(".photos.lock"), "").unwrap();
        trial.unpack(&Limits::default()).unwrap();
        assert_eq!(
            trial.files(),
            [
                ("photos/x/1.jpg".to_owned(), "whole".to_owned()),
                ("photos/y/1.jpg".to_owned(), "whole".to_owned())
            ]
        );
    }

    #[test]
    fn two_at_once_end_with_one_result() {
        let entries: Vec<_> = (0..200).map(|k| file(&format!("x/{k}.jpg"), &[b'x'; 999])).collect();
        let trial = Trial::new(&tgz(&entries));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| trial.unpack(&Limits::default()))).collect();
            for worker in workers {
                worker.join().unwrap().unwrap();
            }
        });
        assert_eq!(trial.files().len(), 200);
    }

    #[test]
    fn progress_ends_at_the_size_of_the_archive() {
        let trial = Trial::new(&tgz(&[file("x/1.jpg", b"1"), file("x/2.jpg", b"2")]));
        let mut last = (0, 0);
        unpack(&trial.archive(), &trial.photos(), &Limits::default(), &mut |read, total| {
            assert!(read >= last.0 && read <= total);
            last = (read, total);
        })
        .unwrap();
        assert_eq!(last.0, last.1);
        assert_eq!(last.1, fs::metadata(trial.archive()).unwrap().len());
    }
}
