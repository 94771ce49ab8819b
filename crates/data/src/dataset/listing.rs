//! Lists the images of a folder of any accepted layout, before they are split.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use alexnet_core::text::shown;

use super::{
    Dataset, Images, Item, Missing,
    folder::{self, LeftOut},
    images::ImageList,
    shards::{self, InShards},
    subsets::{self, Subset, Subsets},
};
use crate::{
    Error, Result,
    split::{SplitOptions, divide},
};

/// The images of a folder, by class and, if the folder is already split, by subset.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The images.
    pub images: Arc<Images>,
    /// Class names, sorted.
    pub classes: Vec<String>,
    /// Training images. If the folder has no validation subset, the validation images are taken
    /// from these.
    pub train: Vec<Item>,
    /// Validation images, if the folder has a validation subset.
    pub val: Option<Vec<Item>>,
    /// Test images.
    pub test: Vec<Item>,
    /// The files that are skipped.
    pub left_out: Vec<LeftOut>,
    /// Notes about what was assumed and what is ignored, one sentence each.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Reads a folder and splits it: [`Listing::read`] and [`Listing::split`].
    ///
    /// # Errors
    /// See these functions.
    pub fn open(path: &Path, options: &SplitOptions) -> Result<Self> {
        Listing::read(path)?.split(options)
    }

    /// Finds the images of a split that was read from a file, if they are in shards. Image files
    /// are not looked for.
    ///
    /// # Errors
    /// Those of [`Listing::read`] for shards; [`Error::Dataset`] if the shards lack an image.
    pub fn opened(self) -> Result<Self> {
        let root = self.root().to_owned();
        if !root.is_dir() || !shards::holds_shards(&root)? {
            return Ok(self);
        }
        let images = Listing::read(&root)?.images;
        let tests = self.test.len();
        let opened = self.with_images(images).map_err(|Missing { images, first }| {
            format!("{images} images of the split are not in its shards, such as {first}")
        });
        let opened = opened.and_then(|opened| match tests - opened.test.len() {
            0 => Ok(opened),
            missing => Err(format!("{missing} test images of the split are not in its shards")),
        });
        opened.map_err(|reason| Error::Dataset { path: root, reason })
    }
}

