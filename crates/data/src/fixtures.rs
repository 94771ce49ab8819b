//! Creates folders of files for the tests of this crate.

use std::{fs, path::Path, sync::Arc};

use crate::{
    Result,
    dataset::{Dataset, Images, Item},
    split::SplitOptions,
};

/// Creates files that hold their own path as text. A path that ends in `/` creates a folder.
pub fn tree(paths: impl IntoIterator<Item = impl AsRef<str>>) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for path in paths {
        let path = path.as_ref();
        let file = root.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(file).unwrap();
        } else {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, path).unwrap();
        }
    }
    root
}

/// Returns the paths of `count` images of a class.
pub fn images<'a>(class: &'a str, count: usize) -> impl Iterator<Item = String> + 'a {
    (0..count).map(move |k| format!("{class}/{k:03}.jpg"))
}

pub fn open(root: &Path) -> Result<Dataset> {
    Dataset::open(root, &SplitOptions::default())
}

pub fn paths(images: &Images, items: &[Item]) -> Vec<String> {
    items.iter().map(|item| images.path(*item)).collect()
}

/// Returns a data set of image files without a test subset: the paths and classes of its training
/// and validation images.
pub fn dataset(
    root: &Path,
    classes: &[&str],
    train: &[(&str, usize)],
    val: &[(&str, usize)],
) -> Dataset {
    let all = train.iter().chain(val).copied();
    let (images, mut train_items) = Images::of_files(root, all).unwrap();
    let val = train_items.split_off(train.len());
    let classes = classes.iter().map(|class| (*class).to_owned()).collect();
    Dataset { images: Arc::new(images), classes, train: train_items, val, test: vec![] }
}

#[track_caller]
pub fn refused(result: Result<Dataset>, cause: &str) {
    let message = result.unwrap_err().to_string();
    assert!(message.contains(cause), "expected `{cause}`: {message}");
}
