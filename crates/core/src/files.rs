//! Atomic writing of files: a reader never sees a partly written file, even after a crash or a
//! power failure. And reading of small files.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Replaces `path` atomically by a file with the content that `write` writes. On an error, the old
/// file is unchanged.
///
/// The content is written to a temporary file `.NAME.tmp-PID-…` in the same folder and synced; the
/// file is renamed to `path`, and the folder is synced. If `write` fails, the temporary file is
/// removed. Only a killed process leaves a temporary file, which its name identifies.
///
/// # Errors
/// [`Error::Io`] with `path`, not with the temporary file.
pub fn write_atomically(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    replace(path, write).map_err(Error::io("write", path))
}

fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = folder_of(path);
    // The name of `path` may have the maximum length of the file system, and the temporary name is
    // longer.
    let name: String = name.to_string_lossy().chars().take(NAME_PREFIX_CHARS).collect();
    let prefix = temporary_prefix(&name);

    // `make_in` instead of `tempfile`: by default the library creates files that only their owner
    // can read, and the rename would keep these permissions.
    let mut temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .make_in(&folder, |path| File::options().write(true).create_new(true).open(path))?;
    write(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|failure| failure.error)?;

    sync_folder(&folder)
}

/// Returns how the name of a temporary file for the file `name` starts: `.NAME.tmp-PID-`.
pub fn temporary_prefix(name: &str) -> String {
    format!(".{name}.tmp-{}-", std::process::id())
}

/// Whether a file has the name of a temporary file: `.NAME.tmp-PID-…`.
pub fn is_temporary(file: &OsStr) -> bool {
    let name = file.to_string_lossy();
    let process = name.split_once(".tmp-").and_then(|(_, end)| end.split_once('-'));
    name.starts_with('.') && process.is_some_and(|(process, _)| process.parse::<u32>().is_ok())
}

