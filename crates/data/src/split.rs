//! Splits the images of each class into training and validation images, chosen by a seed. Groups of
//! images can be kept together.

use std::{collections::BTreeMap, fmt, str::FromStr};

use alexnet_core::rng::{self, Purpose};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    dataset::{Dataset, Images, Item},
};

/// Options of a split of class folders.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitOptions {
    /// The share of validation images in each class, at least 0 and below 1. The number of images
    /// is rounded down.
    pub val_fraction: f64,
    /// The fold whose images are the validation images, instead of a share.
    pub fold: Option<Fold>,
    /// Seed of the permutations that choose the validation images.
    pub seed: u64,
}

/// A fold of a cross-validation. Each image is a validation image in exactly one of the folds, and a
/// training image in the others. The sizes of the folds differ by at most one, in each class and in
/// total. As text: `2/5` for the second of five.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fold {
    /// From 0, below `folds`.
    index: usize,
    /// At least 2.
    folds: usize,
}

impl Fold {
    /// Returns whether an image belongs to the fold. `first` is the number of images of the previous
    /// classes, and `place` is the place of the image in the permutation of its class.
    fn has(self, first: usize, place: usize) -> bool {
        (first + place) % self.folds == self.index
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.folds)
    }
}

impl FromStr for Fold {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/').and_then(|(fold, folds)| {
            Some((fold.trim().parse::<u32>().ok()?, folds.trim().parse::<u32>().ok()?))
        });
        match numbers {
            Some((fold, folds)) if (1..=folds).contains(&fold) && folds >= 2 => {
                Ok(Self { index: fold as usize - 1, folds: folds as usize })
            }
            _ => Err("it must be a fold and the number of folds, such as 2/5"),
        }
    }
}

impl From<Fold> for String {
    fn from(fold: Fold) -> Self {
        fold.to_string()
    }
}

impl TryFrom<String> for Fold {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { val_fraction: 0.1, fold: None, seed: 0 }
    }
}

impl Dataset {
    /// Splits class folders again so that the images of each group are in the same subset. Groups
    /// hold indices in [`Dataset::items`]; an image is in at most one group. The number of
    /// validation images of each class is that of [`Dataset::open`], or as close as undivided
    /// groups allow. Without groups, the split is that of [`Dataset::open`] with these options. A
    /// data set that was already split in folders is not changed. [`SplitOptions::fold`] is not used.
    ///
    /// # Errors
    /// [`Error::NoneValidates`] if there is no validation image; [`Error::Invalid`] if the fraction
    /// is outside `0.0..1.0`.
    pub fn keep_together(self, groups: &[Vec<usize>], options: &SplitOptions) -> Result<Self> {
        if self.comes_split() {
            return Ok(self);
        }
        let mut grouped = vec![None; self.train.len() + self.val.len()];
        for (group, members) in groups.iter().enumerate() {
            for member in members {
                grouped[*member] = Some(group);
            }
        }
        let mut items: Vec<(Item, Option<usize>)> = self.items().zip(grouped).collect();
        // The order of a listing; the permutations hold indices in this order.
        let key = |item: Item| (self.images.class(item), self.images.parts(item));
        items.sort_by(|(a, _), (b, _)| key(*a).cmp(&key(*b)));
        let (items, grouped): (Vec<Item>, Vec<Option<usize>>) = items.into_iter().unzip();
        let mut units = vec![Vec::new(); groups.len()];
        for (item, group) in grouped.into_iter().enumerate() {
            match group {
                Some(group) => units[group].push(item),
                None => units.push(vec![item]),
            }
        }
        let undivided = Self { train: items, val: vec![], ..self };
        let dataset = divide(undivided, Some(&units), options)?;
        match dataset.val.is_empty() {
            true => {
                let path = dataset.root().to_owned();
                Err(Error::NoneValidates { path, fraction: options.val_fraction })
            }
            false => Ok(dataset),
        }
    }
}

