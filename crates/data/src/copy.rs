//! Copies a split data set into the folders `train/`, `val/` and `test/`.

use std::{fs, path::Path};

use crate::{
    Error, Result, atomic_folder,
    dataset::{Dataset, Item, below_subset, subsets::Subset},
};

/// Progress of [`Dataset::copy_to`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyProgress<'a> {
    /// The class that is being copied.
    pub class: &'a str,
    /// Number of images of the class copied so far.
    pub done: usize,
    /// Number of images of the class.
    pub total: usize,
}

impl Dataset {
    /// Copies the images to `out/train/<class>/` and `out/val/<class>/`, as the tutorial's
    /// `split_data.py` does, and test images to `out/test/<class>/`. File names and sub-folders of
    /// classes are preserved. `out` is created after all images are copied, so it is never
    /// incomplete.
    ///
    /// # Errors
    /// [`Error::AmongImages`] if `out` is inside the data set; [`Error::Exists`] if it exists and is
    /// not empty; [`Error::Io`].
    pub fn copy_to(&self, out: &Path, progress: &mut dyn FnMut(&CopyProgress)) -> Result<()> {
        self.images.check_outside(out)?;
        let in_subsets = self.in_subsets();
        let mut subsets = vec![(Subset::Train, &self.train), (Subset::Val, &self.val)];
        subsets.extend((!self.test.is_empty()).then_some((Subset::Test, &self.test)));
        atomic_folder::create(out, None, |partial| {
            for (class, name) in self.classes.iter().enumerate() {
                // Create the folder of a class in each subset, even if the class has no validation
                // image.
                for (subset, _) in &subsets {
                    let folder = partial.join(subset.folder()).join(name);
                    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
                }
                let of_class = |item: &&Item| self.images.class(**item) == class;
                let total =
                    subsets.iter().map(|(_, items)| items.iter().filter(of_class).count()).sum();
                let items = subsets.iter().flat_map(|(subset, items)| {
                    items.iter().filter(of_class).map(move |item| (subset, item))
                });
                for (done, (subset, item)) in items.enumerate() {
                    let path = self.images.path(*item);
                    let to = partial.join(subset.folder()).join(below_subset(&path, in_subsets));
                    self.copy(*item, &to)?;
                    progress(&CopyProgress { class: name, done: done + 1, total });
                }
            }
            Ok(())
        })
    }

    /// Copies an image; from shards, as an image file.
    fn copy(&self, item: Item, to: &Path) -> Result<()> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        if self.images.shards().is_some() {
            let (bytes, _memory) = self.images.read(item)?;
            return fs::write(to, bytes).map_err(Error::io("write", to));
        }
        let from = self.images.file(item);
        fs::copy(&from, to).map_err(Error::io("copy", from))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{images, open, paths, tree};

    #[test]
    fn a_copy_opens_as_the_same_split() {
        let root = tree(images("a", 10).chain(images("b", 20)).chain(["b/sub/000.jpg".to_owned()]));
        let dataset = open(root.path()).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("copy");
        let mut seen = Vec::new();
        dataset
            .copy_to(&out, &mut |progress| {
                if progress.done == progress.total {
                    seen.push((progress.class.to_owned(), progress.total));
                }
            })
            .unwrap();
        assert_eq!(seen, [("a".to_owned(), 10), ("b".to_owned(), 21)]);

        let copied = open(&out).unwrap();
        for (subset, before, after) in
            [("train/", &dataset.train, &copied.train), ("val/", &dataset.val, &copied.val)]
        {
            let after = paths(&copied.images, after);
            let stripped: Vec<&str> =
                after.iter().map(|path| path.strip_prefix(subset).unwrap()).collect();
            assert_eq!(stripped, paths(&dataset.images, before));
        }
        let sub = if out.join("val/b/sub/000.jpg").exists() { "val" } else { "train" };
        assert_eq!(
            fs::read_to_string(out.join(sub).join("b/sub/000.jpg")).unwrap(),
            "b/sub/000.jpg"
        );

        // A copy of the copy has the same paths, not train/train.
        let again = parent.path().join("again");
        copied.copy_to(&again, &mut |_| {}).unwrap();
        let again = open(&again).unwrap();
        assert_eq!(paths(&again.images, &again.val), paths(&copied.images, &copied.val));
    }

    #[test]
    fn copies_overwrite_nothing() {
        let root = tree(images("a", 10).chain(images("b", 10)));
        let dataset = open(root.path()).unwrap();
        let out = tree(["mine.txt"]);
        let error = dataset.copy_to(out.path(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        let error =
            dataset.copy_to(&root.path().join("copy"), &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("because the images are in "), "{error}");

        let empty = tempfile::tempdir().unwrap();
        dataset.copy_to(empty.path(), &mut |_| {}).unwrap();
        assert_eq!(open(empty.path()).unwrap().val.len(), 2);
    }

    /// An image that cannot be copied leaves no incomplete data set.
    #[test]
    fn a_failed_copy_leaves_nothing() {
        let root = tree(images("a", 10).chain(images("b", 10)));
        let dataset = open(root.path()).unwrap();
        fs::remove_file(root.path().join("b/005.jpg")).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("copy");
        let error = dataset.copy_to(&out, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("b/005.jpg"), "{error}");
        assert!(!out.exists() && !parent.path().join(".copy.partial").exists());
    }
}