impl Listing {
    /// Reads the names of a data set; no image is opened.
    ///
    /// `path` holds one of: subset folders with the same class folders in each (see
    /// [`subsets::find`]); class folders with images, also in their sub-folders; a single folder with
    /// one of these layouts, such as the top folder of an archive; shards (see [`crate::shards`]).
    /// Class folders may be empty.
    ///
    /// # Errors
    /// [`Error::Dataset`] for anything else; [`Error::Shards`] if shards or their index cannot be
    /// used; [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() && shards::holds_shards(path)? {
            let InShards { images, classes, train, val, test, notes } = shards::find(path)?;
            let images = Arc::new(images);
            return Ok(Self { images, classes, train, val, test, left_out: vec![], notes });
        }
        let root = top(path)?;
        let mut listing = match subsets::find(&root)? {
            Some(subsets) => Self::of_subsets(root, subsets)?,
            None => {
                let classes = folder::classes(&root)?;
                let mut list = ImageList::default();
                let left_out = folder::add_images(&root, None, &numbered(&classes), &mut list)?;
                let images = list.in_files(root);
                let train = images.items().collect();
                let images = Arc::new(images);
                Self { images, classes, train, val: None, test: vec![], left_out, notes: vec![] }
            }
        };
        listing.notes.extend(folder::summary(&listing.left_out));
        listing.notes.extend(listing.equal_subfolders());
        Ok(listing)
    }

    /// Returns a note if all images are in subfolders of the class folders, and these have the same
    /// names in each class: perhaps the subfolders are the classes, or subsets.
    fn equal_subfolders(&self) -> Option<String> {
        let class_folder = 1 + usize::from(self.val.is_some() || !self.test.is_empty());
        let mut names: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        for folder in self.images.folders() {
            let name = folder.path.split('/').skip(class_folder).last()?;
            names.entry(folder.class).or_default().insert(name);
        }
        let mut of_classes = names.values();
        let first = of_classes.next()?;
        if first.len() < 2 || names.len() < 2 || !of_classes.all(|names| names == first) {
            return None;
        }
        let classes = self.classes.iter().map(String::as_str);
        Some(format!(
            "the classes are {}, and each has the subfolders {}; if these are classes or subsets, use \
             folders named train, val and test with the class folders inside",
            first_names(classes),
            first_names(first.iter().copied())
        ))
    }

    /// The folder that paths are relative to.
    pub fn root(&self) -> &Path {
        self.images.root()
    }

    /// Iterates over all images: training, validation, test.
    pub fn items(&self) -> impl Iterator<Item = Item> + '_ {
        self.train.iter().chain(self.val.iter().flatten()).chain(&self.test).copied()
    }

    /// Splits the images into training and validation images, unless they are already split.
    ///
    /// Class folders are split as in the tutorial's `split_data.py`: of the `n` images of a class,
    /// `int(n * val_fraction)` are validation images. The choice depends only on the seed, the
    /// index of the class and `n`. With the fraction 0 there is no validation image.
    ///
    /// # Errors
    /// [`Error::Dataset`] if a class has no training image, or for a fold if the images are already
    /// split or a class has only one; [`Error::NoneValidates`] if there is no
    /// validation image although the fraction is above 0; [`Error::Invalid`] if the fraction is
    /// outside `0.0..1.0`.
    pub fn split(self, options: &SplitOptions) -> Result<Dataset> {
        let empty = self.empty_classes();
        if !empty.is_empty() {
            let reason = format!(
                "there is no image in the class folder {}; the extensions of images are .{}",
                empty.join(", "),
                folder::EXTENSIONS.join(", .")
            );
            return Err(refuse(self.root(), reason));
        }
        let dataset = self.divided(options)?;
        match dataset.val.is_empty() && options.fold.is_none() && options.val_fraction > 0.0 {
            true => {
                let path = dataset.root().to_owned();
                Err(Error::NoneValidates { path, fraction: options.val_fraction })
            }
            false => Ok(dataset),
        }
    }

    /// Splits the images like [`Listing::split`], but accepts classes without images and an empty
    /// validation subset.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the fraction is outside `0.0..1.0`; for a fold also as
    /// [`Listing::split`].
    pub fn divided(self, options: &SplitOptions) -> Result<Dataset> {
        let Self { images, classes, train, val, test, .. } = self;
        match val {
            Some(_) if options.fold.is_some() => {
                let reason =
                    "it is already split into training and validation images, so it has no \
                              folds; name the folder of its training images"
                        .into();
                Err(refuse(images.root(), reason))
            }
            Some(val) => Ok(Dataset { images, classes, train, val, test }),
            None => divide(Dataset { images, classes, train, val: vec![], test }, None, options),
        }
    }

    /// Returns the classes without training images.
    fn empty_classes(&self) -> Vec<&str> {
        let mut is_empty = vec![true; self.classes.len()];
        self.train.iter().for_each(|item| is_empty[self.images.class(*item)] = false);
        let classes = self.classes.iter().zip(is_empty).filter(|(_, is_empty)| *is_empty);
        classes.map(|(class, _)| class.as_str()).collect()
    }

    fn of_subsets(root: PathBuf, subsets: Subsets) -> Result<Self> {
        let Subsets { train, val, test, others } = subsets;
        let mut notes = vec![subsets::describe(&train, val.as_deref(), test.as_deref())];
        let folder = root.join(&train);
        let classes = folder::classes(&folder)?;
        let mut list = ImageList::default();
        let mut left_out =
            folder::add_images(&folder, Some(&train), &numbered(&classes), &mut list)?;
        let training = list.len();
        if let Some(val) = &val {
            left_out.extend(add_subset(&root, (&train, &classes), val, &mut list)?);
            if list.len() == training {
                return Err(refuse(&root, format!("there is no image in {val}/")));
            }
        }
        let validation = list.len();
        if let Some(test) = test {
            // Unlabeled test images may be in one sub-folder of any name.
            let subfolders = folder::subfolders(&root.join(&test))?;
            if subfolders.iter().any(|name| classes.contains(name)) {
                left_out.extend(add_subset(&root, (&train, &classes), &test, &mut list)?);
            } else {
                notes.push(format!("{test}/ has no folder of a class of {train}/ and is skipped"));
            }
        }
        for other in others {
            let folder = root.join(&other);
            let images = folder::walk(&folder).filter(|file| matches!(file, Ok((_, None)))).count();
            if images > 0 {
                notes.push(format!(
                    "{other}/, with {images} images, is not a subset with class folders and is skipped"
                ));
            }
        }
        let images = Arc::new(list.in_files(root));
        let mut items: Vec<Item> = images.items().collect();
        let tests = items.split_off(validation);
        let validating = items.split_off(training);
        let val = val.map(|_| validating);
        Ok(Self { images, classes, train: items, val, test: tests, left_out, notes })
    }
}