/// Removes the temporary files that killed processes have left in a folder. No other process may be
/// writing there.
///
/// # Errors
/// [`Error::Io`] with the file, or with the folder if it cannot be read.
pub fn remove_temporary(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        if is_temporary(&entry.file_name()) {
            fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// Creates a folder and its missing parents, and syncs them, so that they survive a power failure.
///
/// # Errors
/// [`Error::Io`] with `path`.
pub fn create_folders(path: impl AsRef<Path>) -> Result<()> {
    fn create(path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = folder_of(path);
        create(&parent)?;
        match fs::create_dir(path) {
            Err(_) if path.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(io::Error::new(error.kind(), "there is a file with this name"));
            }
            result => result?,
        }
        sync_folder(&parent)
    }
    let path = path.as_ref();
    create(path).map_err(Error::io("create", path))
}

/// Syncs the entries of a folder to the disk (on Unix, the folder is synced like a file). On
/// Windows it does nothing: folders cannot be opened as files there, and need no sync.
///
/// # Errors
/// Those of the operating system.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Whether `path`, which need not exist, is `folder` or is inside it, also through links.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read.
pub fn is_within(path: &Path, folder: &Path) -> Result<bool> {
    let folder = fs::canonicalize(folder).map_err(Error::io("read", folder))?;
    let absolute = std::path::absolute(path).map_err(Error::io("find", path))?;
    let existing = absolute.ancestors().find_map(|path| fs::canonicalize(path).ok());
    Ok(existing.is_some_and(|path| path.starts_with(folder)))
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The name of a temporary file contains at most this number of characters of the file's name.
const NAME_PREFIX_CHARS: usize = 40;

/// Opens a file for reading. Returns it with its length in bytes. Pipes and devices are refused,
/// since opening or reading one may block forever.
///
/// # Errors
/// Those of the operating system, and [`io::ErrorKind::InvalidInput`] when `path` is not a regular
/// file.
pub fn open(path: impl AsRef<Path>) -> io::Result<(File, u64)> {
    let path = path.as_ref();
    let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    match fs::metadata(path)? {
        found if found.is_dir() => refuse("it is a folder, not a file"),
        found if !found.is_file() => refuse("it is a pipe or a device, not a file"),
        _ => {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        }
    }
}

/// Reads some bytes from `offset` on and returns their number. Threads can read from one file in
/// this way, since it does not use the position of the file (on Windows it moves it).
///
/// # Errors
/// Those of the operating system.
pub fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_at(file, into, offset);
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_read(file, into, offset);
}

/// Fills `into` with the bytes from `offset` on, as [`read_at`].
///
/// # Errors
/// Those of the operating system, and [`io::ErrorKind::UnexpectedEof`] when the file ends before.
pub fn read_exact_at(file: &File, mut into: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !into.is_empty() {
        match read_at(file, into, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => (into, offset) = (&mut into[bytes..], offset + bytes as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a small text file.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, is not a regular file, has more than `max_bytes` bytes, or
/// is not UTF-8.
pub fn read_text(path: impl AsRef<Path>, max_bytes: u64) -> Result<String> {
    let path = path.as_ref();
    let read = || {
        let (file, length) = open(path)?;
        let too_long = || {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it has more than {max_bytes} bytes"),
            )
        };
        if length > max_bytes {
            return Err(too_long());
        }
        let mut text = String::new();
        file.take(max_bytes + 1).read_to_string(&mut text)?;
        if text.len() as u64 > max_bytes { Err(too_long()) } else { Ok(text) }
    };
    read().map_err(Error::io("read", path))
}

/// Passes the little-endian bytes of `values` to `sink`, block by block.
///
/// # Errors
/// The first error of `sink`.
pub fn each_block<E>(
    values: &[f32],
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    const BLOCK: usize = 1 << 16;
    values.chunks(BLOCK).try_for_each(|block| {
        if cfg!(target_endian = "little") {
            sink(bytemuck::cast_slice(block))
        } else {
            sink(&block.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn bytes_at_an_offset_are_read_or_the_file_is_too_short() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut three = [0; 3];
        read_exact_at(&file, &mut three, 7).unwrap();
        assert_eq!(&three, b"789");
        let error = read_exact_at(&file, &mut three, 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_write_replaces_the_file_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for text in ["first and long", "second"] {
            write_atomically(&path, |file| file.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(entries(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_removes_the_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half of the n")?;
            assert_eq!(fs::read_to_string(&path)?, "old");
            let during = entries(folder.path());
            assert!(
                during[0].starts_with(&format!(".a.txt.tmp-{}-", std::process::id())),
                "{during:?}"
            );
            assert!(is_temporary(during[0].as_ref()));
            Err(io::Error::other("the disk is full"))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}: the disk is full", path.display()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(entries(folder.path()), ["a.txt"]);
    }

    #[test]
    fn only_temporary_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let others = [".lock", ".notes.tmp-old", "a.txt", "a.txt.tmp-12-x"];
        for name in others.into_iter().chain([".args.toml.tmp-28464-rxXoFr", ".a.tmp-1-x"]) {
            fs::write(folder.path().join(name), "half").unwrap();
        }
        remove_temporary(folder.path()).unwrap();
        assert_eq!(entries(folder.path()), others);
    }

    #[cfg(unix)]
    #[test]
    fn a_path_is_within_a_folder_also_through_links() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        create_folders(at("images/roses")).unwrap();
        create_folders(at("images2")).unwrap();
        std::os::unix::fs::symlink(at("images"), at("link")).unwrap();
        for inside in ["images", "images/new/er", "link", "link/roses/new", "images2/../images/x"] {
            assert!(is_within(&at(inside), &at("images")).unwrap(), "{inside}");
            assert!(is_within(&at(inside), &at("link")).unwrap(), "{inside}");
        }
        for outside in ["images2", "new", "images/../new", ""] {
            assert!(!is_within(&at(outside), &at("images")).unwrap(), "{outside}");
        }
        assert!(is_within(&at("images"), &at("none")).is_err());
    }

    #[test]
    fn folders_are_created_with_their_parents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").join("b");
        for _ in 0..2 {
            create_folders(&path).unwrap();
            assert!(path.is_dir());
        }
        fs::write(path.join("file"), "").unwrap();
        let error = create_folders(path.join("file")).unwrap_err().to_string();
        assert!(error.ends_with("file: there is a file with this name"), "{error}");
        let below = path.join("file").join("c");
        let error = create_folders(&below).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot create {}: ", below.display())), "{error}");
    }

    #[test]
    fn a_name_may_have_the_maximum_length() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x".repeat(255), "é".repeat(127)] {
            let path = folder.path().join(name);
            write_atomically(&path, |file| file.write_all(b"text")).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"text");
        }
    }

    #[test]
    fn only_small_regular_files_are_read_as_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "four").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "four");
        let message = |path: &Path| read_text(path, 3).unwrap_err().to_string();
        assert!(message(&path).ends_with("it has more than 3 bytes"), "{}", message(&path));
        assert!(
            message(folder.path()).ends_with("it is a folder, not a file"),
            "{}",
            message(folder.path())
        );
        #[cfg(unix)]
        assert!(message(Path::new("/dev/zero")).ends_with("a pipe or a device, not a file"));
    }

    #[test]
    fn errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        for path in
            [folder.path().join("missing").join("a.txt"), folder.path().to_owned(), "..".into()]
        {
            let error = write_atomically(&path, |_| Ok(())).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot write {}: ", path.display())), "{error}");
            assert!(!error.contains("tmp-"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [plain, atomic] = ["plain", "atomic"].map(|name| folder.path().join(name));
        fs::write(&plain, "").unwrap();
        write_atomically(&atomic, |_| Ok(())).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&plain), mode(&atomic));
    }
}
