//! Unpacks untrusted `.tgz`, `.tar` and `.zip` archives. The format is detected by the content.
//!
//! Archives may contain only files and folders. Links, devices and paths that leave the folder are
//! refused. Sizes are counted while the entries are read. The unpacked folder is created
//! atomically.

mod tar;
mod unpacked;
mod zip;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

pub use self::unpacked::Limits;
use self::unpacked::{Unpacked, refuse};
use crate::{Error, Result, atomic_folder, checksum::sha256_of_file};

/// Unpacks `archive` into the folder `into` and returns `into`.
///
/// If the archive has a single top folder, `into` replaces it: `flower_photos/daisy/1.jpg` becomes
/// `INTO/daisy/1.jpg`. If `into` was already unpacked from the same archive (by size and SHA-256),
/// it is left unchanged. The hash is computed each time, which takes 0.5 s for the flower photos,
/// because the modification date is not reliable for copied files.
///
/// `progress` is called with the number of bytes of the archive read so far and the size of the
/// archive.
///
/// # Errors
/// [`Error::Archive`], with the entry and the reason; [`Error::Exists`] if `into` holds anything
/// else; [`Error::Io`].
pub fn unpack(
    archive: &Path,
    into: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PathBuf> {
    let (bytes, digest) = sha256_of_file(archive)?;
    if bytes == 0 {
        return Err(refuse(archive, "it is empty; download it again"));
    }
    let source = format!("sha256 {digest}\nbytes {bytes}\n");
    atomic_folder::create(into, Some(&source), |partial| {
        extract(archive, partial, limits, &mut |read| progress(read, bytes))?;
        lift_top_folder(partial)
    })?;
    Ok(into.to_owned())
}

/// The format of an archive.
#[derive(Clone, Copy)]
enum Format {
    Tgz,
    Tar,
    Zip,
}

/// First bytes and names of unsupported formats.
const UNSUPPORTED: [(&[u8], &str); 5] = [
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!", "RAR"),
];

impl Format {
    /// Detects the format by the first bytes.
    fn of(archive: &Path) -> Result<Self> {
        let mut start = Vec::new();
        File::open(archive)
            .and_then(|file| file.take(tar::BLOCK).read_to_end(&mut start))
            .map_err(Error::io("read", archive))?;
        if let Some((_, name)) = UNSUPPORTED.iter().find(|(magic, _)| start.starts_with(magic)) {
            return Err(refuse(
                archive,
                format!("it is a {name} archive; pack it as .tgz, .tar or .zip"),
            ));
        }
        match &start[..] {
            [0x1f, 0x8b, ..] => Ok(Self::Tgz),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Self::Zip),
            block if tar::is_header(block) => Ok(Self::Tar),
            _ => Err(refuse(
                archive,
                "it is not a .tgz, .tar or .zip archive, or its start is damaged",
            )),
        }
    }
}

/// Writes the entries to `folder`.
fn extract(
    archive: &Path,
    folder: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let format = Format::of(archive)?;
    let mut unpacked = Unpacked::new(archive, folder, limits);
    match format {
        Format::Tgz => tar::extract_compressed(&mut unpacked, progress)?,
        Format::Tar => tar::extract_plain(&mut unpacked, progress)?,
        Format::Zip => zip::extract(&mut unpacked, progress)?,
    }
    if unpacked.is_empty() {
        return Err(refuse(archive, "it holds no files"));
    }
    Ok(())
}

