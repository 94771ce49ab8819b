//! The list of files that a whole copy has, with their sizes: a copy that was cut in half is told from a whole one.
//!
//! One line a file, `SIZE PATH` with `/` between folders, sorted; the last line, `N files`, shows that the list itself is
//! whole. It is written after all it lists.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::Cause;

/// The name of the list in the folder it describes.
pub const FILE: &str = "manifest.txt";

/// Lists all that is in `folder` and writes the list there.
///
/// # Errors
/// When the folder cannot be read or the list not be written.
pub fn write(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    list(folder, "", &mut files)?;
    files.retain(|(name, _)| name != FILE);
    files.sort();
    let mut text: String = files.iter().map(|(name, size)| format!("{size} {name}\n")).collect();
    text += &format!("{} files\n", files.len());
    fs::write(folder.join(FILE), text)
}

/// Whether all files that `folder` should have are there, in their sizes.
///
/// # Errors
/// [`Cause::Missing`] or [`Cause::Size`] for the first that is not, [`Cause::Manifest`] when there is no list.
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

/// All files below `folder`, their names beginning with `prefix`.
fn list(folder: &Path, prefix: &str, files: &mut Vec<(String, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        // Follows links: what counts is what the linker will see.
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
    fn a_whole_folder_passes() {
        let folder = folder();
        assert_eq!(fs::read_to_string(folder.path().join(FILE)).unwrap(), "3 b c.h\n10 lib/a.so\n2 files\n");
        assert_eq!(check(folder.path()), Ok(()));
        // What came later is no harm, and a list does not list itself.
        fs::write(folder.path().join("more"), "").unwrap();
        assert_eq!(check(folder.path()), Ok(()));
        write(folder.path()).unwrap();
        assert!(!fs::read_to_string(folder.path().join(FILE)).unwrap().contains(FILE));
    }

    #[test]
    fn a_file_that_is_gone_or_cut_is_named() {
        let folder = folder();
        fs::write(folder.path().join("lib/a.so"), [0; 5]).unwrap();
        let cut = Cause::Size { file: "lib/a.so".into(), expected: 10, found: 5 };
        assert_eq!(check(folder.path()), Err(cut));
        fs::remove_file(folder.path().join("lib/a.so")).unwrap();
        assert_eq!(check(folder.path()), Err(Cause::Missing("lib/a.so".into())));
    }

    #[test]
    fn a_list_that_is_cut_or_gone_is_no_list() {
        let folder = folder();
        let whole = fs::read_to_string(folder.path().join(FILE)).unwrap();
        for length in 0..whole.len() - 1 {
            fs::write(folder.path().join(FILE), &whole[..length]).unwrap();
            assert_eq!(check(folder.path()), Err(Cause::Manifest), "{length} bytes");
        }
        fs::remove_file(folder.path().join(FILE)).unwrap();
        assert_eq!(check(folder.path()), Err(Cause::Manifest));
    }
}
