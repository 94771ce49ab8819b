//! Writing a file so that a reader, a crash or a lost power line never meets half of it.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Replaces `path` by what `write` writes, or leaves it as it was.
///
/// The content goes to `.NAME.tmp-PID-…` in the same folder, is synced, renamed over `path`, and the folder is synced. When
/// `write` fails the temporary file is removed; only a killed process leaves one behind, which its name gives away.
///
/// # Errors
/// [`Error::Io`] names `path`, never the temporary file.
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
    // A name may be as long as the file system lets it, and this one is longer.
    let name: String = name.to_string_lossy().chars().take(MOST_OF_A_NAME).collect();
    let prefix = format!(".{name}.tmp-{}-", std::process::id());

    // Created by hand: the library's own files are readable by their owner alone, and a rename would keep that.
    let mut temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .make_in(&folder, |path| File::options().write(true).create_new(true).open(path))?;
    write(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|failure| failure.error)?;

    sync_folder(&folder)
}

/// Makes a folder, and those above it that are missing, so that a lost power line does not take them back.
///
/// # Errors
/// [`Error::Io`] names `path`.
pub fn create_folders(path: impl AsRef<Path>) -> Result<()> {
    fn create(path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = folder_of(path);
        create(&parent)?;
        match fs::create_dir(path) {
            Err(_) if path.is_dir() => {}
            made => made?,
        }
        sync_folder(&parent)
    }
    let path = path.as_ref();
    create(path).map_err(Error::io("create", path))
}

/// Brings the names in a folder to the disk: to it the folder is a file of its own. Windows opens no folder as a file, and needs none
/// to.
///
/// # Errors
/// The system's.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// So many characters of a file's name are in that of its temporary file.
const MOST_OF_A_NAME: usize = 40;

/// Opens a file to read it, and gives its length. A pipe or a device is refused: to open or to read one may take for ever.
///
/// # Errors
/// Those of the system, and [`io::ErrorKind::InvalidInput`] for what is no file.
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

/// Reads a small file of text.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, is no file, has more than `most` bytes, or is not UTF-8.
pub fn read_text(path: impl AsRef<Path>, most: u64) -> Result<String> {
    let path = path.as_ref();
    let read = || {
        let (file, length) = open(path)?;
        let too_long =
            || io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes"));
        if length > most {
            return Err(too_long());
        }
        let mut text = String::new();
        file.take(most + 1).read_to_string(&mut text)?;
        if text.len() as u64 > most { Err(too_long()) } else { Ok(text) }
    };
    read().map_err(Error::io("read", path))
}

/// Hands the little-endian bytes of `values` to `sink`, a block at a time.
///
/// # Errors
/// The first of `sink`.
pub fn each_block<E>(values: &[f32], mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    const BLOCK: usize = 1 << 16;
    let mut bytes = vec![0; 4 * BLOCK.min(values.len())];
    for block in values.chunks(BLOCK) {
        for (four, value) in bytes.chunks_exact_mut(4).zip(block) {
            four.copy_from_slice(&value.to_le_bytes());
        }
        sink(&bytes[..4 * block.len()])?;
    }
    Ok(())
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
    fn a_write_replaces_the_whole_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for text in ["first and long", "second"] {
            write_atomically(&path, |file| file.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(entries(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_removes_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half of the n")?;
            assert_eq!(fs::read_to_string(&path)?, "old");
            let during = entries(folder.path());
            assert!(during[0].starts_with(&format!(".a.txt.tmp-{}-", std::process::id())), "{during:?}");
            Err(io::Error::other("the disk is full"))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}: the disk is full", path.display()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(entries(folder.path()), ["a.txt"]);
    }

    #[test]
    fn folders_are_made_with_those_above_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").join("b");
        for _ in 0..2 {
            create_folders(&path).unwrap();
            assert!(path.is_dir());
        }
        fs::write(path.join("file"), "").unwrap();
        let below = path.join("file").join("c");
        let error = create_folders(&below).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot create {}: ", below.display())), "{error}");
    }

    #[test]
    fn a_name_may_be_as_long_as_the_system_lets_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x".repeat(255), "é".repeat(127)] {
            let path = folder.path().join(name);
            write_atomically(&path, |file| file.write_all(b"text")).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"text");
        }
    }

    #[test]
    fn a_text_is_read_if_it_is_a_small_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "four").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "four");
        let said = |path: &Path| read_text(path, 3).unwrap_err().to_string();
        assert!(said(&path).ends_with("it has more than 3 bytes"), "{}", said(&path));
        assert!(said(folder.path()).ends_with("it is a folder, not a file"), "{}", said(folder.path()));
        #[cfg(unix)]
        assert!(said(Path::new("/dev/zero")).ends_with("a pipe or a device, not a file"));
    }

    #[test]
    fn an_impossible_path_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("missing").join("a.txt"), folder.path().to_owned(), "..".into()] {
            let error = write_atomically(&path, |_| Ok(())).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot write {}: ", path.display())), "{error}");
            assert!(!error.contains("tmp-"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_it_as_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [plain, atomic] = ["plain", "atomic"].map(|name| folder.path().join(name));
        fs::write(&plain, "").unwrap();
        write_atomically(&atomic, |_| Ok(())).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&plain), mode(&atomic));
    }
}
