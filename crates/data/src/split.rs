//! Splits the images of each class into training and validation images by a seed; groups of images can be kept together.

use std::{collections::BTreeMap, path::PathBuf};

use alexnet_core::rng::{self, Purpose};

use crate::{
    Error, Result,
    dataset::{Dataset, Item, folder::by_folder},
};

/// Options of a split of class folders.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitOptions {
    /// The share of each class that validates, rounded down to whole images; at least 0, below 1.
    pub val_fraction: f64,
    /// Seed of the permutations that choose the images.
    pub seed: u64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { val_fraction: 0.1, seed: 0 }
    }
}

impl Dataset {
    /// Splits class folders again so that the images of each of `groups` are in one half. Groups hold indices in
    /// [`Dataset::items`]; an image is in at most one. Each class gets as many validation images as from [`Dataset::open`], or as
    /// near to it as whole groups allow. Without groups the split is that of [`Dataset::open`] with these options. A data set
    /// that came split stays as it is.
    ///
    /// # Errors
    /// [`Error::NoneValidates`]; [`Error::Invalid`] for a fraction outside `0.0..1.0`.
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
        let mut items: Vec<(Item, Option<usize>)> =
            self.train.into_iter().chain(self.val).zip(grouped).collect();
        // The order of `folder::scan`, which the seed's permutations refer to.
        items.sort_by(|(a, _), (b, _)| (a.class, by_folder(&a.path)).cmp(&(b.class, by_folder(&b.path))));
        let (items, grouped): (Vec<Item>, Vec<Option<usize>>) = items.into_iter().unzip();
        let mut units = vec![Vec::new(); groups.len()];
        for (item, group) in grouped.into_iter().enumerate() {
            match group {
                Some(group) => units[group].push(item),
                None => units.push(vec![item]),
            }
        }
        let dataset = divide(self.root, self.classes, (items, self.test), &units, options)?;
        match dataset.val.is_empty() {
            true => Err(Error::NoneValidates { path: dataset.root, fraction: options.val_fraction }),
            false => Ok(dataset),
        }
    }
}

/// Splits `items`, sorted by class; `test` stays as it is. `units` are as in [`validating`].
pub(crate) fn divide(
    root: PathBuf,
    classes: Vec<String>,
    (items, test): (Vec<Item>, Vec<Item>),
    units: &[Vec<usize>],
    options: &SplitOptions,
) -> Result<Dataset> {
    if !(0.0..1.0).contains(&options.val_fraction) {
        return Err(Error::Invalid {
            field: "val_fraction",
            value: options.val_fraction.to_string(),
            reason: "it must be at least 0 and below 1",
        });
    }
    let (mut train, mut val) = (Vec::new(), Vec::new());
    let validates = validating(&items, classes.len(), units, options);
    for (item, validates) in items.into_iter().zip(validates) {
        if validates { &mut val } else { &mut train }.push(item);
    }
    Ok(Dataset { root, classes, train, val, test })
}

