//! Detects, by the relative paths of its images, that a folder was split before, and restores that
//! split.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use unicode_normalization::UnicodeNormalization;

use crate::dataset::{Dataset, Images, Item, below_subset, in_subsets, listing::Listing};

/// The result of comparing a folder with an earlier split.
#[derive(Clone, Debug, PartialEq)]
pub enum SplitMatch {
    /// The folder holds the images of that split.
    Same(MatchedSplit),
    /// The folder holds other images.
    Other {
        /// Number of its images with the path of a training image of that split.
        trained: usize,
    },
}

/// A folder with its earlier split.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchedSplit {
    /// The images of the split that are in the folder, in the same order. The root is the current
    /// folder.
    pub dataset: Dataset,
    /// Number of images in the folder that are not in the split.
    pub new: usize,
    /// Number of images of the split that are not in the folder.
    pub missing: usize,
}

/// Compares the relative paths of a listing with those of an earlier split. They match if the
/// images in common are at least half of the images of the listing or of the split. The folders of
/// subsets are ignored, so that a copy in subset folders matches too. So are the Unicode
/// normalization forms of names, which copying from macOS can change.
pub fn match_split(listing: &Listing, before: &Dataset) -> SplitMatch {
    let now_in_subsets = in_subsets(&listing.images, listing.items(), &listing.classes);
    let then_in_subsets = before.in_subsets();
    let [now, then] = [listing.items().count(), before.all().count()];
    let mut trained = 0;
    for by_subset in [true, false] {
        let key_now = |item| key(&listing.images, item, now_in_subsets && !by_subset);
        let key_then = |item| key(&before.images, item, then_in_subsets && !by_subset);
        let here: HashMap<String, Item> =
            listing.items().map(|item| (key_now(item), item)).collect();
        let there: HashSet<String> = before.all().map(key_then).collect();
        let training: HashSet<String> = before.train.iter().copied().map(key_then).collect();
        trained =
            trained.max(listing.items().filter(|item| training.contains(&key_now(*item))).count());
        // Without the folders of the subsets, keys may not be unique.
        if here.len() < now || there.len() < then {
            continue;
        }
        let known = there.iter().filter(|path| here.contains_key(*path)).count();
        let find = |items: &[Item]| -> Vec<Item> {
            items.iter().filter_map(|item| here.get(&key_then(*item)).copied()).collect()
        };
        if known > 0 && (2 * known >= there.len() || 2 * known >= here.len()) {
            let dataset = Dataset {
                images: Arc::clone(&listing.images),
                classes: listing.classes.clone(),
                train: find(&before.train),
                val: find(&before.val),
                test: find(&before.test),
            };
            return SplitMatch::Same(MatchedSplit {
                dataset,
                new: here.len() - known,
                missing: there.len() - known,
            });
        }
    }
    SplitMatch::Other { trained }
}