/// Returns the classes with their indices.
fn numbered(classes: &[String]) -> Vec<(usize, &str)> {
    classes.iter().map(String::as_str).enumerate().collect()
}

/// Adds the images in the folder `name` of the validation or test subset. Its classes must be those
/// of the training subset; the test subset may have fewer. Returns the skipped files.
fn add_subset(
    root: &Path,
    (train, classes): (&str, &[String]),
    name: &str,
    list: &mut ImageList,
) -> Result<Vec<LeftOut>> {
    let folder = root.join(name);
    let found = folder::subfolders(&folder)?;
    folder::check_unicode_forms(&folder, &found)?;
    let only_in = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|class| !b.contains(class)).cloned().collect()
    };
    let mut missing = only_in(classes, &found);
    if Subset::of(name) == Some(Subset::Test) {
        missing.clear();
    }
    let differences: Vec<String> = [(train, missing), (name, only_in(&found, classes))]
        .into_iter()
        .filter(|(_, classes)| !classes.is_empty())
        .map(|(subset, classes)| format!("only {subset}/ has {}", classes.join(", ")))
        .collect();
    if !differences.is_empty() {
        return Err(refuse(root, format!("its classes differ: {}", differences.join("; "))));
    }
    // In the order of the training subset.
    let mut numbered = numbered(classes);
    numbered.retain(|(_, class)| found.iter().any(|found| found == class));
    folder::add_images(&folder, Some(name), &numbered, list)
}

/// Returns the folder of the data set: the only sub-folder of `path`, if that has sub-folders
/// itself; otherwise `path`.
fn top(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        let reason = if path.exists() { "it is not a folder" } else { "the folder does not exist" };
        return Err(refuse(path, reason.into()));
    }
    if let [only] = &folder::subfolders(path)?[..] {
        let below = path.join(only);
        if Subset::of(only).is_none() && !folder::subfolders(&below)?.is_empty() {
            return Ok(below);
        }
    }
    Ok(path.to_owned())
}

/// Returns the first names, and the number of the others.
fn first_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const MOST: usize = 5;
    let more = names.len().saturating_sub(MOST);
    let mut listed: Vec<String> = names.take(MOST).map(|name| shown(name).to_string()).collect();
    listed.extend((more > 0).then(|| format!("{more} more")));
    listed.join(", ")
}

