//! A folder of images seen again: how they were split before, whatever the folder is called now.

use std::collections::{HashMap, HashSet};

use unicode_normalization::UnicodeNormalization;

use crate::dataset::{Dataset, Item, below_half, in_halves, listing::Listing};

/// What an earlier split has to say of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitMatch {
    /// It holds the images of that split.
    Same(MatchedSplit),
    /// It holds others.
    Other {
        /// How many of its images have the path of one that trained.
        trained: usize,
    },
}

/// A folder whose images are divided as they were before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchedSplit {
    /// The images that were in that split and are still there, in the same order, below the folder that they are in now.
    pub dataset: Dataset,
    /// How many images that split does not know.
    pub new: usize,
    /// How many images of that split are not there.
    pub missing: usize,
}

/// Tells by the paths below the folder whether a listing holds the images of `before`: at least half of the one or of the
/// other. The folders of halves do not count, so a copy that was split into them is recognised, too; neither do the Unicode
/// forms of names, which copying from a Mac can change.
pub fn match_split(listing: &Listing, before: &Dataset) -> SplitMatch {
    let [now, then] = [listing.items().collect::<Vec<_>>(), before.all().collect()];
    let now_in_halves = in_halves(now.iter().copied(), &listing.classes);
    let then_in_halves = in_halves(then.iter().copied(), &before.classes);
    let mut trained = 0;
    for by_half in [true, false] {
        let place_now = |item: &Item| place(item, now_in_halves && !by_half);
        let place_then = |item: &Item| place(item, then_in_halves && !by_half);
        let here: HashMap<String, &Item> = now.iter().map(|item| (place_now(item), *item)).collect();
        let there: HashSet<String> = then.iter().map(|item| place_then(item)).collect();
        // Without their folders, images of two halves can have one name.
        if here.len() < now.len() || there.len() < then.len() {
            continue;
        }
        let known = there.iter().filter(|path| here.contains_key(*path)).count();
        let find = |items: &[Item]| -> Vec<Item> {
            items.iter().filter_map(|item| here.get(&place_then(item)).map(|item| (*item).clone())).collect()
        };
        if known > 0 && (2 * known >= there.len() || 2 * known >= here.len()) {
            let dataset = Dataset {
                root: listing.root.clone(),
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
        trained = trained.max(find(&before.train).len());
    }
    SplitMatch::Other { trained }
}

/// What an image is known by: its path, below the folder of a half or with it.
fn place(item: &Item, below: bool) -> String {
    below_half(&item.path, below).nfc().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn items(paths: &[String], classes: &[String]) -> Vec<Item> {
        let class = |path: &str| classes.iter().position(|class| path.split('/').any(|part| part == class));
        paths.iter().map(|path| Item { path: path.clone(), class: class(path).unwrap() }).collect()
    }

    fn names(folder: &str, range: std::ops::Range<usize>) -> Vec<String> {
        ["a", "b"].iter().flat_map(|c| range.clone().map(move |k| format!("{folder}{c}/{k}.jpg"))).collect()
    }

    fn classes() -> Vec<String> {
        vec!["a".into(), "b".into()]
    }

    fn listing(train: Vec<String>, val: Option<Vec<String>>) -> Listing {
        let classes = classes();
        Listing {
            root: "now".into(),
            train: items(&train, &classes),
            val: val.map(|val| items(&val, &classes)),
            test: vec![],
            classes,
            left_out: vec![],
            notes: vec![],
        }
    }

    fn run(train: Vec<String>, val: Vec<String>) -> Dataset {
        let classes = classes();
        Dataset {
            root: "then".into(),
            train: items(&train, &classes),
            val: items(&val, &classes),
            test: vec![],
            classes,
        }
    }

    #[track_caller]
    fn again(listing: &Listing, before: &Dataset) -> MatchedSplit {
        match match_split(listing, before) {
            SplitMatch::Same(again) => again,
            SplitMatch::Other { trained } => panic!("not recognised, {trained} trained"),
        }
    }

    fn paths(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| item.path.as_str()).collect()
    }

    #[test]
    fn moved_images_keep_their_split() {
        let before = run(names("", 0..7), names("", 7..10));
        let found = again(&listing(names("", 0..10), None), &before);
        assert_eq!((found.new, found.missing), (0, 0));
        assert_eq!(found.dataset, Dataset { root: "now".into(), ..before });
    }

    /// More than half of the folder is new; to take it for another would ask about images that trained.
    #[test]
    fn a_folder_that_has_grown_or_shrunk_is_the_same() {
        let before = run(names("", 0..24), names("", 24..30));
        let grown = again(&listing(names("", 0..80), None), &before);
        assert_eq!((grown.new, grown.missing), (100, 0));
        assert_eq!(grown.dataset.val, before.val);
        let shrunk = again(&listing(names("", 22..26), None), &before);
        assert_eq!((shrunk.new, shrunk.missing), (0, 52));
        assert_eq!(paths(&shrunk.dataset.val), ["a/24.jpg", "a/25.jpg", "b/24.jpg", "b/25.jpg"]);
    }

    #[test]
    fn a_copy_in_halves_is_recognised_and_split_as_before() {
        let before = run(names("", 0..7), names("", 7..10));
        let copy = listing(names("train/", 1..10), Some(names("val/", 0..1)));
        let found = again(&copy, &before);
        assert_eq!(paths(&found.dataset.val), paths(&items(&names("train/", 7..10), &classes())));
        assert!(found.dataset.train.iter().any(|item| item.path == "val/a/0.jpg"));
        // And the other way round, with other names of the halves.
        let halves = run(names("Training/", 0..7), names("Testing/", 7..10));
        let found = again(&listing(names("", 0..10), None), &halves);
        assert_eq!(paths(&found.dataset.val), paths(&before.val));
    }

    /// As in many collections, both halves number their images from 0.
    #[test]
    fn halves_with_equal_names_are_told_apart() {
        let before = run(names("train/", 0..5), names("val/", 0..5));
        let found = again(&listing(names("train/", 0..5), Some(names("val/", 0..5))), &before);
        assert_eq!(found.dataset.val, before.val);
        assert!(matches!(match_split(&listing(names("", 0..5), None), &before), SplitMatch::Other { .. }));
    }

    #[test]
    fn other_images_are_others_and_what_trained_is_counted() {
        let before = run(names("", 0..40), names("", 40..50));
        let of = |range| match_split(&listing(names("", range), None), &before);
        assert_eq!(of(50..60), SplitMatch::Other { trained: 0 });
        assert_eq!(of(38..100), SplitMatch::Other { trained: 4 });
    }

    #[test]
    fn names_may_change_their_unicode_form() {
        let before = run(vec!["a/caf\u{e9}.jpg".into()], vec!["b/caf\u{e9}.jpg".into()]);
        let now = listing(vec!["a/cafe\u{301}.jpg".into(), "b/cafe\u{301}.jpg".into()], None);
        assert_eq!(paths(&again(&now, &before).dataset.val), ["b/cafe\u{301}.jpg"]);
        assert_eq!(again(&now, &before).dataset.root, Path::new("now"));
    }
}
