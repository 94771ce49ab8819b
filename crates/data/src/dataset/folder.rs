//! Reads a folder of class folders as `torchvision.datasets.ImageFolder` does.
//!
//! Deliberate differences:
//!
//! - Hidden files and folders (`.DS_Store`, `._daisy.jpg`, `.ipynb_checkpoints`) and folders that
//!   systems create (`__MACOSX`) are ignored.
//! - `.gif` is accepted as well.
//! - Class folders whose names differ only in their Unicode normalization form are an error.
//! - Dangling links and links to themselves are skipped. All skipped files are listed, except
//!   hidden ones.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt::Write,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use alexnet_core::text::{escaped, shown_path};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use walkdir::WalkDir;

use super::images::{ImageList, split};
use crate::{Error, Result};

/// Extensions of images, in any case: torchvision's `IMG_EXTENSIONS` and GIF.
pub const EXTENSIONS: [&str; 10] =
    ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif"];

/// Extensions of unsupported image formats that cameras and phones write.
const UNSUPPORTED: [&str; 3] = ["heic", "heif", "avif"];

/// Folders that systems create inside user folders: resource forks in archives of macOS,
/// thumbnails, recycle bins.
const SYSTEM_FOLDERS: [&str; 4] =
    ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"];

/// Number of kinds of files that [`summary`] lists by name.
const MAX_KINDS: usize = 6;

/// A file that is skipped: not an image of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Path relative to the folder, with `/` between the parts.
    pub path: String,
    /// The name of the class folder that it is in; `None` outside of the class folders.
    pub class: Option<String>,
    /// Why it is skipped.
    pub why: Why,
}

/// Why a file is skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its extension is not one of [`EXTENSIONS`].
    #[default]
    Extension,
    /// It is a dangling link.
    DanglingLink,
    /// It is a pipe, a socket or a device.
    Special,
    /// It is an image outside of the class folders.
    NoClass,
}

/// Returns the names of the class folders in `root`, sorted by bytes. Class folders may be empty.
///
/// # Errors
/// [`Error::Dataset`] for fewer than two classes, for a name that is not UTF-8, and for two classes
/// of the same name in different Unicode normalization forms; [`Error::Io`] if the folder cannot be
/// read.
pub(crate) fn classes(root: &Path) -> Result<Vec<String>> {
    let classes = subfolders(root)?;
    match &classes[..] {
        [] => {
            let reason = match has_samples(root) {
                true => "it has the files of a shard; name the folder of the shards instead",
                false => "it has no class folder; each class needs a folder of its images",
            };
            Err(refuse(root, reason.into()))
        }
        [only] => {
            let reason =
                format!("it has one class, `{only}`; at least two are needed, one folder each");
            Err(refuse(root, reason))
        }
        _ => {
            check_unicode_forms(root, &classes)?;
            Ok(classes)
        }
    }
}

/// Whether a folder has an image with a file of its class, as an unpacked shard.
fn has_samples(root: &Path) -> bool {
    let mut files = fs::read_dir(root).into_iter().flatten().flatten().map(|file| file.path());
    files.any(|file| {
        file.extension() == Some("cls".as_ref())
            && EXTENSIONS.iter().any(|extension| file.with_extension(extension).is_file())
    })
}

/// Lists the images of the class folders in `root`; no image is opened. Each class comes with its
/// index. Images are sorted by class, folder and name, which is torchvision's order, and are added
/// to `list` with `subset` as the first folder of their paths. Returns the skipped files, except
/// hidden ones: first those outside of the class folders, then by class.
///
/// Images in sub-folders of a class folder belong to the class. Symbolic links are followed.
///
/// # Errors
/// [`Error::Dataset`] for a name that is not UTF-8, and for links that form a loop; [`Error::Io`]
/// if a folder cannot be read.
pub(crate) fn add_images(
    root: &Path,
    subset: Option<&str>,
    classes: &[(usize, &str)],
    list: &mut ImageList,
) -> Result<Vec<LeftOut>> {
    let below_subset = |path: String| match subset {
        None => path,
        Some(subset) => [subset, "/", &path].concat(),
    };
    let loose = loose_images(root)?.into_iter().map(|path| (path, Why::NoClass));
    // A link to a class folder whose target is missing has no images.
    let links = names(root, |path| path.is_symlink() && !path.exists())?;
    let links = links.into_iter().map(|path| (path, Why::DanglingLink));
    let outside = loose.chain(links);
    let mut left_out: Vec<LeftOut> =
        outside.map(|(path, why)| LeftOut { path: below_subset(path), class: None, why }).collect();
    for (class, name) in classes {
        let mut files = Vec::new();
        for file in walk(&root.join(name)) {
            let (path, why) = file?;
            files.push((relative(root, &path)?, why));
        }
        files.sort_unstable_by(|(a, _), (b, _)| by_folder(a).cmp(&by_folder(b)));
        for (path, why) in files {
            let path = below_subset(path);
            match why {
                None => {
                    let (folder, image) = split(&path);
                    list.push(root, folder, image, *class)?;
                }
                Some(why) => {
                    left_out.push(LeftOut { path, class: Some((*name).to_owned()), why });
                }
            }
        }
    }
    Ok(left_out)
}