/// If `folder` holds a single sub-folder besides hidden files, moves the content of that sub-folder
/// one level up.
fn lift_top_folder(folder: &Path) -> Result<()> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
        entries.map(|entry| Ok(entry.map_err(Error::io("read", folder))?.path())).collect()
    };
    let visible: Vec<PathBuf> = list(folder)?
        .into_iter()
        .filter(|path| {
            path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
        })
        .collect();
    let [top] = &visible[..] else { return Ok(()) };
    if !top.is_dir() {
        return Ok(());
    }
    // Rename the sub-folder first: it may hold an entry of the same name.
    let renamed = folder.join(".top");
    fs::rename(top, &renamed).map_err(Error::io("rename", top))?;
    for path in list(&renamed)? {
        let to = folder.join(path.file_name().unwrap_or_default());
        fs::rename(&path, to).map_err(Error::io("rename", &path))?;
    }
    fs::remove_dir(&renamed).map_err(Error::io("remove", &renamed))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use ::tar::{Builder, EntryType, Header};
    use ::zip::{ZipWriter, write::SimpleFileOptions};
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// Returns a header with unchecked fields, as an attacker would write it.
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

    /// A temporary folder with an archive, which is unpacked into the folder `images` next to it.
    struct TestArchive(tempfile::TempDir);

    impl TestArchive {
        fn new(archive: &[u8]) -> Self {
            let test = Self(tempfile::tempdir().unwrap());
            fs::write(test.archive(), archive).unwrap();
            test
        }

        fn archive(&self) -> PathBuf {
            self.0.path().join("a.tgz")
        }

        fn images(&self) -> PathBuf {
            self.0.path().join("images")
        }

        fn unpack(&self, limits: &Limits) -> Result<PathBuf> {
            unpack(&self.archive(), &self.images(), limits, &mut |_, _| {})
        }

        /// Returns the names and contents of all files in the temporary folder, except the archive
        /// and the marker.
        fn files(&self) -> Vec<(String, String)> {
            let mut files: Vec<(String, String)> = walkdir::WalkDir::new(self.0.path())
                .into_iter()
                .map(|entry| entry.unwrap().into_path())
                .filter(|path| {
                    path.is_file() && *path != self.archive() && !path.ends_with(".complete")
                })
                .map(|path| {
                    let name =
                        path.strip_prefix(self.0.path()).unwrap().to_str().unwrap().to_owned();
                    (name, fs::read_to_string(path).unwrap())
                })
                .collect();
            files.sort();
            files
        }
    }

    #[track_caller]
    fn refused(archive: &[u8], limits: &Limits, cause: &str) {
        let test = TestArchive::new(archive);
        let message = test.unpack(limits).unwrap_err().to_string();
        assert!(message.contains(cause), "expected `{cause}`: {message}");
        assert!(message.contains("a.tgz was not unpacked"), "{message}");
        assert!(!test.images().exists(), "{cause}: something was unpacked");
        let left = test.files();
        assert!(left.iter().all(|(name, _)| name == ".images.lock"), "{cause}: {left:?}");
    }

    #[test]
    fn a_single_top_folder_is_removed() {
        let test = TestArchive::new(&tgz(&[
            special("top/", EntryType::Directory),
            file("top/LICENSE.txt", b"free"),
            file("./top/daisy/1.jpg", b"one"),
            file("top/top/2.jpg", b"two"),
            file("top/empty", b""),
        ]));
        assert_eq!(test.unpack(&Limits::default()).unwrap(), test.images());
        let expected =
            [("LICENSE.txt", "free"), ("daisy/1.jpg", "one"), ("empty", ""), ("top/2.jpg", "two")];
        assert_eq!(
            test.files(),
            expected.map(|(name, text)| (format!("images/{name}"), text.to_owned()))
        );
    }

    #[test]
    fn class_folders_at_the_top_are_preserved() {
        let test = TestArchive::new(&tgz(&[
            file("a/1.jpg", b"1"),
            file("b/1.jpg", b"2"),
            special("c/", EntryType::Directory),
        ]));
        test.unpack(&Limits::default()).unwrap();
        assert_eq!(test.files().len(), 2);
        assert!(test.images().join("a/1.jpg").is_file() && test.images().join("c").is_dir());
    }

    /// GNU and PAX store names above 100 bytes in different ways; `git archive` starts with a
    /// global header.
    #[test]
    fn long_names_and_global_headers_are_read() {
        let long = format!("top/{}/{}.jpg", "d".repeat(120), "f".repeat(150));
        let mut gnu = Builder::new(Vec::new());
        let mut small = Header::new_gnu();
        small.set_size(3);
        small.set_mode(0o644);
        gnu.append_data(&mut small, &long, &b"gnu"[..]).unwrap();
        let test = TestArchive::new(&gzip(&gnu.into_inner().unwrap()));
        test.unpack(&Limits::default()).unwrap();
        assert_eq!(test.files()[0].0, long.replace("top/", "images/"));

        let record = format!("path={long}\n");
        let record = format!("{} {record}", record.len() + 4);
        let mut pax = header(b"pax", EntryType::XHeader, record.len() as u64).as_bytes().to_vec();
        pax.extend(record.as_bytes());
        pax.resize(pax.len().next_multiple_of(512), 0);
        let mut global =
            header(b"pax_global_header", EntryType::XGlobalHeader, 14).as_bytes().to_vec();
        global.extend(b"14 comment=ab\n");
        global.resize(1024, 0);
        let test = TestArchive::new(&tgz(&[global, pax, file("short", b"pax")]));
        test.unpack(&Limits::default()).unwrap();
        assert_eq!(test.files(), [(long.replace("top/", "images/"), "pax".to_owned())]);
    }

    #[test]
    fn links_and_devices_are_refused() {
        for (kind, cause) in [
            (EntryType::Symlink, "`x/evil` is a symbolic link"),
            (EntryType::Link, "`x/evil` is a hard link"),
            (EntryType::Char, "`x/evil` is a device"),
            (EntryType::Block, "`x/evil` is a device"),
            (EntryType::Fifo, "`x/evil` is a pipe"),
            (EntryType::new(b'Q'), "`x/evil` is neither"),
        ] {
            refused(
                &tgz(&[file("x/1.jpg", b"1"), special("x/evil", kind)]),
                &Limits::default(),
                cause,
            );
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
        refused(
            &tgz(&[file("x/1", b"1"), file("./x//1", b"2")]),
            &Limits::default(),
            "appears twice",
        );
        let both = [special("x/1/", EntryType::Directory), file("x/1", b"2")];
        refused(&tgz(&both), &Limits::default(), "appears twice");
    }

    #[test]
    fn archive_bombs_are_refused() {
        let limits = Limits { total_bytes: 2500, file_bytes: 1000, entries: 4 };
        let kilo = |name: &str| file(name, &[b'x'; 1000]);
        TestArchive::new(&tgz(&[kilo("a"), kilo("b")])).unpack(&limits).unwrap();
        refused(&tgz(&[file("big", &[0; 1001])]), &limits, "`big` unpacks to more than 1000");
        refused(&tgz(&[kilo("a"), kilo("b"), kilo("c")]), &limits, "more than 2500 bytes");
        let many: Vec<_> = (0..5).map(|k| file(&k.to_string(), b"")).collect();
        refused(&tgz(&many), &limits, "more than 4 entries");

        // A name of 3 MiB would be read into memory before the entry is returned.
        let mut name =
            header(b"././@LongLink", EntryType::GNULongName, 3 << 20).as_bytes().to_vec();
        name.resize(512 + (3 << 20), b'n');
        refused(
            &tgz(&[name.clone(), file("x", b"1")]),
            &Limits::default(),
            "headers are too large",
        );
        refused(&tgz(&[file("x", b"1"), name]), &Limits::default(), "headers are too large");
    }

    #[test]
    fn files_that_are_not_archives_are_refused() {
        refused(b"", &Limits::default(), "is empty");
        refused(b"<html>404</html>", &Limits::default(), "not a .tgz, .tar or .zip");
        refused(b"BZh91AY&SY", &Limits::default(), "a bzip2 archive; pack it as .tgz");
        refused(&gzip(b"no tar in here"), &Limits::default(), "");
        refused(&tgz(&[]), &Limits::default(), "holds no files");
        refused(&tgz(&[special("x/", EntryType::Directory)]), &Limits::default(), "holds no files");
    }

    /// Truncated at several lengths, and with changed bytes.
    #[test]
    fn a_damaged_archive_is_refused() {
        let noise: Vec<u8> =
            (0..3000u32).map(|k| (k.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let good = tgz(&[file("x/1.jpg", &noise), file("x/2.jpg", &noise)]);
        for length in [9, 100, 1500, good.len() / 2, good.len() - 9, good.len() - 8, good.len() - 1]
        {
            refused(&good[..length], &Limits::default(), "");
        }
        for at in [700, good.len() - 5] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            refused(&bad, &Limits::default(), "");
        }
        // Truncated before compression.
        let entry = file("x/1.jpg", &noise);
        refused(&gzip(&entry[..2000]), &Limits::default(), "is truncated");
    }

    #[test]
    fn a_complete_folder_is_reused_and_another_is_not_changed() {
        let test = TestArchive::new(&tgz(&[file("x/1.jpg", b"1")]));
        test.unpack(&Limits::default()).unwrap();
        fs::write(test.images().join("mine.txt"), "mine").unwrap();
        let mut calls = 0;
        unpack(&test.archive(), &test.images(), &Limits::default(), &mut |_, _| calls += 1)
            .unwrap();
        assert_eq!(calls, 0);
        assert_eq!(test.files().len(), 2);

        fs::write(test.archive(), tgz(&[file("x/2.jpg", b"2")])).unwrap();
        assert!(matches!(test.unpack(&Limits::default()), Err(Error::Exists { .. })));
        fs::remove_file(test.images().join(".complete")).unwrap();
        assert!(matches!(test.unpack(&Limits::default()), Err(Error::Exists { .. })));
        assert_eq!(test.files().len(), 2);
    }

    #[test]
    fn the_partial_folder_of_a_killed_process_is_removed() {
        let test =
            TestArchive::new(&tgz(&[file("x/1.jpg", b"content"), file("y/1.jpg", b"content")]));
        let partial = test.0.path().join(".images.partial/x");
        fs::create_dir_all(&partial).unwrap();
        fs::write(partial.join("1.jpg"), "ha").unwrap();
        fs::write(test.0.path().join(".images.lock"), "").unwrap();
        test.unpack(&Limits::default()).unwrap();
        assert_eq!(
            test.files(),
            [
                ("images/x/1.jpg".to_owned(), "content".to_owned()),
                ("images/y/1.jpg".to_owned(), "content".to_owned())
            ]
        );
    }

    #[test]
    fn concurrent_calls_give_one_result() {
        let entries: Vec<_> = (0..200).map(|k| file(&format!("x/{k}.jpg"), &[b'x'; 999])).collect();
        let test = TestArchive::new(&tgz(&entries));
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| test.unpack(&Limits::default()))).collect();
            for worker in workers {
                worker.join().unwrap().unwrap();
            }
        });
        assert_eq!(test.files().len(), 200);
    }

    fn zip_entry(zip: &mut ZipWriter<io::Cursor<Vec<u8>>>, name: &str, content: &[u8]) {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }

    /// An archive of these files, deflated.
    fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, content) in files {
            zip_entry(&mut zip, name, content);
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn the_three_formats_unpack_to_the_same_files() {
        let plain =
            [file("top/a/1.jpg", b"one"), file("top/\u{e9}/2.jpg", &[b'2'; 2000]), vec![0; 1024]]
                .concat();
        let zip = zip(&[("top/a/1.jpg", b"one"), ("top/\u{e9}/2.jpg", &[b'2'; 2000])]);
        for archive in [gzip(&plain), plain, zip] {
            let test = TestArchive::new(&archive);
            test.unpack(&Limits::default()).unwrap();
            let expected = [("a/1.jpg", "one".to_owned()), ("\u{e9}/2.jpg", "2".repeat(2000))];
            assert_eq!(test.files(), expected.map(|(name, text)| (format!("images/{name}"), text)));
        }
    }

    /// Tapes, disks and some servers pad the last block with zeros.
    #[test]
    fn zeros_after_the_end_are_padding() {
        let content = [file("x/1.jpg", b"1"), vec![0; 1024]].concat();
        for archive in [
            [gzip(&content), vec![0; 100_000]].concat(),
            [gzip(&content[..600]), gzip(&content[600..]), vec![0; 7]].concat(),
            [content.clone(), vec![0; 9 * 512]].concat(),
        ] {
            let test = TestArchive::new(&archive);
            test.unpack(&Limits::default()).unwrap();
            assert_eq!(test.files(), [("images/1.jpg".to_owned(), "1".to_owned())]);
        }
        refused(
            &[gzip(&content), vec![0, 0], vec![7; 30]].concat(),
            &Limits::default(),
            "is damaged",
        );
    }

    /// A tar archive has no checksum of its content, but an end marker.
    #[test]
    fn a_tar_without_end_marker_is_refused() {
        let complete =
            [file("x/1.jpg", &[1; 700]), file("x/2.jpg", &[2; 700]), vec![0; 1024]].concat();
        TestArchive::new(&complete).unpack(&Limits::default()).unwrap();
        for length in [600, 512 + 1024, complete.len() - 1024, complete.len() - 512] {
            refused(&complete[..length], &Limits::default(), "is truncated");
        }
    }

    #[test]
    fn a_truncated_damaged_or_malicious_zip_is_refused() {
        let noise: Vec<u8> =
            (0..3000u32).map(|k| (k.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let complete = zip(&[("x/1.jpg", &noise), ("x/2.jpg", &noise)]);
        for length in [100, 1500, complete.len() / 2, complete.len() - 9, complete.len() - 1] {
            refused(&complete[..length], &Limits::default(), "not a complete .zip");
        }
        let mut bad = complete.clone();
        bad[1000] ^= 1;
        refused(&bad, &Limits::default(), "`x/1.jpg` cannot be unpacked");

        for (name, cause) in [
            ("../evil", "leaves its folder"),
            ("/evil", "absolute"),
            ("C:/evil", "Windows"),
            ("..\\evil", "leaves its folder"),
            ("x//1.jpg", "appears twice"),
            ("./x/1.jpg", "appears twice"),
        ] {
            refused(&zip(&[("x/1.jpg", b"1"), (name, b"2")]), &Limits::default(), cause);
        }
        let mut linked = ZipWriter::new(io::Cursor::new(Vec::new()));
        zip_entry(&mut linked, "x/1.jpg", b"1");
        linked.add_symlink("x/evil", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        refused(
            &linked.finish().unwrap().into_inner(),
            &Limits::default(),
            "`x/evil` is a symbolic link",
        );

        // The encryption flag of each header.
        let mut encrypted = zip(&[("x/1.jpg", b"1")]);
        let central = encrypted.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap();
        encrypted[6] |= 1;
        encrypted[central + 8] |= 1;
        refused(&encrypted, &Limits::default(), "is encrypted");
    }

    #[test]
    fn zip_bombs_are_refused() {
        let limits = Limits { total_bytes: 2500, file_bytes: 1000, entries: 4 };
        let kilo: &[u8] = &[b'x'; 1000];
        TestArchive::new(&zip(&[("a", kilo), ("b", kilo)])).unpack(&limits).unwrap();
        refused(&zip(&[("big", &[0; 1001])]), &limits, "`big` unpacks to more than 1000");
        refused(&zip(&[("a", kilo), ("b", kilo), ("c", kilo)]), &limits, "more than 2500 bytes");
        refused(
            &zip(&[("1", b""), ("2", b""), ("3", b""), ("4", b""), ("5", b"")]),
            &limits,
            "more than 4",
        );
        // Headers with a too small uncompressed size.
        let mut forged = zip(&[("big", &[0; 5000])]);
        let central = forged.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap();
        for at in [22, central + 24] {
            forged[at..at + 4].copy_from_slice(&10_u32.to_le_bytes());
        }
        refused(&forged, &limits, "`big`");
    }

    /// Names in an unknown code page would become wrong class names.
    #[test]
    fn names_of_an_unknown_encoding_are_refused() {
        // Replaces "q" by "ä" in code page 437.
        let bytes = zip(&[("x/q.jpg", b"1"), ("y/1.jpg", b"1")]);
        let bytes: Vec<u8> =
            bytes.iter().map(|byte| if *byte == b'q' { 0x84 } else { *byte }).collect();
        refused(&bytes, &Limits::default(), "pack the folder as .tgz, or with names in UTF-8");
        // UTF-8 names without the UTF-8 flag, as macOS writes them.
        let mut bytes = zip(&[("x/\u{e9}.jpg", b"1")]);
        let central = bytes.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap();
        bytes[7] &= !8;
        bytes[central + 9] &= !8;
        let test = TestArchive::new(&bytes);
        test.unpack(&Limits::default()).unwrap();
        assert!(test.images().join("\u{e9}.jpg").is_file());
    }

    #[test]
    fn backslashes_in_a_zip_separate_folders() {
        let test = TestArchive::new(&zip(&[
            ("top\\a\\1.jpg", b"1"),
            ("top\\b\\", b""),
            ("top\\b\\2.jpg", b"2"),
        ]));
        test.unpack(&Limits::default()).unwrap();
        assert!(test.images().join("a/1.jpg").is_file() && test.images().join("b/2.jpg").is_file());
    }

    /// Reading `/dev/zero` would never end.
    #[cfg(unix)]
    #[test]
    fn a_device_is_refused() {
        let into = tempfile::tempdir().unwrap();
        let error = unpack(
            Path::new("/dev/zero"),
            &into.path().join("x"),
            &Limits::default(),
            &mut |_, _| {},
        );
        assert!(error.unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn progress_ends_at_the_size_of_the_archive() {
        for archive in [
            tgz(&[file("x/1.jpg", b"1"), file("x/2.jpg", b"2")]),
            zip(&[("x/1", b"1"), ("x/2", b"2")]),
        ] {
            progress_ends_at_the_size_of(&archive);
        }
    }

    fn progress_ends_at_the_size_of(archive: &[u8]) {
        let test = TestArchive::new(archive);
        let mut last = (0, 0);
        unpack(&test.archive(), &test.images(), &Limits::default(), &mut |read, total| {
            assert!(read >= last.0 && read <= total);
            last = (read, total);
        })
        .unwrap();
        assert_eq!(last.0, last.1);
        assert_eq!(last.1, fs::metadata(test.archive()).unwrap().len());
    }
}