/// Splits the training images of `dataset`, which are sorted by class, into training and validation
/// images. See [`is_validation`] for `units`; `None` means that each image is one.
pub(crate) fn divide(
    dataset: Dataset,
    units: Option<&[Vec<usize>]>,
    options: &SplitOptions,
) -> Result<Dataset> {
    if !(0.0..1.0).contains(&options.val_fraction) {
        return Err(Error::Invalid {
            field: "val_fraction",
            value: options.val_fraction.to_string(),
            reason: "it must be at least 0 and below 1",
        });
    }
    let Dataset { images, classes, train: items, .. } = &dataset;
    let in_val = match (units, options.fold) {
        (Some(units), _) => is_validation(images, items, classes.len(), units, options),
        (None, None) => is_first(images, items, options),
        (None, Some(fold)) => is_in_fold(&dataset, fold, options)?,
    };
    let (mut train, mut val) = (Vec::new(), Vec::new());
    for (item, in_val) in items.iter().zip(in_val) {
        if in_val { &mut val } else { &mut train }.push(*item);
    }
    Ok(Dataset { train, val, ..dataset })
}

/// Returns the number of validation images of a class with `images` images. It is always below
/// that, also with rounding, because the fraction is below 1: each class has a training image.
fn share(images: usize, options: &SplitOptions) -> usize {
    (images as f64 * options.val_fraction) as usize
}

/// Iterates over the items of each class, with the index of the first of them, and the permutation
/// that chooses the validation images.
fn by_class<'a>(
    images: &'a Images,
    items: &'a [Item],
    options: &'a SplitOptions,
) -> impl Iterator<Item = (usize, Vec<usize>)> + 'a {
    let classes = items.chunk_by(|a, b| images.class(*a) == images.class(*b));
    classes.scan(0, move |next, items| {
        let (first, class) = (*next, images.class(items[0]) as u64);
        *next += items.len();
        Some((first, rng::permutation(options.seed, Purpose::Split, 0, class, items.len())))
    })
}

/// Returns for each item whether it is a validation image: the first of the permutation of its
/// class.
fn is_first(images: &Images, items: &[Item], options: &SplitOptions) -> Vec<bool> {
    let mut chosen = vec![false; items.len()];
    for (first, permutation) in by_class(images, items, options) {
        for index in &permutation[..share(permutation.len(), options)] {
            chosen[first + index] = true;
        }
    }
    chosen
}

/// Returns for each training image whether it belongs to the fold.
///
/// # Errors
/// [`Error::Invalid`] if there are fewer images than folds; [`Error::Dataset`] if a class has one
/// image, because the class would then have no training image in one of the folds.
fn is_in_fold(dataset: &Dataset, fold: Fold, options: &SplitOptions) -> Result<Vec<bool>> {
    let Dataset { images, classes, train: items, .. } = dataset;
    if items.len() < fold.folds {
        return Err(Error::Invalid {
            field: "fold",
            value: fold.to_string(),
            reason: "there are fewer images than folds",
        });
    }
    let mut chosen = vec![false; items.len()];
    for (first, permutation) in by_class(images, items, options) {
        if permutation.len() == 1 {
            let class = &classes[images.class(items[first])];
            let reason =
                format!("the class {class} has one image; for folds, at least two are needed");
            return Err(Error::Dataset { path: dataset.root().to_owned(), reason });
        }
        for (place, index) in permutation.into_iter().enumerate() {
            chosen[first + index] = fold.has(first, place);
        }
    }
    Ok(chosen)
}