/// Iterates over all files below a folder, except hidden ones, in no particular order. Links are
/// followed. Skipped files come with the reason, images with `None`.
///
/// # Errors
/// For each entry that cannot be read, [`Error::Io`], or [`Error::Dataset`] for links that form a
/// loop.
pub fn walk(folder: &Path) -> impl Iterator<Item = Result<(PathBuf, Option<Why>)>> {
    let entries = WalkDir::new(folder)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !is_ignored(entry.path()));
    entries.filter_map(move |entry| match entry {
        Ok(entry) if entry.file_type().is_dir() => None,
        Ok(entry) => {
            let why = match entry.file_type().is_file() {
                false => Some(Why::Special),
                true if is_image(entry.path()) => None,
                true => Some(Why::Extension),
            };
            Some(Ok((entry.into_path(), why)))
        }
        Err(error) => match dangling_link(&error) {
            Some(link) if is_ignored(link) => None,
            Some(link) => Some(Ok((link.to_owned(), Some(Why::DanglingLink)))),
            None => Some(Err(walk_error(folder, error))),
        },
    })
}

/// The system's error code for symbolic links that form a loop.
#[cfg(unix)]
const LINK_LOOP: i32 = libc::ELOOP;
/// `ERROR_CANT_RESOLVE_FILENAME`.
#[cfg(not(unix))]
const LINK_LOOP: i32 = 1921;

/// Returns the path of the link if the error is a dangling link.
fn dangling_link(error: &walkdir::Error) -> Option<&Path> {
    let path = error.path()?;
    let cause = error.io_error()?;
    let no_target = matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || cause.raw_os_error() == Some(LINK_LOOP);
    // A regular file that was removed while the folder was read gives the same error.
    (no_target && path.is_symlink()).then_some(path)
}

