//! Finds the images that the arguments of a command name: images, folders, patterns, standard input.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use alexnet::ImageSource;
use alexnet::core::text::shown_path;
use alexnet::data::{
    dataset::{
        Images, Item,
        folder::{self, LeftOut, Why},
        holds_shards, images,
        listing::Listing,
    },
    decode::{self, Decoded},
};
use anyhow::ensure;
use glob::{MatchOptions, Pattern, PatternError};
use walkdir::{DirEntry, WalkDir};

/// An image to classify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The file; `-` for standard input.
    pub path: PathBuf,
    /// Its path relative to the folder, or to the part of the pattern without wildcards, that names
    /// it.
    pub below: PathBuf,
    /// Where it is in shards; `None` for a file.
    pub in_shards: Option<InShards>,
}

/// An image in shards.
#[derive(Clone, Debug)]
pub struct InShards(Arc<Images>, Item);

impl PartialEq for InShards {
    fn eq(&self, Self(images, item): &Self) -> bool {
        Arc::ptr_eq(&self.0, images) && self.1 == *item
    }
}

impl Eq for InShards {}

impl Image {
    fn file(path: PathBuf, below: PathBuf) -> Self {
        Self { path, below, in_shards: None }
    }

    /// Returns the image for a classifier.
    pub fn source(&self) -> ImageSource<'static> {
        match &self.in_shards {
            None => ImageSource::Path(self.path.clone()),
            Some(InShards(images, item)) => ImageSource::Listed(Arc::clone(images), *item),
        }
    }

    /// Decodes the image.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn decode(&self, options: decode::Options) -> alexnet::data::Result<Decoded> {
        match &self.in_shards {
            None => decode::decode(&self.path, options),
            Some(InShards(images, item)) => images.decode(*item, options),
        }
    }
}

/// An input, or a part of it, for which there is no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The input.
    pub path: PathBuf,
    /// Why there is no image.
    pub reason: String,
}

/// An image, or why there is none.
pub type Found = Result<Image, Failed>;

/// Checks that results, a file or a folder, are not among the images of a folder: later commands
/// would take them for images.
///
/// # Errors
/// [`alexnet::data::Error::AmongImages`]; if a folder cannot be read.
pub fn check_outside(results: &Path, inputs: &[PathBuf]) -> alexnet::data::Result<()> {
    let mut folders = inputs.iter().filter(|input| input.is_dir());
    folders.try_for_each(|folder| images::check_outside(results, folder))
}

/// Checks that a file to be written is not the image that a command reads.
///
/// # Errors
/// If it is.
pub fn check_other(results: &Path, image: &Path) -> anyhow::Result<()> {
    let file = |path: &Path| fs::canonicalize(path).ok();
    ensure!(
        file(results).is_none_or(|results| Some(results) != file(image)),
        "`--out {}` is the image itself; choose another file",
        shown_path(results)
    );
    Ok(())
}

/// Returns the images of all inputs, in their order, with an error in the position of each input
/// without images.
pub fn find(inputs: &[PathBuf]) -> Vec<Found> {
    inputs.iter().flat_map(|input| images_of(input)).collect()
}