/// Returns for each item whether it is a validation image. `items` are sorted by class. `units` are
/// a partition of the item indices; the items of a unit stay together.
///
/// The first pass goes through the permutation of each class and takes each unit that gives no
/// class more than its share. The second pass takes further units if the class sizes get closer to
/// the shares. If each unit is one item, the first items of each permutation are taken, as by
/// [`is_first`].
fn is_validation(
    images: &Images,
    items: &[Item],
    classes: usize,
    units: &[Vec<usize>],
    options: &SplitOptions,
) -> Vec<bool> {
    let mut sizes = vec![0; classes];
    for item in items {
        sizes[images.class(*item)] += 1;
    }
    let shares: Vec<usize> = sizes.iter().map(|n| share(*n, options)).collect();
    let mut unit_of = vec![0; items.len()];
    for (unit, members) in units.iter().enumerate() {
        for member in members {
            unit_of[*member] = unit;
        }
    }
    let mut order = Vec::with_capacity(items.len());
    for (first, permutation) in by_class(images, items, options) {
        order.extend(permutation.into_iter().map(|index| unit_of[first + index]));
    }
    let mut counts = vec![0; classes];
    let mut taken = vec![false; units.len()];
    for first_pass in [true, false] {
        for unit in &order {
            let mut added = BTreeMap::new();
            for member in &units[*unit] {
                *added.entry(images.class(items[*member])).or_insert(0) += 1;
            }
            let fits = if first_pass {
                added.iter().all(|(class, added)| counts[*class] + added <= shares[*class])
            } else {
                let error = |class: usize, count: usize| count.abs_diff(shares[class]);
                let before: usize = added.keys().map(|class| error(*class, counts[*class])).sum();
                let after: usize =
                    added.iter().map(|(class, added)| error(*class, counts[*class] + added)).sum();
                after < before
                    && added.iter().all(|(class, added)| counts[*class] + added < sizes[*class])
            };
            if fits && !taken[*unit] {
                taken[*unit] = true;
                added.iter().for_each(|(class, added)| counts[*class] += added);
            }
        }
    }
    unit_of.into_iter().map(|unit| taken[unit]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{images, open, paths, refused, tree};

    /// Calls `keep_together` with groups of paths.
    fn together(
        dataset: Dataset,
        groups: &[Vec<String>],
        options: &SplitOptions,
    ) -> Result<Dataset> {
        let index = |path: &String| {
            dataset.items().position(|item| dataset.images.path(item) == *path).unwrap()
        };
        let groups: Vec<Vec<usize>> =
            groups.iter().map(|group| group.iter().map(index).collect()).collect();
        dataset.keep_together(&groups, options)
    }

    /// Class sizes of the flower photos, and their validation images by the tutorial's `int(n *
    /// 0.1)`.
    #[test]
    fn the_flower_photos_split_into_3306_and_364() {
        let sizes = [633, 898, 641, 699, 799];
        let root = tree(
            sizes.iter().zip(["a", "b", "c", "d", "e"]).flat_map(|(n, class)| images(class, *n)),
        );
        let dataset = open(root.path()).unwrap();
        assert_eq!((dataset.train.len(), dataset.val.len()), (3306, 364));
        let of_class =
            |class| dataset.val.iter().filter(|item| dataset.images.class(**item) == class).count();
        assert_eq!([0, 1, 2, 3, 4].map(of_class), [63, 89, 64, 69, 79]);
    }

    /// A seed must choose the same images in all versions.
    #[test]
    fn a_seed_always_chooses_the_same_images() {
        let root = tree(images("a", 20).chain(images("b", 31)));
        let val = |seed| {
            let options = SplitOptions { seed, ..SplitOptions::default() };
            let dataset = Dataset::open(root.path(), &options).unwrap();
            paths(&dataset.images, &dataset.val).join(" ")
        };
        assert_eq!(val(0), "a/009.jpg a/011.jpg b/003.jpg b/007.jpg b/015.jpg");
        assert_eq!(val(1), "a/010.jpg a/012.jpg b/008.jpg b/018.jpg b/030.jpg");
    }

    #[test]
    fn every_image_validates_in_one_fold() {
        let root = tree(
            images("a", 20).chain(images("b", 31)).chain(images("c", 2)).chain(images("d", 7)),
        );
        for folds in [2, 5, 7, 60] {
            let of = |seed, fold| {
                let fold = Some(format!("{fold}/{folds}").parse().unwrap());
                let options = SplitOptions { seed, fold, ..SplitOptions::default() };
                Dataset::open(root.path(), &options).unwrap()
            };
            let all: Vec<Dataset> = (1..=folds).map(|fold| of(3, fold)).collect();
            let mut validated: Vec<String> =
                all.iter().flat_map(|dataset| paths(&dataset.images, &dataset.val)).collect();
            validated.sort_unstable();
            let mut every = paths(&all[0].images, &all[0].items().collect::<Vec<_>>());
            every.sort_unstable();
            assert_eq!(validated, every, "{folds} folds");
            for dataset in &all {
                let n = dataset.val.len();
                assert!(n == 60 / folds || n == 60_usize.div_ceil(folds), "{folds} folds: {n}");
                assert_eq!(dataset.train.len(), 60 - n);
                for (class, size) in [20, 31, 2, 7].into_iter().enumerate() {
                    let of_class = |items: &[Item]| {
                        items.iter().filter(|item| dataset.images.class(**item) == class).count()
                    };
                    let n = of_class(&dataset.val);
                    assert!(n == size / folds || n == size.div_ceil(folds), "{folds} folds: {n}");
                    assert!(of_class(&dataset.train) > 0);
                }
            }
            assert_eq!(of(3, 1), all[0]);
            assert!(folds == 60 || of(4, 1) != all[0], "the seed changes the folds");
        }
    }

    #[test]
    fn folds_that_are_impossible_are_refused() {
        for text in
            ["0/5", "6/5", "1/1", "1/0", "2", "2/", "-1/5", "1/2/3", "4294967296/4294967297"]
        {
            assert!(text.parse::<Fold>().is_err(), "{text}");
        }
        assert_eq!(" 2 / 5".parse::<Fold>().unwrap().to_string(), "2/5");
        let split = |root: &tempfile::TempDir, fold: &str| {
            let fold = Some(fold.parse().unwrap());
            Dataset::open(root.path(), &SplitOptions { fold, ..SplitOptions::default() })
        };
        let root = tree(images("a", 3).chain(images("b", 1)));
        refused(split(&root, "1/5"), "there are fewer images than folds");
        refused(split(&root, "1/2"), "the class b has one image");
        let root = tree(["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "val/b/2.jpg"]);
        refused(split(&root, "1/2"), "already split");
    }

    #[test]
    fn without_groups_the_split_is_that_of_open() {
        let root = tree(
            images("a", 20).chain(images("b", 31)).chain(images("b/sub", 9)).chain(images("c", 1)),
        );
        for seed in 0..20 {
            let options = SplitOptions { seed, val_fraction: 0.25, ..SplitOptions::default() };
            let plain = Dataset::open(root.path(), &options).unwrap();
            assert_eq!(plain.clone().keep_together(&[], &options).unwrap(), plain);
            // Groups of one image have no effect.
            let alone: Vec<Vec<usize>> =
                (0..plain.items().count()).map(|item| vec![item]).collect();
            assert_eq!(plain.clone().keep_together(&alone, &options).unwrap(), plain);
        }
    }

    #[test]
    fn groups_stay_together_and_classes_keep_their_shares() {
        let root = tree(images("a", 40).chain(images("b", 55)).chain(images("c", 23)));
        let name = |class: &str, k: usize| format!("{class}/{k:03}.jpg");
        // Groups of two to six images, within classes and across them.
        let groups: Vec<Vec<String>> = vec![
            (0..2).map(|k| name("a", k)).collect(),
            (2..8).map(|k| name("a", k)).collect(),
            (0..4).map(|k| name("b", k)).chain((20..22).map(|k| name("a", k))).collect(),
            vec![name("a", 39), name("b", 39), name("c", 0)],
            vec![name("c", 5), name("c", 9)],
            vec![name("b", 50), name("c", 22)],
        ];
        let mut differ = 0;
        for seed in 0..50 {
            let options = SplitOptions { seed, val_fraction: 0.2, ..SplitOptions::default() };
            let plain = Dataset::open(root.path(), &options).unwrap();
            let split = together(plain.clone(), &groups, &options).unwrap();
            for group in &groups {
                let validate = group
                    .iter()
                    .filter(|path| split.val.iter().any(|item| split.images.path(*item) == **path))
                    .count();
                assert!(validate == 0 || validate == group.len(), "{group:?}");
            }
            let of_class =
                |class| split.val.iter().filter(|item| split.images.class(**item) == class).count();
            assert_eq!([0, 1, 2].map(of_class), [8, 11, 4]);
            let paths = |items| paths(&split.images, items);
            assert!(paths(&split.train).is_sorted() && paths(&split.val).is_sorted());
            assert_eq!(split.items().count(), 118);
            differ += usize::from(split != plain);
        }
        assert!(differ > 25, "{differ}");
    }

    /// Two of the ten images of a class should be validation images, with groups of different
    /// sizes.
    #[test]
    fn undivided_groups_come_as_close_to_the_share_as_possible() {
        let root = tree(images("a", 10).chain(images("b", 10)));
        let options = SplitOptions { val_fraction: 0.2, ..SplitOptions::default() };
        let group =
            |range: std::ops::Range<usize>| range.map(|k| format!("a/{k:03}.jpg")).collect();
        let counts = |groups: &[Vec<String>]| {
            let split =
                together(Dataset::open(root.path(), &options).unwrap(), groups, &options).unwrap();
            [0, 1].map(|class| {
                split.val.iter().filter(|item| split.images.class(**item) == class).count()
            })
        };
        assert_eq!(counts(&[group(0..5), group(5..8), group(8..10)]), [2, 2]);
        assert_eq!(counts(&[group(0..3), group(3..10)]), [3, 2]);
        // Five images are three too many, zero images are two too few.
        assert_eq!(counts(&[group(0..5), group(5..10)]), [0, 2]);
        // The only group of a class is used for training.
        assert_eq!(counts(&[group(0..10)]), [0, 2]);
    }

    #[test]
    fn data_sets_that_are_already_split_are_not_changed() {
        let root = tree(["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "val/b/2.jpg"]);
        let dataset = open(root.path()).unwrap();
        assert!(dataset.comes_split());
        let split = dataset.clone().keep_together(&[vec![0, 2]], &SplitOptions::default()).unwrap();
        assert_eq!(split, dataset);
        let classes_of_these_names =
            tree(images("train", 20).chain(images("val", 20)).chain(images("bus", 20)));
        assert!(!open(classes_of_these_names.path()).unwrap().comes_split());
    }

    /// Six and a thousand classes, names with spaces and in several scripts, different numbers of
    /// images.
    #[test]
    fn folders_with_any_names_and_sizes_are_split() {
        let names = ["common daisy", "Löwenzahn", "薔薇", "подсолнух", "tulipes d'été", "🌷"];
        let root = tree(names.iter().enumerate().flat_map(|(k, name)| images(name, 1 + 10 * k)));
        let dataset = open(root.path()).unwrap();
        let mut sorted = names.map(String::from);
        sorted.sort_unstable();
        assert_eq!(dataset.classes, sorted);
        assert_eq!(dataset.val.len(), 1 + 2 + 3 + 4 + 5);
        let copied = tempfile::tempdir().unwrap();
        dataset.copy_to(copied.path(), &mut |_| {}).unwrap();
        let copied = open(copied.path()).unwrap();
        // The class with one image has no validation image.
        assert_eq!((copied.classes.len(), copied.train.len(), copied.val.len()), (6, 141, 15));

        let classes: Vec<String> = (0..1000).map(|class| format!("class {class}")).collect();
        let root =
            tree(classes.iter().enumerate().flat_map(|(k, class)| images(class, 1 + k % 11)));
        let dataset = open(root.path()).unwrap();
        assert_eq!(dataset.classes.len(), 1000);
        assert_eq!(dataset.val.len(), (0..1000).filter(|k| k % 11 >= 9).count());
    }

    #[test]
    fn each_image_is_in_one_subset_in_order() {
        let root = tree(images("a", 20).chain(images("b", 31)));
        let dataset = open(root.path()).unwrap();
        for subset in [&dataset.train, &dataset.val] {
            assert!(paths(&dataset.images, subset).is_sorted());
            let images = &dataset.images;
            let is_of_class =
                |item: &Item| dataset.classes[images.class(*item)] == images.path(*item)[..1];
            assert!(subset.iter().all(is_of_class));
        }
        let mut all: Vec<String> = dataset.items().map(|item| dataset.images.path(item)).collect();
        all.sort_unstable();
        assert_eq!(all, images("a", 20).chain(images("b", 31)).collect::<Vec<_>>());
    }

    #[test]
    fn fractions_out_of_range_are_refused() {
        let root = tree(images("a", 20).chain(images("b", 1)));
        let with = |val_fraction| {
            Dataset::open(root.path(), &SplitOptions { val_fraction, ..SplitOptions::default() })
        };
        for fraction in [f64::NAN, -0.1, 1.0, f64::INFINITY] {
            refused(with(fraction), "val_fraction cannot be");
        }
        assert_eq!(with(0.0).unwrap().val, []);
        refused(with(0.01), "leaves no image to validate with");
        let almost_all = with(1.0 - f64::EPSILON / 2.0).unwrap();
        let class = |item: &Item| almost_all.images.class(*item);
        assert_eq!(almost_all.train.iter().map(class).collect::<Vec<_>>(), [0, 1]);
    }
}
