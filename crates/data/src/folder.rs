//! A folder of class folders, read as `torchvision.datasets.ImageFolder` reads it.
//!
//! Three deliberate differences: hidden files and folders (`.DS_Store`, `._daisy.jpg`, `.ipynb_checkpoints`)
//! are skipped, `.gif` is recognised as well, and a single class is an error, for there is nothing to learn
//! from it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use walkdir::WalkDir;

use crate::split::Item;
use crate::{Error, Result};

/// What makes a file a photo, whatever the case: torchvision's `IMG_EXTENSIONS`, and GIF.
pub const EXTENSIONS: [&str; 10] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif"];

/// The classes of a folder and its photos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The names of the sub-folders, sorted by bytes.
    pub classes: Vec<String>,
    /// By class, then by folder, then by name: torchvision's order. Paths are relative to the folder.
    pub items: Vec<Item>,
}

/// Reads the names below `root`; no photo is opened.
///
/// Sub-folders of a class belong to it, symbolic links are followed.
///
/// # Errors
/// [`Error::Dataset`] without at least two classes, with an empty class, with a name that is not UTF-8 and
/// with links that form a loop; [`Error::Io`] when a folder cannot be read.
pub fn scan(root: &Path) -> Result<Folder> {
    let folder = scan_sparse(root)?;
    let Folder { classes, items } = &folder;
    let filled: BTreeSet<usize> = items.iter().map(|item| item.class).collect();
    let empty: Vec<&str> = (0..classes.len())
        .filter(|class| !filled.contains(class))
        .map(|class| classes[class].as_str())
        .collect();
    if !empty.is_empty() {
        let reason = format!(
            "there is no photo in the class folder {}; photos end in .{}",
            empty.join(", "),
            EXTENSIONS.join(", .")
        );
        return Err(refuse(root, reason));
    }
    Ok(folder)
}

/// As [`scan`], but class folders may be empty: of a class of few photos none may validate.
///
/// # Errors
/// As [`scan`].
pub fn scan_sparse(root: &Path) -> Result<Folder> {
    let classes = subfolders(root)?;
    match &classes[..] {
        [] => {
            return Err(refuse(
                root,
                "it has no class folder; each class needs a folder of its photos".into(),
            ));
        }
        [only] => {
            let reason = format!("it has one class, `{only}`; at least two are needed, a folder each");
            return Err(refuse(root, reason));
        }
        _ => {}
    }
    let mut items = Vec::new();
    for (class, name) in classes.iter().enumerate() {
        items.extend(photos(root, name)?.into_iter().map(|path| Item { path, class }));
    }
    Ok(Folder { classes, items })
}

/// The names of the sub-folders that are not hidden, sorted by bytes; links to folders count.
///
/// # Errors
/// [`Error::Io`]; [`Error::Dataset`] for a name that is not UTF-8.
pub fn subfolders(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).map_err(Error::io("read", root))? {
        let path = entry.map_err(Error::io("read", root))?.path();
        if is_hidden(&path) || !path.is_dir() {
            continue;
        }
        names.push(relative(root, &path)?);
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether the name ends as a photo's does and is not hidden.
pub fn is_photo(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    !is_hidden(path) && EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// The files in a class folder that [`scan`] does not take for photos, hidden ones excepted: paths relative to `root`, by
/// folder, then by name. `class` is the class folder's path relative to `root`.
///
/// # Errors
/// As [`scan`].
pub fn not_photos(root: &Path, class: &str) -> Result<Vec<String>> {
    files(root, class, |path| !is_hidden(path) && !is_photo(path))
}

/// The photos below one class folder, relative to `root`, by folder, then by name.
fn photos(root: &Path, class: &str) -> Result<Vec<String>> {
    files(root, class, is_photo)
}

fn files(root: &Path, class: &str, wanted: impl Fn(&Path) -> bool) -> Result<Vec<String>> {
    let folder = root.join(class);
    let entries = WalkDir::new(&folder)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.path()));
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| walk_error(&folder, error))?;
        if entry.file_type().is_file() && wanted(entry.path()) {
            paths.push(relative(root, entry.path())?);
        }
    }
    paths.sort_unstable_by(|a, b| by_folder(a).cmp(&by_folder(b)));
    Ok(paths)
}

/// What torchvision sorts the photos of a class by: the folder, then the name. A path always holds a `/`, for it begins with
/// the class.
pub fn by_folder(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once('/')
}

/// The path below `root`, with `/` between the parts on every system.
fn relative(root: &Path, path: &Path) -> Result<String> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
    parts
        .map(|parts| parts.join("/"))
        .ok_or_else(|| refuse(root, format!("the name `{}` is not UTF-8; rename it", below.display())))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn walk_error(folder: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(folder).to_owned();
    if let Some(ancestor) = error.loop_ancestor() {
        let reason = format!("the link {} leads back to {}", path.display(), ancestor.display());
        return refuse(folder, reason);
    }
    match error.into_io_error() {
        Some(source) => Error::Io { action: "read", path, source },
        None => refuse(folder, format!("{} cannot be read", path.display())),
    }
}

