//! A data set: labeled images with their split, and the file `split.json`. The modules below read
//! folders of the accepted layouts.

pub mod folder;
pub mod listing;
pub mod subsets;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use alexnet_core::files::write_atomically;
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// An image file with its class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Path relative to [`Dataset::root`], with `/` between the parts.
    pub path: String,
    /// Index of the class in [`Dataset::classes`].
    pub class: usize,
}

/// A data set with its split: the content of `split.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// The folder that paths are relative to.
    pub root: PathBuf,
    /// Class names, sorted.
    pub classes: Vec<String>,
    /// Training images, by class, then by name.
    pub train: Vec<Item>,
    /// Validation images, by class, then by name.
    pub val: Vec<Item>,
    /// Test images, by class, then by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<Item>,
}

/// The content of `split.json`: a data set and its checksum.
#[derive(Serialize, Deserialize)]
struct Saved<D> {
    #[serde(flatten)]
    dataset: D,
    #[serde(default)]
    crc32: Option<String>,
}

impl Dataset {
    /// Returns whether the folder was already split into a training and a validation subset. The
    /// seed does not change such a split.
    pub fn comes_split(&self) -> bool {
        let [train, val] = [&self.train, &self.val].map(|items| items.first().map(first_folder));
        self.in_subsets() && val.is_some() && train != val
    }

    /// Returns whether the paths start with the folder of a subset, not with that of a class.
    pub(crate) fn in_subsets(&self) -> bool {
        in_subsets(self.all(), &self.classes)
    }

    /// Iterates over the training images, then the validation images.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.train.iter().chain(&self.val)
    }

    /// Iterates over all images: training, validation, test.
    pub fn all(&self) -> impl Iterator<Item = &Item> {
        self.items().chain(&self.test)
    }

    /// Returns the CRC-32 of the classes and of the items of each subset. It does not depend on the
    /// root, so the folder may be moved.
    pub fn checksum(&self) -> String {
        let mut hasher = Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        self.classes.iter().for_each(|class| add(class));
        for (subset, items) in [("train", &self.train), ("val", &self.val), ("test", &self.test)] {
            for Item { path, class } in items {
                add(subset);
                add(path);
                add(&class.to_string());
            }
        }
        format!("{:08x}", hasher.finalize())
    }

    /// Writes `split.json`, with a checksum.
    ///
    /// # Errors
    /// [`Error::Core`] when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| {
            let saved = Saved { dataset: self, crc32: Some(self.checksum()) };
            let mut text = serde_json::to_vec_pretty(&saved)?;
            text.push(b'\n');
            file.write_all(&text)
        })?;
        Ok(())
    }

    /// Reads `split.json`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Dataset`] if the file is not a split, was changed after it was
    /// written, or refers to a class that it does not list. Files of earlier versions have no
    /// checksum and are not checked for changes.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read(path).map_err(Error::io("read", path))?;
        let Saved { dataset, crc32 }: Saved<Self> = serde_json::from_slice(&text)
            .map_err(|error| refuse(path, format!("it is not a valid split: {error}")))?;
        if crc32.is_some_and(|written| written != dataset.checksum()) {
            let reason = "it was changed after it was written; restore the original file".into();
            return Err(refuse(path, reason));
        }
        if let Some(item) = dataset.all().find(|item| item.class >= dataset.classes.len()) {
            return Err(refuse(
                path,
                format!("`{}` is of class {}, which is not listed", item.path, item.class),
            ));
        }
        Ok(dataset)
    }
}

/// Returns whether the paths of all items of a data set start with the folder of a subset, not with
/// that of a class. One differing path is enough: in a subset, only the images of a class with the
/// name of that subset start with their class name.
pub(crate) fn in_subsets<'a>(
    mut items: impl Iterator<Item = &'a Item>,
    classes: &[String],
) -> bool {
    items.any(|item| first_folder(item) != classes[item.class])
}

/// Removes the folder of the subset from a path, so that it starts with the class.
pub(crate) fn below_subset(path: &str, in_subsets: bool) -> &str {
    path.split_once('/').filter(|_| in_subsets).map_or(path, |(_, below)| below)
}

fn first_folder(item: &Item) -> &str {
    item.path.split_once('/').map_or("", |(first, _)| first)
}

fn refuse(path: &Path, reason: String) -> Error {
    Error::Dataset { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{images, open, refused, tree};

    #[test]
    fn a_saved_split_loads_unchanged() {
        let root = tree(images("a", 10).chain(images("b", 10)));
        let dataset = open(root.path()).unwrap();
        let file = root.path().join("split.json");
        dataset.save(&file).unwrap();
        assert_eq!(Dataset::load(&file).unwrap(), dataset);

        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, &text[..text.len() / 2]).unwrap();
        refused(Dataset::load(&file), "it is not a valid split");
        fs::write(&file, text.replace("crc32", "other").replace("\"class\": 1", "\"class\": 2"))
            .unwrap();
        refused(Dataset::load(&file), "is of class 2, which is not listed");
    }

    #[test]
    fn a_changed_split_is_refused_but_a_moved_folder_is_not() {
        let root = tree(images("a", 10).chain(images("b", 10)));
        let dataset = open(root.path()).unwrap();
        let file = root.path().join("split.json");
        dataset.save(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let (path, class) =
            (format!("{:?}", dataset.val[1].path), format!("{:?}", dataset.train[0].path));
        for (from, to) in [
            ("\"class\": 1", "\"class\": 0"),
            ("\"val\"", "\"vxl\""),
            (path.as_str(), class.as_str()),
            ("\"a\"", "\"A\""),
        ] {
            assert!(text.contains(from), "{from}");
            fs::write(&file, text.replacen(from, to, 1)).unwrap();
            assert!(Dataset::load(&file).is_err(), "{from}");
        }
        fs::write(&file, text.replacen("\"class\": 1", "\"class\": 0", 1)).unwrap();
        refused(Dataset::load(&file), "it was changed after it was written");

        let moved = Dataset { root: "elsewhere".into(), ..dataset.clone() };
        assert_eq!(moved.checksum(), dataset.checksum());
        // The format of earlier versions, without a checksum.
        fs::write(&file, serde_json::to_vec_pretty(&dataset).unwrap()).unwrap();
        assert_eq!(Dataset::load(&file).unwrap(), dataset);
    }
}
