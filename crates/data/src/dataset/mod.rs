//! A data set: labeled images with their split, and the file `split.json`. The modules below read
//! folders of the accepted layouts.

pub mod folder;
pub mod images;
pub mod listing;
mod saved;
mod shards;
pub mod subsets;

use std::{path::Path, sync::Arc};

use crc32fast::Hasher;

pub use self::{
    images::{Images, Item},
    shards::holds_shards,
};

/// A data set with its split: the content of `split.json`.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The images.
    pub images: Arc<Images>,
    /// Class names, sorted.
    pub classes: Vec<String>,
    /// Training images, by class, then by name.
    pub train: Vec<Item>,
    /// Validation images, by class, then by name.
    pub val: Vec<Item>,
    /// Test images, by class, then by name.
    pub test: Vec<Item>,
}

/// Data sets are equal if they have the same root, classes and images in each subset.
impl PartialEq for Dataset {
    fn eq(&self, other: &Self) -> bool {
        let image = |of: &Self, item: Item| (of.images.path(item), of.images.class(item));
        let same = |own: &[Item], others: &[Item]| {
            own.len() == others.len()
                && own.iter().zip(others).all(|(a, b)| image(self, *a) == image(other, *b))
        };
        self.root() == other.root()
            && self.classes == other.classes
            && same(&self.train, &other.train)
            && same(&self.val, &other.val)
            && same(&self.test, &other.test)
    }
}

/// The images of a split that another list of images lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Their number.
    pub images: usize,
    /// The path of the first one.
    pub first: String,
}

impl Dataset {
    /// The folder that paths are relative to.
    pub fn root(&self) -> &Path {
        self.images.root()
    }

    /// Returns whether the folder was already split into a training and a validation subset. The
    /// seed does not change such a split.
    pub fn comes_split(&self) -> bool {
        let [train, val] = [&self.train, &self.val]
            .map(|items| items.first().map(|item| first_folder(self.images.parts(*item).0)));
        self.in_subsets() && val.is_some() && train != val
    }

    /// Returns whether the paths start with the folder of a subset, not with that of a class.
    pub(crate) fn in_subsets(&self) -> bool {
        in_subsets(&self.images, self.all(), &self.classes)
    }

    /// Iterates over the training images, then the validation images.
    pub fn items(&self) -> impl Iterator<Item = Item> + '_ {
        self.train.iter().chain(&self.val).copied()
    }

    /// Iterates over all images: training, validation, test.
    pub fn all(&self) -> impl Iterator<Item = Item> + '_ {
        self.items().chain(self.test.iter().copied())
    }

    /// Returns the same split of other images, which have the same paths. Test images may be missing
    /// and are then left out.
    ///
    /// # Errors
    /// The training and validation images that are missing.
    pub fn with_images(self, images: Arc<Images>) -> Result<Self, Missing> {
        let mut missing: Option<Missing> = None;
        let by_path = images.by_path();
        let mut find = |items: &[Item]| -> Vec<Item> {
            items
                .iter()
                .filter_map(|item| {
                    let found = by_path.find(self.images.parts(*item));
                    if found.is_none() {
                        let first = || Missing { images: 0, first: self.images.path(*item) };
                        missing.get_or_insert_with(first).images += 1;
                    }
                    found
                })
                .collect()
        };
        let [train, val] = [&self.train, &self.val].map(|items| find(items));
        if let Some(missing) = missing {
            return Err(missing);
        }
        let find = |item: &Item| by_path.find(self.images.parts(*item));
        let test = self.test.iter().filter_map(find).collect();
        drop(by_path);
        Ok(Self { images, classes: self.classes, train, val, test })
    }

    /// Returns the CRC-32 of the classes and of the items of each subset. It does not depend on the
    /// root, so the folder may be moved.
    pub fn checksum(&self) -> String {
        let mut hasher = Hasher::new();
        let mut add = |parts: &[&str]| {
            let length: usize = parts.iter().map(|part| part.len()).sum();
            hasher.update(&(length as u64).to_le_bytes());
            parts.iter().for_each(|part| hasher.update(part.as_bytes()));
        };
        self.classes.iter().for_each(|class| add(&[class]));
        for (subset, items) in [("train", &self.train), ("val", &self.val), ("test", &self.test)] {
            for item in items {
                add(&[subset]);
                match self.images.parts(*item) {
                    ("", name) => add(&[name]),
                    (folder, name) => add(&[folder, "/", name]),
                }
                add(&[&self.images.class(*item).to_string()]);
            }
        }
        format!("{:08x}", hasher.finalize())
    }
}

/// Returns whether the paths of all items of a data set start with the folder of a subset, not with
/// that of a class. One differing path is enough: in a subset, only the images of a class with the
/// name of that subset start with their class name.
pub(crate) fn in_subsets(
    images: &Images,
    mut items: impl Iterator<Item = Item>,
    classes: &[String],
) -> bool {
    items.any(|item| first_folder(images.parts(item).0) != classes[images.class(item)])
}

/// Removes the folder of the subset from a path, so that it starts with the class.
pub(crate) fn below_subset(path: &str, in_subsets: bool) -> &str {
    path.split_once('/').filter(|_| in_subsets).map_or(path, |(_, below)| below)
}

fn first_folder(folder: &str) -> &str {
    folder.split_once('/').map_or(folder, |(first, _)| first)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let [path, class] = [dataset.val[1], dataset.train[0]]
            .map(|item| format!("{:?}", dataset.images.path(item)));
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

        let all = dataset.images.items();
        let all = all.map(|item| (dataset.images.path(item), dataset.images.class(item)));
        let (images, _) = Images::of_files("elsewhere", all).unwrap();
        let moved = dataset.clone().with_images(Arc::new(images)).unwrap();
        assert_eq!(moved.root(), Path::new("elsewhere"));
        assert_eq!(moved.checksum(), dataset.checksum());
        // The format of earlier versions, without a checksum.
        fs::write(&file, serde_json::to_vec_pretty(&dataset).unwrap()).unwrap();
        assert_eq!(Dataset::load(&file).unwrap(), dataset);
    }
}