/// Which of `items`, sorted by class, validate. `units` are a partition of the items: those of one unit stay together.
///
/// Units are taken in the order in which the permutation of a class meets them, unless one would give a class more than its
/// share; then further ones, if that brings the classes nearer to their shares. Without larger units, the first of each
/// permutation validate.
fn validating(items: &[Item], classes: usize, units: &[Vec<usize>], options: &SplitOptions) -> Vec<bool> {
    let mut sizes = vec![0; classes];
    for item in items {
        sizes[item.class] += 1;
    }
    // Always below n, as the fraction is below 1, in floating point too: each class keeps an image to train with.
    let shares: Vec<usize> = sizes.iter().map(|n| (*n as f64 * options.val_fraction) as usize).collect();
    let mut unit_of = vec![0; items.len()];
    for (unit, members) in units.iter().enumerate() {
        for member in members {
            unit_of[*member] = unit;
        }
    }
    let mut order = Vec::with_capacity(items.len());
    let mut first = 0;
    for of_class in items.chunk_by(|a, b| a.class == b.class) {
        let permutation =
            rng::permutation(options.seed, Purpose::Split, 0, of_class[0].class as u64, of_class.len());
        order.extend(permutation.into_iter().map(|index| unit_of[first + index]));
        first += of_class.len();
    }
    let mut counts = vec![0; classes];
    let mut taken = vec![false; units.len()];
    for filling in [true, false] {
        for unit in &order {
            let mut more = BTreeMap::new();
            for member in &units[*unit] {
                *more.entry(items[*member].class).or_insert(0) += 1;
            }
            let suits = if filling {
                more.iter().all(|(class, more)| counts[*class] + more <= shares[*class])
            } else {
                let off = |class: usize, count: usize| count.abs_diff(shares[class]);
                let now: usize = more.keys().map(|class| off(*class, counts[*class])).sum();
                let then: usize = more.iter().map(|(class, more)| off(*class, counts[*class] + more)).sum();
                then < now && more.iter().all(|(class, more)| counts[*class] + more < sizes[*class])
            };
            if suits && !taken[*unit] {
                taken[*unit] = true;
                more.iter().for_each(|(class, more)| counts[*class] += more);
            }
        }
    }
    unit_of.into_iter().map(|unit| taken[unit]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{images, open, paths, refused, tree};

    /// `groups` of paths as `keep_together` wants them.
    fn together(dataset: Dataset, groups: &[Vec<String>], options: &SplitOptions) -> Result<Dataset> {
        let index = |path: &String| dataset.items().position(|item| item.path == *path).unwrap();
        let groups: Vec<Vec<usize>> = groups.iter().map(|group| group.iter().map(index).collect()).collect();
        dataset.keep_together(&groups, options)
    }

    /// The sizes of the flower photos' classes, and what `int(n * 0.1)` of the tutorial makes of them.
    #[test]
    fn the_flowers_split_into_3306_and_364() {
        let sizes = [633, 898, 641, 699, 799];
        let root = tree(sizes.iter().zip(["a", "b", "c", "d", "e"]).flat_map(|(n, class)| images(class, *n)));
        let dataset = open(root.path()).unwrap();
        assert_eq!((dataset.train.len(), dataset.val.len()), (3306, 364));
        let of_class = |class| dataset.val.iter().filter(|item| item.class == class).count();
        assert_eq!([0, 1, 2, 3, 4].map(of_class), [63, 89, 64, 69, 79]);
    }

    /// A seed must mean the same images next year.
    #[test]
    fn a_seed_keeps_its_meaning() {
        let root = tree(images("a", 20).chain(images("b", 31)));
        let val = |seed| {
            let options = SplitOptions { seed, ..SplitOptions::default() };
            paths(&Dataset::open(root.path(), &options).unwrap().val).join(" ")
        };
        assert_eq!(val(0), "a/009.jpg a/011.jpg b/003.jpg b/007.jpg b/015.jpg");
        assert_eq!(val(1), "a/010.jpg a/012.jpg b/008.jpg b/018.jpg b/030.jpg");
    }

    #[test]
    fn without_groups_the_split_is_the_plain_one() {
        let root =
            tree(images("a", 20).chain(images("b", 31)).chain(images("b/sub", 9)).chain(images("c", 1)));
        for seed in 0..20 {
            let options = SplitOptions { seed, val_fraction: 0.25 };
            let plain = Dataset::open(root.path(), &options).unwrap();
            assert_eq!(plain.clone().keep_together(&[], &options).unwrap(), plain);
            // Each image a group of its own is no group.
            let alone: Vec<Vec<usize>> = (0..plain.items().count()).map(|item| vec![item]).collect();
            assert_eq!(plain.clone().keep_together(&alone, &options).unwrap(), plain);
        }
    }

    #[test]
    fn groups_stay_together_and_classes_keep_their_shares() {
        let root = tree(images("a", 40).chain(images("b", 55)).chain(images("c", 23)));
        let name = |class: &str, k: usize| format!("{class}/{k:03}.jpg");
        // Within classes and across them, of two to six.
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
            let options = SplitOptions { seed, val_fraction: 0.2 };
            let plain = Dataset::open(root.path(), &options).unwrap();
            let split = together(plain.clone(), &groups, &options).unwrap();
            for group in &groups {
                let validate =
                    group.iter().filter(|path| split.val.iter().any(|item| item.path == **path)).count();
                assert!(validate == 0 || validate == group.len(), "{group:?}");
            }
            let of_class = |class| split.val.iter().filter(|item| item.class == class).count();
            assert_eq!([0, 1, 2].map(of_class), [8, 11, 4]);
            assert!(paths(&split.train).is_sorted() && paths(&split.val).is_sorted());
            assert_eq!(split.items().count(), 118);
            differ += usize::from(split != plain);
        }
        assert!(differ > 25, "{differ}");
    }

    /// Of ten images two are to validate, and they come in a group of three, one of five, and one of two.
    #[test]
    fn whole_groups_come_as_near_as_they_can() {
        let root = tree(images("a", 10).chain(images("b", 10)));
        let options = SplitOptions { val_fraction: 0.2, seed: 0 };
        let group = |range: std::ops::Range<usize>| range.map(|k| format!("a/{k:03}.jpg")).collect();
        let counts = |groups: &[Vec<String>]| {
            let split = together(Dataset::open(root.path(), &options).unwrap(), groups, &options).unwrap();
            [0, 1].map(|class| split.val.iter().filter(|item| item.class == class).count())
        };
        assert_eq!(counts(&[group(0..5), group(5..8), group(8..10)]), [2, 2]);
        assert_eq!(counts(&[group(0..3), group(3..10)]), [3, 2]);
        // Five are three too many, none are two too few.
        assert_eq!(counts(&[group(0..5), group(5..10)]), [0, 2]);
        // A class that is one group has to train.
        assert_eq!(counts(&[group(0..10)]), [0, 2]);
    }

    #[test]
    fn data_sets_that_come_split_stay_so() {
        let root = tree(["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "val/b/2.jpg"]);
        let dataset = open(root.path()).unwrap();
        assert!(dataset.comes_split());
        let kept = dataset.clone().keep_together(&[vec![0, 2]], &SplitOptions::default()).unwrap();
        assert_eq!(kept, dataset);
        let classes_of_these_names =
            tree(images("train", 20).chain(images("val", 20)).chain(images("bus", 20)));
        assert!(!open(classes_of_these_names.path()).unwrap().comes_split());
    }

    /// Two to a thousand classes, names with spaces and of any script, counts that differ.
    #[test]
    fn any_folders_of_ones_own_are_split() {
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
        // The class of one image has none to validate with.
        assert_eq!((copied.classes.len(), copied.train.len(), copied.val.len()), (6, 141, 15));

        let classes: Vec<String> = (0..1000).map(|class| format!("class {class}")).collect();
        let root = tree(classes.iter().enumerate().flat_map(|(k, class)| images(class, 1 + k % 11)));
        let dataset = open(root.path()).unwrap();
        assert_eq!(dataset.classes.len(), 1000);
        assert_eq!(dataset.val.len(), (0..1000).filter(|k| k % 11 >= 9).count());
    }

    #[test]
    fn each_image_is_in_one_half_in_order() {
        let root = tree(images("a", 20).chain(images("b", 31)));
        let dataset = open(root.path()).unwrap();
        for half in [&dataset.train, &dataset.val] {
            assert!(paths(half).is_sorted());
            assert!(half.iter().all(|item| dataset.classes[item.class] == item.path[..1]));
        }
        let mut all: Vec<&str> = dataset.items().map(|item| item.path.as_str()).collect();
        all.sort_unstable();
        assert_eq!(all, images("a", 20).chain(images("b", 31)).collect::<Vec<_>>());
    }

    #[test]
    fn fractions_out_of_range_are_refused() {
        let root = tree(images("a", 20).chain(images("b", 1)));
        let with = |val_fraction| Dataset::open(root.path(), &SplitOptions { val_fraction, seed: 0 });
        for fraction in [f64::NAN, -0.1, 1.0, f64::INFINITY] {
            refused(with(fraction), "val_fraction cannot be");
        }
        refused(with(0.0), "leaves no image to validate with");
        refused(with(0.01), "leaves no image to validate with");
        let almost_all = with(1.0 - f64::EPSILON / 2.0).unwrap();
        assert_eq!(almost_all.train.iter().map(|item| item.class).collect::<Vec<_>>(), [0, 1]);
    }
}