/// Returns one sentence that counts the skipped files and names the next step, or `None` without
/// skipped files.
pub fn summary(left_out: &[LeftOut]) -> Option<String> {
    let mut counts = BTreeMap::new();
    for file in left_out {
        *counts.entry(kind(file)).or_insert(0_usize) += 1;
    }
    let mut counts: Vec<((String, &str), usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    let others: usize = counts.iter().skip(MAX_KINDS).map(|(_, count)| count).sum();
    let describe = |((kind, plural), count): ((String, &str), usize)| match count {
        1 => format!("1 {kind}"),
        n => format!("{n} {kind}{plural}"),
    };
    let mut parts: Vec<String> = counts.into_iter().take(MAX_KINDS).map(describe).collect();
    parts.extend((others > 0).then(|| format!("{others} others")));
    let files = match left_out.len() {
        0 => return None,
        1 => "1 file was",
        n => &format!("{n} files were"),
    };
    let mut sentence = format!("{files} skipped: {}", parts.join(", "));
    if left_out.iter().any(|file| is_unsupported(Path::new(&file.path))) {
        sentence.push_str("; HEIC and AVIF are not supported: convert them to JPEG or PNG");
    }
    let is_class = |file: &&LeftOut| {
        let has_extension = Path::new(&file.path).extension().is_some();
        file.why == Why::DanglingLink && file.class.is_none() && !has_extension
    };
    if let Some(link) = left_out.iter().find(is_class) {
        let _ =
            write!(sentence, "; {} may be a class whose folder is missing", escaped(&link.path));
    }
    if left_out.iter().any(|file| file.why == Why::NoClass) {
        sentence.push_str("; move each image into the folder of its class");
    }
    Some(sentence)
}

/// Returns the kind that a file is counted as and its plural ending.
fn kind(file: &LeftOut) -> (String, &'static str) {
    let path = Path::new(&file.path);
    let name = match (file.why, path.extension().and_then(|extension| extension.to_str())) {
        (Why::DanglingLink, _) => return ("dangling link".into(), "s"),
        (Why::Special, _) => "not a regular file".into(),
        (Why::NoClass, _) => "outside of the class folders".into(),
        (Why::Extension, Some(extension)) if is_unsupported(path) => extension.to_uppercase(),
        (Why::Extension, Some(extension)) => extension.to_lowercase(),
        (Why::Extension, None) => "without an extension".into(),
    };
    (name, "")
}

/// Returns whether the extension is that of an image.
pub fn is_image(path: &Path) -> bool {
    has_extension(path, &EXTENSIONS)
}

/// Returns whether the extension is that of an unsupported image format.
pub fn is_unsupported(path: &Path) -> bool {
    has_extension(path, &UNSUPPORTED)
}

/// Returns the names of the sub-folders that are not hidden, sorted by bytes. Links to folders are
/// included.
///
/// # Errors
/// [`Error::Io`]; [`Error::Dataset`] for a name that is not UTF-8.
pub fn subfolders(root: &Path) -> Result<Vec<String>> {
    names(root, |path| path.is_dir())
}

/// Returns the sorted names of the images directly in a folder, including those of unsupported
/// formats.
///
/// # Errors
/// The same as [`subfolders`].
pub(crate) fn loose_images(root: &Path) -> Result<Vec<String>> {
    names(root, |path| (is_image(path) || is_unsupported(path)) && path.is_file())
}

fn names(root: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).map_err(Error::io("read", root))? {
        let path = entry.map_err(Error::io("read", root))?.path();
        if !is_ignored(&path) && wanted(&path) {
            names.push(relative(root, &path)?);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns the key that torchvision sorts the images of a class by: the folder, then the name.
/// `None` without a `/`, which does not occur in a data set, since each path starts with the class.
fn by_folder(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once('/')
}

/// Checks that no two classes have the same name in different Unicode normalization forms, which
/// look the same on screen.
pub(crate) fn check_unicode_forms(root: &Path, classes: &[String]) -> Result<()> {
    let mut forms: HashMap<String, &String> = HashMap::new();
    for class in classes {
        if let Some(other) = forms.insert(class.nfc().collect(), class) {
            let mut reason = format!(
                "the class folders {class} and {other} have the same name in two Unicode forms, "
            );
            let _ = write!(reason, "{} and {}", class.escape_default(), other.escape_default());
            reason.push_str("; move the images of one folder into the other");
            return Err(refuse(root, reason));
        }
    }
    Ok(())
}

/// Returns the path relative to `root`, with `/` between the parts on every system.
fn relative(root: &Path, path: &Path) -> Result<String> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
    parts.map(|parts| parts.join("/")).ok_or_else(|| {
        refuse(root, format!("the name `{}` is not UTF-8; rename it", shown_path(below)))
    })
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    extensions.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// Returns whether a file or folder is hidden or has the name of a system folder.
fn is_ignored(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        name.as_encoded_bytes().starts_with(b".")
            || SYSTEM_FOLDERS.iter().any(|known| name == *known)
    })
}

fn walk_error(folder: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(folder).to_owned();
    if let Some(ancestor) = error.loop_ancestor() {
        let reason = format!(
            "the link {} forms a loop: it points to {}",
            shown_path(&path),
            shown_path(ancestor)
        );
        return refuse(folder, reason);
    }
    match error.into_io_error() {
        Some(source) => Error::Io { action: "read", path, source },
        None => refuse(folder, format!("{} cannot be read", shown_path(&path))),
    }
}

fn refuse(path: &Path, reason: String) -> Error {
    Error::Dataset { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dataset::Images, fixtures::tree};

    #[derive(Debug)]
    struct Folder {
        classes: Vec<String>,
        images: Images,
        left_out: Vec<LeftOut>,
    }

    fn scan(root: &Path) -> Result<Folder> {
        let classes = classes(root)?;
        let numbered: Vec<(usize, &str)> = classes.iter().map(String::as_str).enumerate().collect();
        let mut list = ImageList::default();
        let left_out = add_images(root, None, &numbered, &mut list)?;
        let images = list.in_files(root.to_owned());
        Ok(Folder { classes, images, left_out })
    }

    fn paths(Folder { images, .. }: &Folder) -> Vec<String> {
        images.items().map(|item| images.path(item)).collect()
    }

    /// The expected order is that of torchvision 0.28 for this tree:
    /// `[os.path.relpath(p, root) for p, _ in torchvision.datasets.ImageFolder(root).samples]`.
    #[test]
    fn the_order_is_that_of_torchvision() {
        let root = tree([
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
        let images = &folder.images;
        let classes: Vec<usize> = images.items().map(|item| images.class(item)).collect();
        assert_eq!(classes, [0, 1, 1, 1, 1, 1, 1, 1, 2, 3]);
    }

    #[test]
    fn hidden_names_are_skipped() {
        let root = tree([
            "a/1.jpg",
            "a/.2.jpg",
            "a/.thumbnails/3.jpg",
            "b/1.gif",
            ".git/x.png",
            "b/dir.jpg/",
        ]);
        assert_eq!(paths(&scan(root.path()).unwrap()), ["a/1.jpg", "b/1.gif"]);
    }

    fn left_out(root: &Path) -> Vec<(String, Option<String>, Why)> {
        scan(root)
            .unwrap()
            .left_out
            .into_iter()
            .map(|file| (file.path, file.class, file.why))
            .collect()
    }

    #[test]
    fn skipped_files_are_listed() {
        let root = tree([
            "a/1.jpg",
            "a/x/2.jfif",
            "a/Thumbs.db",
            "a/.hidden",
            "a/.x/3.txt",
            "a/__MACOSX/._1.jpg",
            "b/1.gif",
            "b/1",
            "__MACOSX/a/._1.jpg",
            "LICENSE.txt",
            "loose.png",
        ]);
        let of = |path: &str, class: &str, why| (path.to_owned(), Some(class.to_owned()), why);
        assert_eq!(
            left_out(root.path()),
            [
                ("loose.png".to_owned(), None, Why::NoClass),
                of("a/Thumbs.db", "a", Why::Extension),
                of("a/x/2.jfif", "a", Why::Extension),
                of("b/1", "b", Why::Extension),
            ]
        );
    }

    #[test]
    fn the_summary_counts_kinds_and_names_the_next_step() {
        let of = |why, paths: &[&str]| -> Vec<LeftOut> {
            let class = |path: &str| path.split_once('/').map(|(class, _)| class.to_owned());
            let file = |path: &&str| LeftOut { path: (*path).into(), class: class(path), why };
            paths.iter().map(file).collect()
        };
        assert_eq!(summary(&[]), None);
        assert_eq!(
            summary(&of(Why::Extension, &["a/1.TXT"])).unwrap(),
            "1 file was skipped: 1 txt"
        );
        let files = [
            of(Why::Extension, &["a/1.txt", "a/2.heic", "a/3.HEIC", "a/4"]),
            of(Why::DanglingLink, &["a/5.jpg"]),
        ];
        assert_eq!(
            summary(&files.concat()).unwrap(),
            "5 files were skipped: 2 HEIC, 1 dangling link, 1 txt, 1 without an extension; \
             HEIC and AVIF are not supported: convert them to JPEG or PNG"
        );
        assert!(summary(&of(Why::NoClass, &["1.jpg"])).unwrap().contains("folder of its class"));
        let link = summary(&of(Why::DanglingLink, &["roses"])).unwrap();
        assert!(link.ends_with("; roses may be a class whose folder is missing"), "{link}");
        let many: Vec<String> = (0..9).map(|kind| format!("a/1.e{kind}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(summary(&of(Why::Extension, &many)).unwrap().ends_with("1 e5, 3 others"));
    }

    /// macOS writes `é` as two characters (NFD), other systems as one (NFC).
    #[test]
    fn classes_with_the_same_name_in_two_unicode_forms_are_refused() {
        let root = tree(["caf\u{e9}/1.jpg", "cafe\u{301}/1.jpg", "tea/1.jpg"]);
        let message = scan(root.path()).unwrap_err().to_string();
        assert!(message.contains(r"cafe\u{301}") && message.contains(r"caf\u{e9}"), "{message}");
        assert_eq!(
            scan(tree(["cafe\u{301}/1.jpg", "cafe/1.jpg"]).path()).unwrap().classes.len(),
            2
        );
    }

    #[cfg(unix)]
    #[test]
    fn dangling_links_and_sockets_are_skipped_and_listed() {
        use std::os::unix::{fs::symlink, net::UnixListener};
        let root = tree(["a/1.jpg", "b/1.jpg"]);
        symlink("user@host.1:2", root.path().join("a/.#notes.txt")).unwrap();
        symlink("nowhere", root.path().join("a/2.jpg")).unwrap();
        symlink("1.jpg/below", root.path().join("a/3.jpg")).unwrap();
        symlink("4.jpg", root.path().join("a/4.jpg")).unwrap();
        symlink("nowhere", root.path().join("c")).unwrap();
        symlink("d", root.path().join("d")).unwrap();
        let _socket = UnixListener::bind(root.path().join("b/2.jpg")).unwrap();
        let folder = scan(root.path()).unwrap();
        assert_eq!(paths(&folder), ["a/1.jpg", "b/1.jpg"]);
        let listed: Vec<_> =
            left_out(root.path()).into_iter().map(|(path, _, why)| (path, why)).collect();
        assert_eq!(
            listed,
            [
                ("c".to_owned(), Why::DanglingLink),
                ("d".to_owned(), Why::DanglingLink),
                ("a/2.jpg".to_owned(), Why::DanglingLink),
                ("a/3.jpg".to_owned(), Why::DanglingLink),
                ("a/4.jpg".to_owned(), Why::DanglingLink),
                ("b/2.jpg".to_owned(), Why::Special)
            ]
        );
    }

    /// A folder without read permission is not treated as an empty folder.
    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_read_is_an_error() {
        use std::os::unix::fs::PermissionsExt;
        let root = tree(["a/1.jpg", "a/sub/2.jpg", "b/1.jpg"]);
        let sub = root.path().join("a/sub");
        fs::set_permissions(&sub, fs::Permissions::from_mode(0o000)).unwrap();
        let unreadable = fs::read_dir(&sub).is_err();
        let scanned = scan(root.path());
        fs::set_permissions(&sub, fs::Permissions::from_mode(0o755)).unwrap();
        // For root, the folder stays readable.
        assert_eq!(scanned.is_err(), unreadable);
    }

    #[test]
    fn a_hidden_root_is_accepted() {
        let root = tree([".images/a/1.jpg", ".images/b/1.jpg"]);
        assert_eq!(scan(&root.path().join(".images")).unwrap().images.len(), 2);
    }

    #[test]
    fn errors_name_the_cause() {
        for (files, cause) in [
            (vec!["1.jpg"], "no class folder"),
            (vec!["1.cls", "1.jpg"], "the files of a shard"),
            (vec!["article.cls", "1.jpg"], "no class folder"),
            (vec!["a/1.jpg"], "one class, `a`"),
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
        let elsewhere = tree(["1.jpg"]);
        let root = tree(["a/1.jpg", "b/1.jpg"]);
        symlink(elsewhere.path(), root.path().join("c")).unwrap();
        symlink(elsewhere.path(), root.path().join("b/more")).unwrap();
        let folder = scan(root.path()).unwrap();
        assert_eq!(paths(&folder), ["a/1.jpg", "b/1.jpg", "b/more/1.jpg", "c/1.jpg"]);

        symlink(root.path(), root.path().join("b/up")).unwrap();
        let message = scan(root.path()).unwrap_err().to_string();
        assert!(message.contains("forms a loop"), "{message}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_not_utf8_is_an_error() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        for name in [&b"a/\xff.jpg"[..], b"\xff/1.jpg"] {
            let root = tree(["a/1.jpg", "b/1.jpg"]);
            let path = root.path().join(OsStr::from_bytes(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
            let message = scan(root.path()).unwrap_err().to_string();
            assert!(message.contains("not UTF-8"), "{message}");
        }
    }
}