/// Returns the key of an image: its path, without the folder of its subset if `without_subset`.
fn key(images: &Images, item: Item, without_subset: bool) -> String {
    below_subset(&images.path(item), without_subset).nfc().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fixtures::{self, paths};

    fn with_classes(paths: &[String]) -> Vec<(String, usize)> {
        let class = |path: &str| {
            CLASSES.iter().position(|class| path.split('/').any(|part| part == *class)).unwrap()
        };
        paths.iter().map(|path| (path.clone(), class(path))).collect()
    }

    fn names(folder: &str, range: std::ops::Range<usize>) -> Vec<String> {
        ["a", "b"]
            .iter()
            .flat_map(|c| range.clone().map(move |k| format!("{folder}{c}/{k}.jpg")))
            .collect()
    }

    const CLASSES: [&str; 2] = ["a", "b"];

    fn listing(train: Vec<String>, val: Option<Vec<String>>) -> Listing {
        let is_split = val.is_some();
        let Dataset { images, classes, train, val, test } =
            dataset("now", train, val.unwrap_or_default());
        let val = is_split.then_some(val);
        Listing { images, train, val, test, classes, left_out: vec![], notes: vec![] }
    }

    fn run(train: Vec<String>, val: Vec<String>) -> Dataset {
        dataset("then", train, val)
    }

    fn dataset(root: &str, train: Vec<String>, val: Vec<String>) -> Dataset {
        let [train, val] = [with_classes(&train), with_classes(&val)];
        let [train, val] = [&train, &val].map(|subset| {
            subset.iter().map(|(path, class)| (path.as_str(), *class)).collect::<Vec<_>>()
        });
        fixtures::dataset(Path::new(root), &CLASSES, &train, &val)
    }

    #[track_caller]
    fn matched(listing: &Listing, before: &Dataset) -> MatchedSplit {
        match match_split(listing, before) {
            SplitMatch::Same(matched) => matched,
            SplitMatch::Other { trained } => panic!("no match, {trained} training images"),
        }
    }

    /// The validation images.
    fn val(dataset: &Dataset) -> Vec<String> {
        paths(&dataset.images, &dataset.val)
    }

    #[test]
    fn moved_images_keep_their_split() {
        let before = run(names("", 0..7), names("", 7..10));
        let found = matched(&listing(names("", 0..10), None), &before);
        assert_eq!((found.new, found.missing), (0, 0));
        assert_eq!(found.dataset, dataset("now", names("", 0..7), names("", 7..10)));
    }

    /// More than half of the images in the grown folder are new. Without a match, training images
    /// would be used for evaluation.
    #[test]
    fn a_folder_with_added_or_removed_images_matches() {
        let before = run(names("", 0..24), names("", 24..30));
        let grown = matched(&listing(names("", 0..80), None), &before);
        assert_eq!((grown.new, grown.missing), (100, 0));
        assert_eq!(val(&grown.dataset), val(&before));
        let shrunk = matched(&listing(names("", 22..26), None), &before);
        assert_eq!((shrunk.new, shrunk.missing), (0, 52));
        assert_eq!(val(&shrunk.dataset), ["a/24.jpg", "a/25.jpg", "b/24.jpg", "b/25.jpg"]);
    }

    #[test]
    fn a_copy_in_subsets_is_split_as_before() {
        let before = run(names("", 0..7), names("", 7..10));
        let copy = listing(names("train/", 1..10), Some(names("val/", 0..1)));
        let found = matched(&copy, &before);
        assert_eq!(val(&found.dataset), names("train/", 7..10));
        let training = paths(&found.dataset.images, &found.dataset.train);
        assert!(training.contains(&"val/a/0.jpg".to_owned()));
        // The reverse, with other names of the subsets.
        let subsets = run(names("Training/", 0..7), names("Testing/", 7..10));
        let found = matched(&listing(names("", 0..10), None), &subsets);
        assert_eq!(val(&found.dataset), val(&before));
    }

    /// In many collections, each subset numbers its images from 0.
    #[test]
    fn equal_names_in_different_subsets_are_different_images() {
        let before = run(names("train/", 0..5), names("val/", 0..5));
        let found = matched(&listing(names("train/", 0..5), Some(names("val/", 0..5))), &before);
        assert_eq!(val(&found.dataset), val(&before));
        let other = match_split(&listing(names("", 0..5), None), &before);
        assert_eq!(other, SplitMatch::Other { trained: 10 });
        // A test subset has names of the training images.
        let before = run(names("", 0..7), names("", 7..10));
        let copy = listing(names("train/", 0..10), Some(names("test/", 0..4)));
        assert_eq!(match_split(&copy, &before), SplitMatch::Other { trained: 14 + 8 });
    }

    #[test]
    fn training_images_in_another_folder_are_counted() {
        let before = run(names("", 0..40), names("", 40..50));
        let of = |range| match_split(&listing(names("", range), None), &before);
        assert_eq!(of(50..60), SplitMatch::Other { trained: 0 });
        assert_eq!(of(38..100), SplitMatch::Other { trained: 4 });
    }

    #[test]
    fn the_unicode_form_of_names_is_ignored() {
        let before = run(vec!["a/caf\u{e9}.jpg".into()], vec!["b/caf\u{e9}.jpg".into()]);
        let now = listing(vec!["a/cafe\u{301}.jpg".into(), "b/cafe\u{301}.jpg".into()], None);
        assert_eq!(val(&matched(&now, &before).dataset), ["b/cafe\u{301}.jpg"]);
        assert_eq!(matched(&now, &before).dataset.root(), Path::new("now"));
    }
}
