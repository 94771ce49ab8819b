//! The list of the files of a copy with their sizes, to detect incomplete copies.
//!
//! The list has one line per file, `SIZE PATH` with `/` between folders, and is sorted. The last
//! line, `N files`, shows that the list is complete. It is written after all files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::Cause;

/// The name of the list in the folder that it describes.
pub const FILE: &str = "manifest.txt";

/// Writes the list of all files in `folder` to this folder.
///
/// # Errors
/// When the folder cannot be read or the list cannot be written.
pub fn write(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    list(folder, "", &mut files)?;
    files.retain(|(name, _)| name != FILE);
    files.sort();
    let mut text: String = files.iter().map(|(name, size)| format!("{size} {name}\n")).collect();
    text += &format!("{} files\n", files.len());
    fs::write(folder.join(FILE), text)
}

/// Checks that all files in the list of `folder` exist and have the right size.
///
/// # Errors
/// [`Cause::Missing`] or [`Cause::Size`] for the first wrong file, [`Cause::Manifest`] when there
/// is no complete list.
pub fn check(folder: &Path) -> Result<(), Cause> {
    let text = fs::read_to_string(folder.join(FILE)).map_err(|_| Cause::Manifest)?;
    let lines: Vec<&str> = text.lines().collect();
    let (last, files) = lines.split_last().ok_or(Cause::Manifest)?;
    if *last != format!("{} files", files.len()) {
        return Err(Cause::Manifest);
    }
    for line in files {
        let (size, name) = line.split_once(' ').ok_or(Cause::Manifest)?;
        let expected: u64 = size.parse().map_err(|_| Cause::Manifest)?;
        let found = fs::metadata(folder.join(name)).map_err(|_| Cause::Missing(name.into()))?.len();
        if found != expected {
            return Err(Cause::Size { file: name.into(), expected, found });
        }
    }
    Ok(())
}

/// Adds all files in `folder` and its subfolders to `files`, with `prefix` before their names.
fn list(folder: &Path, prefix: &str, files: &mut Vec<(String, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        // Follows links, as the linker does.
        let metadata = fs::metadata(&path)?;
        if metadata.is_dir() {
            list(&path, &format!("{name}/"), files)?;
        } else {
            files.push((name, metadata.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        fs::write(folder.path().join("lib/a.so"), [0; 10]).unwrap();
        fs::write(folder.path().join("b c.h"), [0; 3]).unwrap();
        write(folder.path()).unwrap();
        folder
    }

    #[test]
    fn a_complete_folder_passes() {
        let folder = folder();
        assert_eq!(
            fs::read_to_string(folder.path().join(FILE)).unwrap(),
            "3 b c.h\n10 lib/a.so\n2 files\n"
        );
        assert_eq!(check(folder.path()), Ok(()));
        // Additional files are allowed, and the list does not contain itself.
        fs::write(folder.path().join("more"), "").unwrap();
        assert_eq!(check(folder.path()), Ok(()));
        write(folder.path()).unwrap();
        assert!(!fs::read_to_string(folder.path().join(FILE)).unwrap().contains(FILE));
    }

    #[test]
    fn a_missing_or_truncated_file_is_named() {
        let folder = folder();
        fs::write(folder.path().join("lib/a.so"), [0; 5]).unwrap();
        let truncated = Cause::Size { file: "lib/a.so".into(), expected: 10, found: 5 };
        assert_eq!(check(folder.path()), Err(truncated));
        fs::remove_file(folder.path().join("lib/a.so")).unwrap();
        assert_eq!(check(folder.path()), Err(Cause::Missing("lib/a.so".into())));
    }

    #[test]
    fn a_missing_or_truncated_list_is_an_error() {
        let folder = folder();
        let complete = fs::read_to_string(folder.path().join(FILE)).unwrap();
        for length in 0..complete.len() - 1 {
            fs::write(folder.path().join(FILE), &complete[..length]).unwrap();
            assert_eq!(check(folder.path()), Err(Cause::Manifest), "{length} bytes");
        }
        fs::remove_file(folder.path().join(FILE)).unwrap();
        assert_eq!(check(folder.path()), Err(Cause::Manifest));
    }
}