fn images_of(input: &Path) -> Vec<Found> {
    let fail = |reason: String| vec![Err(Failed { path: input.to_owned(), reason })];
    let pattern = input.to_str().filter(|text| is_pattern(text) && !input.exists());
    match pattern.map(matches) {
        None if input.is_dir() => match holds_shards(input) {
            Ok(true) => images_in_shards(input).unwrap_or_else(|error| fail(error.to_string())),
            // An error occurs again when the folder is read.
            _ => images_under(input, input),
        },
        None => vec![Ok(Image::file(input.to_owned(), only_names(input.file_name())))],
        Some(Err(error)) => fail(format!("the pattern is not valid: {error}")),
        Some(Ok(found)) if found.is_empty() => fail("the pattern matches no file".into()),
        Some(Ok(found)) => found,
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Returns a path without its root, prefix, `.` and `..`, so that joining it to a folder gives a
/// path inside of that folder.
fn only_names<'a, P: AsRef<Path> + ?Sized + 'a>(path: impl IntoIterator<Item = &'a P>) -> PathBuf {
    let components = path.into_iter().flat_map(|path| path.as_ref().components());
    components.filter(|component| matches!(component, Component::Normal(_))).collect()
}

/// Returns the images that a pattern matches, sorted. A matched folder gives all its images. A name
/// that is not UTF-8 is matched after invalid bytes are replaced.
fn matches(pattern: &str) -> Result<Vec<Found>, PatternError> {
    Pattern::new(pattern)?;
    let mut paths: Vec<Result<PathBuf, Failed>> = vec![Ok(PathBuf::new())];
    let mut base = PathBuf::new();
    let mut literal = true;
    let mut components = Path::new(pattern).components().peekable();
    while let Some(component) = components.next() {
        let part = component.as_os_str();
        let wanted = part.to_str().filter(|text| is_pattern(text));
        literal &= wanted.is_none();
        if literal {
            base.push(part);
        }
        let last = components.peek().is_none();
        let step = |folder: PathBuf| match wanted {
            None => vec![Ok(folder.join(part))],
            // A matched folder gives all its images, also those of its subfolders.
            Some("**") if last => vec![Ok(folder)],
            Some("**") => with_subfolders(&folder),
            Some(wanted) => entries(&folder, wanted),
        };
        paths = paths
            .into_iter()
            .flat_map(|path| match path {
                Ok(folder) => step(folder),
                Err(failed) => vec![Err(failed)],
            })
            .collect();
        paths.retain(|path| path.as_ref().map_or(true, |path| fs::symlink_metadata(path).is_ok()));
    }
    let found = paths.into_iter().flat_map(|path| match path {
        Err(failed) => vec![Err(failed)],
        Ok(path) if path.is_dir() => images_under(&path, &base),
        Ok(path) => {
            let below = only_names(path.strip_prefix(&base));
            vec![Ok(Image::file(path, below))]
        }
    });
    Ok(found.collect())
}

/// Returns the entries of a folder that match a component of a pattern. As in a shell, `*` does not
/// match hidden entries.
fn entries(folder: &Path, wanted: &str) -> Vec<Result<PathBuf, Failed>> {
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::default() };
    // Cannot fail: it is a component of a valid pattern.
    let Ok(wanted) = Pattern::new(wanted) else { return vec![] };
    if !or_current(folder).is_dir() {
        return vec![];
    }
    let walk = WalkDir::new(or_current(folder)).min_depth(1).max_depth(1).sort_by_file_name();
    walk.into_iter()
        .filter_map(|entry| match entry {
            Err(error) => Some(Err(failed(folder, &error))),
            Ok(entry) => wanted
                .matches_with(&entry.file_name().to_string_lossy(), options)
                .then(|| Ok(folder.join(entry.file_name()))),
        })
        .collect()
}

/// Returns a folder and all its subfolders that are not hidden.
fn with_subfolders(folder: &Path) -> Vec<Result<PathBuf, Failed>> {
    let walk = WalkDir::new(or_current(folder)).follow_links(true).sort_by_file_name().into_iter();
    walk.filter_entry(is_not_hidden)
        .filter_map(|entry| match entry {
            Err(error) => Some(Err(failed(folder, &error))),
            Ok(entry) if !entry.file_type().is_dir() => None,
            Ok(entry) if entry.depth() == 0 => Some(Ok(folder.to_owned())),
            Ok(entry) => Some(Ok(entry.into_path())),
        })
        .collect()
}

/// Returns the current folder for an empty path, which is how a relative pattern starts.
fn or_current(folder: &Path) -> &Path {
    if folder == Path::new("") { Path::new(".") } else { folder }
}

/// Returns all images of a folder and its subfolders that are not hidden, sorted, selected by the
/// same rules as for `train`. A folder that cannot be read gives an error among them; the number of
/// other files is printed. [`Image::below`] is relative to `base`.
fn images_under(folder: &Path, base: &Path) -> Vec<Found> {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for file in folder::walk(folder) {
        match file {
            Ok((path, None)) => {
                let below = only_names(path.strip_prefix(base));
                found.push(Ok(Image::file(path, below)));
            }
            Ok((path, Some(Why::DanglingLink))) if folder::is_image(&path) => {
                found.push(Err(Failed {
                    path,
                    reason: "the target of the link does not exist".into(),
                }));
            }
            Ok((path, Some(why))) => {
                left_out.push(LeftOut {
                    path: path.to_string_lossy().into_owned(),
                    class: None,
                    why,
                });
            }
            Err(error) => {
                found.push(Err(Failed { path: folder.to_owned(), reason: error.to_string() }))
            }
        }
    }
    if let Some(sentence) = folder::summary(&left_out) {
        note!("{}: {sentence}", shown_path(or_current(folder)));
    }
    found.sort_by(|a, b| path_of(a).cmp(path_of(b)));
    if found.is_empty() {
        found.push(Err(Failed {
            path: folder.to_owned(),
            reason: "the folder has no image".into(),
        }));
    }
    found
}

/// Returns all images of a folder of shards, in the order of the paths that they were packed from.
fn images_in_shards(folder: &Path) -> alexnet::data::Result<Vec<Found>> {
    let Listing { images, notes, .. } = Listing::read(folder)?;
    notes.iter().for_each(|note| note!("{}: {note}", shown_path(folder)));
    let image = |item: Item| {
        let in_shards = Some(InShards(Arc::clone(&images), item));
        Ok(Image { path: images.file(item), below: images.path(item).into(), in_shards })
    };
    let mut found: Vec<Found> = images.items().map(image).collect();
    found.sort_by(|a, b| path_of(a).cmp(path_of(b)));
    Ok(found)
}

fn path_of(found: &Found) -> &Path {
    match found {
        Ok(Image { path, .. }) | Err(Failed { path, .. }) => path,
    }
}

fn is_not_hidden(entry: &DirEntry) -> bool {
    entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn failed(folder: &Path, error: &walkdir::Error) -> Failed {
    Failed { path: error.path().unwrap_or(folder).to_owned(), reason: error.to_string() }
}

/// The most bytes in a file name on common file systems.
const LONGEST_NAME: usize = 255;

/// Returns [`Image::below`] with the extension .jpg, for the annotated image, and adds it to
/// `taken`. If it is already taken, a number is appended.
pub fn free_name(image: &Image, taken: &mut BTreeSet<PathBuf>) -> PathBuf {
    numbered(image.below.parent().unwrap_or(Path::new("")), image, ".jpg", taken)
}

/// Returns the name of the file of an image in `folder`, and adds it to `taken`. If it is already
/// taken, a number is inserted before its extension.
pub fn free_file_name(folder: &Path, image: &Image, taken: &mut BTreeSet<PathBuf>) -> PathBuf {
    let extension = image.path.extension().map(|extension| extension.to_string_lossy());
    let extension = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    numbered(folder, image, &extension, taken)
}

fn numbered(
    folder: &Path,
    image: &Image,
    extension: &str,
    taken: &mut BTreeSet<PathBuf>,
) -> PathBuf {
    let stem = match image.below.file_stem() {
        Some(stem) if image.path != Path::new("-") => stem.to_string_lossy().into_owned(),
        _ => "stdin".into(),
    };
    let named = |end: &str| {
        let ends = stem.char_indices().map(|(start, character)| start + character.len_utf8());
        let most = ends.take_while(|length| length + end.len() <= LONGEST_NAME).last().unwrap_or(0);
        folder.join(stem[..most].to_owned() + end)
    };
    let mut name = named(extension);
    let mut n = 1;
    while !taken.insert(name.clone()) {
        n += 1;
        name = named(&format!("-{n}{extension}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, names: &[&str]) {
        for name in names {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
    }

    #[test]
    fn an_input_without_images_gives_an_error_in_its_position() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("empty")).unwrap();
        write(folder.path(), &["b.jpg", "a.jpg", "notes.txt"]);
        let at = |name: &str| folder.path().join(name);
        let found =
            find(&[at("none.jpg"), at("*.jpg"), at("*.png"), at("empty"), at("["), "-".into()]);
        let ok = |name: &str| Ok(Image::file(at(name), name.into()));
        assert_eq!(found[0], ok("none.jpg"));
        assert_eq!(found[1..3], [ok("a.jpg"), ok("b.jpg")]);
        for (index, reason) in [(3, "matches no file"), (4, "has no image"), (5, "not valid")] {
            assert!(found[index].as_ref().unwrap_err().reason.contains(reason), "{found:?}");
        }
        assert_eq!(found[6], Ok(Image::file("-".into(), "-".into())));
    }

    /// Returns the relative paths of the images found below `root`.
    fn below(root: &Path, input: &str) -> Vec<String> {
        let found = find(&[root.join(input)]);
        found.into_iter().map(|found| found.unwrap().below.display().to_string()).collect()
    }

    #[test]
    fn paths_are_relative_to_the_input() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &["x/a/1.jpg", "x/b/c/2.jpg", "x/b/1.jpg", "x/.thumbs/3.jpg", "x/b/.4.jpg"],
        );
        let root = folder.path();
        assert_eq!(below(root, "x"), ["a/1.jpg", "b/1.jpg", "b/c/2.jpg"]);
        assert_eq!(below(root, "x/*/1.jpg"), ["a/1.jpg", "b/1.jpg"]);
        assert_eq!(below(root, "x/*"), ["a/1.jpg", "b/1.jpg", "b/c/2.jpg"]);
        assert_eq!(below(root, "x/**/?.jpg"), ["a/1.jpg", "b/1.jpg", "b/c/2.jpg"]);
        assert_eq!(below(root, "x/**"), ["a/1.jpg", "b/1.jpg", "b/c/2.jpg"]);
        assert_eq!(below(root, "*/b/[0-9].jpg"), ["x/b/1.jpg"]);
        assert_eq!(below(root, "x/*/../b/1.jpg"), ["a/b/1.jpg", "b/b/1.jpg"]);
        assert_eq!(below(root, "x/.thumbs/*"), ["3.jpg"]);
        assert_eq!(below(root, "x/b/1.jpg"), ["1.jpg"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_not_utf8_are_found() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let folder = tempfile::tempdir().unwrap();
        let name = OsStr::from_bytes(b"caf\xe9.jpg");
        fs::write(folder.path().join(name), b"").unwrap();
        write(folder.path(), &["a.jpg"]);
        for input in ["*.jpg", "*", "caf?.jpg", ""] {
            let found = find(&[folder.path().join(input)]);
            assert_eq!(
                found.last().unwrap().as_ref().unwrap().path,
                folder.path().join(name),
                "{input}"
            );
        }
        assert!(find(&[folder.path().join(name)])[0].is_ok());
    }

    #[test]
    fn annotated_images_with_the_same_name_are_numbered() {
        let mut taken = BTreeSet::new();
        let image = |path: &str, below: &str| Image::file(path.into(), below.into());
        let mut name =
            |path, below| free_name(&image(path, below), &mut taken).display().to_string();
        assert_eq!(name("x/a.png", "a.png"), "a.jpg");
        assert_eq!(name("y/a.jpg", "a.jpg"), "a-2.jpg");
        assert_eq!(name("y/b/a.jpg", "b/a.jpg"), "b/a.jpg");
        assert_eq!(name("-", "-"), "stdin.jpg");
        let mut kept = |path| {
            let image = image(path, path.rsplit('/').next().unwrap());
            free_file_name(Path::new("roses"), &image, &mut taken).display().to_string()
        };
        assert_eq!(kept("x/a.png"), "roses/a.png");
        assert_eq!(kept("y/a.png"), "roses/a-2.png");
        assert_eq!(kept("y/a"), "roses/a");
        let mut name =
            |path, below| free_name(&image(path, below), &mut taken).display().to_string();
        let long = "é".repeat(125) + "x.png";
        assert_eq!(name(&long, &long), "é".repeat(125) + "x.jpg");
        assert_eq!(name(&long, &long), "é".repeat(124) + "-2.jpg");
    }
}