fn refuse(path: &Path, reason: String) -> Error {
    Error::Dataset { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixtures::{self, images, open, paths, tree};

    /// Creates these subset folders, each with two classes of ten images.
    fn subsets(names: &[&str]) -> tempfile::TempDir {
        let classes = |name: &&str| {
            ["a", "b"]
                .map(|class| (0..10).map(move |k| format!("{class}/{k}.jpg")))
                .map(|paths| paths.map(|path| format!("{name}/{path}")).collect::<Vec<_>>())
        };
        tree(names.iter().flat_map(classes).flatten())
    }

    fn read(root: &tempfile::TempDir) -> Listing {
        Listing::read(root.path()).unwrap()
    }

    #[track_caller]
    fn refused(root: &tempfile::TempDir, causes: &[&str]) {
        let message = Listing::read(root.path()).unwrap_err().to_string();
        for cause in causes {
            assert!(message.contains(cause), "expected `{cause}`: {message}");
        }
    }

    #[test]
    fn equal_subfolders_of_all_classes_are_noted() {
        let noted = |root: &tempfile::TempDir| {
            let notes = read(root).notes;
            notes.into_iter().find(|note| note.contains("each has the subfolders"))
        };
        let note = noted(&subsets(&["1_train", "2_val"])).unwrap();
        assert!(note.contains("the classes are 1_train, 2_val, and each has the subfolders a, b;"));
        let inside = tree(
            ["a/train/1.jpg", "a/test/2.jpg", "b/train/1.jpg", "b/test/2.jpg"].map(String::from),
        );
        assert!(noted(&inside).unwrap().contains("the subfolders test, train;"));
        let nested = ["seg_train/seg_train", "seg_test/seg_test"];
        assert!(noted(&subsets(&nested)).unwrap().contains("subfolders a, b;"));
        for others in [
            subsets(&["train", "val"]),
            tree(["a/1.jpg", "b/2.jpg"].map(String::from)),
            tree(["a/x/1.jpg", "a/y/1.jpg", "b/x/2.jpg"].map(String::from)),
            tree(["a/x/1.jpg", "b/x/2.jpg"].map(String::from)),
        ] {
            assert_eq!(noted(&others), None);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_missing_class_folder_is_noted() {
        let root = tree(["a/1.jpg", "b/2.jpg"].map(String::from));
        std::os::unix::fs::symlink("missing", root.path().join("c")).unwrap();
        let expected =
            "1 file was skipped: 1 dangling link; c may be a class whose folder is missing";
        assert_eq!(read(&root).notes, [expected]);
    }

    fn first(listing: &Listing, items: &[Item]) -> String {
        listing.images.path(items[0])
    }

    #[test]
    fn subset_names_are_detected_in_any_case() {
        for [train, val] in
            [["train", "val"], ["Train", "Val"], ["training", "validation"], ["TRAINING", "Valid"]]
        {
            let listing = read(&subsets(&[train, val]));
            assert_eq!(listing.classes, ["a", "b"]);
            assert_eq!(listing.train.len(), 20);
            assert_eq!(first(&listing, &listing.train), format!("{train}/a/0.jpg"));
            assert_eq!(first(&listing, listing.val.as_ref().unwrap()), format!("{val}/a/0.jpg"));
            let note = format!(
                "the data set is already split: {train}/ for training, {val}/ for validation"
            );
            assert_eq!(listing.notes, [note]);
        }
        for test in ["test", "Testing"] {
            let listing = read(&subsets(&["train", "valid", test]));
            assert_eq!(first(&listing, &listing.test), format!("{test}/a/0.jpg"));
            assert!(listing.notes[0].ends_with(&format!(", {test}/ for tests")));
        }
    }

    /// A seed chooses the same images as when the training folder is opened alone.
    #[test]
    fn without_a_validation_subset_the_training_subset_is_split() {
        let root = subsets(&["Training", "Testing"]);
        let options = SplitOptions { seed: 3, val_fraction: 0.3, ..SplitOptions::default() };
        let dataset = read(&root).split(&options).unwrap();
        assert_eq!((dataset.train.len(), dataset.val.len(), dataset.test.len()), (14, 6, 20));
        assert!(!dataset.comes_split());
        let alone = Dataset::open(&root.path().join("Training"), &options).unwrap();
        let prefixed: Vec<String> = paths(&alone.images, &alone.val)
            .iter()
            .map(|path| format!("Training/{path}"))
            .collect();
        assert_eq!(paths(&dataset.images, &dataset.val), prefixed);
        assert_eq!(dataset.clone().keep_together(&[], &options).unwrap(), dataset);
    }

    #[test]
    fn classes_may_be_named_like_subsets() {
        let of = |class: &str| (0..10).map(|k| format!("{class}/{k}.jpg")).collect::<Vec<_>>();
        for classes in
            [["bus", "train", "tram"], ["Test", "train", "tram"], ["test", "train", "val2"]]
        {
            let listing = read(&tree(classes.iter().flat_map(|class| of(class))));
            assert_eq!((&listing.classes[..], listing.val), (&classes.map(String::from)[..], None));
        }
        // A class with sub-folders and images.
        let listing = read(&tree(["bus/1.jpg", "tram/1.jpg", "train/1.jpg", "train/ice/2.jpg"]));
        assert_eq!((listing.classes.len(), listing.train.len()), (3, 4));
        // A class named `train` in a split data set.
        let listing = read(&tree([
            "train/bus/1.jpg",
            "train/train/1.jpg",
            "val/bus/2.jpg",
            "val/train/2.jpg",
        ]));
        assert_eq!(
            (&listing.classes[..], first(&listing, &listing.train)),
            (&["bus".into(), "train".into()][..], "train/bus/1.jpg".to_owned())
        );
    }

    #[test]
    fn subsets_are_never_classes() {
        let flat = tree(["Training/1.jpg", "Testing/1.jpg"]);
        refused(&flat, &["Testing/ and Training/ are named like subsets", "hold no class folders"]);
        refused(
            &subsets(&["train", "Train", "val"]),
            &["Train/ and train/ are both its train subset"],
        );
        refused(
            &subsets(&["train", "val", "validation"]),
            &["val/ and validation/ are both its val subset"],
        );
        refused(
            &subsets(&["Training"]),
            &["it has Training/ but no class folders in val/", "use only"],
        );
        refused(&subsets(&["train", "extra"]), &["it has train/ but no class folders in val/"]);
        refused(&subsets(&["valid", "test"]), &["no class folders in train/"]);
        refused(&subsets(&["test"]), &["it has test/ but no class folders in train/"]);
    }

    /// Competitions publish their images in this layout.
    #[test]
    fn unlabeled_test_images_are_skipped_with_a_note() {
        let root = subsets(&["train"]);
        fs::create_dir_all(root.path().join("test")).unwrap();
        fs::write(root.path().join("test/1.jpg"), "").unwrap();
        let listing = read(&root);
        assert_eq!((listing.train.len(), listing.test.len()), (20, 0));
        assert!(
            listing.notes[1].starts_with("test/, with 1 images, is not a subset"),
            "{:?}",
            listing.notes
        );

        let root = subsets(&["train", "val"]);
        fs::create_dir_all(root.path().join("test/unknown")).unwrap();
        fs::write(root.path().join("test/unknown/1.jpg"), "").unwrap();
        let listing = read(&root);
        assert!(listing.test.is_empty());
        assert!(
            listing.notes[1].starts_with("test/ has no folder of a class"),
            "{:?}",
            listing.notes
        );
    }

    #[test]
    fn a_test_subset_may_have_fewer_classes_but_no_others() {
        let root = subsets(&["train", "val"]);
        fs::create_dir_all(root.path().join("test/b")).unwrap();
        fs::write(root.path().join("test/b/1.jpg"), "").unwrap();
        let listing = read(&root);
        assert_eq!(paths(&listing.images, &listing.test), ["test/b/1.jpg"]);
        assert_eq!(listing.images.class(listing.test[0]), 1);
        fs::create_dir_all(root.path().join("test/c")).unwrap();
        refused(&root, &["its classes differ: only test/ has c"]);
    }

    #[test]
    fn skipped_folders_and_files_are_noted() {
        let root = subsets(&["train", "val", "extra"]);
        fs::write(root.path().join("train/a/1.heic"), "").unwrap();
        fs::write(root.path().join("val/2.jpg"), "").unwrap();
        let listing = read(&root);
        assert_eq!(listing.items().count(), 40);
        assert!(listing.notes[1].starts_with("extra/, with 20 images"), "{:?}", listing.notes);
        assert!(
            listing.notes[2].starts_with("2 files were skipped: 1 HEIC, 1 outside"),
            "{:?}",
            listing.notes
        );
        let paths: Vec<&str> = listing.left_out.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["train/a/1.heic", "val/2.jpg"]);
    }

    #[test]
    fn an_empty_class_is_listed_but_split_refuses_it() {
        let root = tree(["a/1.jpg", "b/1.txt"]);
        let listing = read(&root);
        assert_eq!(listing.classes, ["a", "b"]);
        assert!(listing.clone().divided(&SplitOptions::default()).unwrap().val.is_empty());
        let message = listing.split(&SplitOptions::default()).unwrap_err().to_string();
        assert!(message.contains("no image in the class folder b;"), "{message}");
    }

    #[test]
    fn train_and_val_folders_are_used_as_the_split() {
        let root = tree([
            "train/a/1.jpg",
            "train/b/1.jpg",
            "val/a/2.jpg",
            "val/b/2.jpg",
            "val/b/sub/3.jpg",
        ]);
        let dataset = open(root.path()).unwrap();
        assert_eq!(dataset.root(), root.path());
        assert_eq!(dataset.classes, ["a", "b"]);
        assert_eq!(paths(&dataset.images, &dataset.train), ["train/a/1.jpg", "train/b/1.jpg"]);
        assert_eq!(
            paths(&dataset.images, &dataset.val),
            ["val/a/2.jpg", "val/b/2.jpg", "val/b/sub/3.jpg"]
        );
    }

    #[test]
    fn subsets_with_different_classes_are_refused() {
        let root =
            tree(["train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/a/2.jpg", "val/B/2.jpg"]);
        fixtures::refused(open(root.path()), "only train/ has b, c; only val/ has B");
        let root = tree(["train/a/1.jpg", "train/b/1.jpg", "val/1.jpg"]);
        fixtures::refused(open(root.path()), "it has train/ but no class folders in val/");
        let root = tree(["train/a/1.jpg", "train/b/1.jpg", "val/a/notes.txt", "val/b/notes.txt"]);
        fixtures::refused(open(root.path()), "there is no image in val/");
        let root = tree(["val/a/1.jpg", "val/b/1.jpg"]);
        fixtures::refused(open(root.path()), "it has val/ but no class folders in train/");
    }

    #[test]
    fn train_may_be_a_class() {
        let root = tree(images("train", 20).chain(images("bus", 20)));
        assert_eq!(open(root.path()).unwrap().classes, ["bus", "train"]);
    }

    #[test]
    fn a_lone_folder_is_entered() {
        let root = tree(images("top/a", 10).chain(images("top/b", 10)));
        let dataset = open(root.path()).unwrap();
        assert_eq!(dataset.root(), root.path().join("top"));
        assert_eq!(dataset.val.len(), 2);
        let root = tree(["x/train/a/1.jpg", "x/train/b/1.jpg", "x/val/a/2.jpg", "x/val/b/2.jpg"]);
        assert_eq!(open(root.path()).unwrap().root(), root.path().join("x"));
        fixtures::refused(open(tree(["a/1.jpg"]).path()), "one class, `a`");
    }

    #[test]
    fn a_path_that_is_not_a_folder_is_refused() {
        fixtures::refused(
            open(Path::new("no/such/folder")),
            "no/such/folder is not a data set: the folder does not exist",
        );
        let root = tree(["a.txt"]);
        fixtures::refused(open(&root.path().join("a.txt")), "it is not a folder");
    }
}