fn refuse(path: &Path, reason: String) -> Error {
    Error::Dataset { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes empty files; a path that ends in `/` is a folder.
    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let path_here = root.path().join(path);
            if path.ends_with('/') {
                fs::create_dir_all(path_here).unwrap();
                continue;
            }
            fs::create_dir_all(path_here.parent().unwrap()).unwrap();
            fs::write(path_here, "").unwrap();
        }
        root
    }

    fn paths(folder: &Folder) -> Vec<&str> {
        folder.items.iter().map(|item| item.path.as_str()).collect()
    }

    /// The order is what torchvision 0.28 answers for this tree:
    /// `[os.path.relpath(p, root) for p, _ in torchvision.datasets.ImageFolder(root).samples]`.
    #[test]
    fn the_order_is_torchvisions() {
        let root = tree(&[
            "b/2.jpg",
            "b/10.JPG",
            "b/Z.png",
            "b/a/1.jpg",
            "b/a.jpg",
            "b/z/1.jpeg",
            "b/a-b/1.webp",
            "B/1.bmp",
            "é/1.tif",
            "z/1.TIFF",
            "LICENSE.txt",
            "b/notes.txt",
            "b/noextension",
        ]);
        let folder = scan(root.path()).unwrap();
        assert_eq!(folder.classes, ["B", "b", "z", "é"]);
        assert_eq!(
            paths(&folder),
            [
                "B/1.bmp",
                "b/10.JPG",
                "b/2.jpg",
                "b/Z.png",
                "b/a.jpg",
                "b/a/1.jpg",
                "b/a-b/1.webp",
                "b/z/1.jpeg",
                "z/1.TIFF",
                "é/1.tif",
            ]
        );
        assert_eq!(folder.items[3], Item { path: "b/Z.png".into(), class: 1 });
    }

    #[test]
    fn hidden_names_are_skipped() {
        let root =
            tree(&["a/1.jpg", "a/.2.jpg", "a/.thumbnails/3.jpg", "b/1.gif", ".git/x.png", "b/dir.jpg/"]);
        assert_eq!(paths(&scan(root.path()).unwrap()), ["a/1.jpg", "b/1.gif"]);
    }

    #[test]
    fn what_is_not_taken_is_listed() {
        let root =
            tree(&["a/1.jpg", "a/x/2.jfif", "a/Thumbs.db", "a/.hidden", "a/.x/3.txt", "b/1.gif", "b/1"]);
        assert_eq!(not_photos(root.path(), "a").unwrap(), ["a/Thumbs.db", "a/x/2.jfif"]);
        assert_eq!(not_photos(root.path(), "b").unwrap(), ["b/1"]);
    }

    #[test]
    fn a_hidden_root_is_fine() {
        let root = tree(&[".photos/a/1.jpg", ".photos/b/1.jpg"]);
        assert_eq!(scan(&root.path().join(".photos")).unwrap().items.len(), 2);
    }

    #[test]
    fn refusals_name_the_cause() {
        for (files, cause) in [
            (vec!["1.jpg"], "no class folder"),
            (vec!["a/1.jpg"], "one class, `a`"),
            (vec!["a/1.jpg", "b/", "c/1.txt"], "class folder b, c;"),
        ] {
            let root = tree(&files);
            let message = scan(root.path()).unwrap_err().to_string();
            assert!(message.contains(cause), "{message}");
            assert!(message.contains(root.path().to_str().unwrap()), "{message}");
        }
        assert!(matches!(scan(Path::new("no/such/folder")), Err(Error::Io { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_a_loop_is_an_error() {
        use std::os::unix::fs::symlink;
        let elsewhere = tree(&["1.jpg"]);
        let root = tree(&["a/1.jpg", "b/1.jpg"]);
        symlink(elsewhere.path(), root.path().join("c")).unwrap();
        symlink(elsewhere.path(), root.path().join("b/more")).unwrap();
        let folder = scan(root.path()).unwrap();
        assert_eq!(paths(&folder), ["a/1.jpg", "b/1.jpg", "b/more/1.jpg", "c/1.jpg"]);

        symlink(root.path(), root.path().join("b/up")).unwrap();
        let message = scan(root.path()).unwrap_err().to_string();
        assert!(message.contains("leads back"), "{message}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_not_utf8_is_an_error() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        for name in [&b"a/\xff.jpg"[..], b"\xff/1.jpg"] {
            let root = tree(&["a/1.jpg", "b/1.jpg"]);
            let path = root.path().join(OsStr::from_bytes(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
            let message = scan(root.path()).unwrap_err().to_string();
            assert!(message.contains("not UTF-8"), "{message}");
        }
    }
}
