//! Which photos train and which validate.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use alexnet_core::files::write_atomically;
use alexnet_core::rng::{self, Purpose};
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use crate::folder;
use crate::halves::Role;
use crate::listing::Listing;
use crate::{Error, Result, staged};

/// A photo with its class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Relative to [`Dataset::root`], with `/` between the parts.
    pub path: String,
    /// Index in [`Dataset::classes`].
    pub class: usize,
}

/// A data set with its split: the content of `split.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// The folder that the paths start from.
    pub root: PathBuf,
    /// Class names, sorted.
    pub classes: Vec<String>,
    /// Photos to train with, by class, then by name.
    pub train: Vec<Item>,
    /// Photos to validate with, by class, then by name.
    pub val: Vec<Item>,
    /// Images kept for tests, by class, then by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<Item>,
}

/// The content of `split.json`.
#[derive(Serialize, Deserialize)]
struct Saved<D> {
    #[serde(flatten)]
    dataset: D,
    #[serde(default)]
    crc32: Option<String>,
}

/// How class folders are split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitOptions {
    /// The share of each class that validates, rounded down to whole photos; at least 0, below 1.
    pub val_fraction: f64,
    /// Which photos they are.
    pub seed: u64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { val_fraction: 0.1, seed: 0 }
    }
}

/// How far [`Dataset::copy_to`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyProgress<'a> {
    /// The class being copied.
    pub class: &'a str,
    /// Its photos copied so far.
    pub done: usize,
    /// Its photos in all.
    pub total: usize,
}

impl Dataset {
    /// [`Listing::read`] and [`Listing::split`].
    ///
    /// # Errors
    /// As these.
    pub fn open(path: &Path, options: &SplitOptions) -> Result<Self> {
        Listing::read(path)?.split(options)
    }

    /// Whether the images came split into halves to train and to validate with, which no seed changes.
    pub fn comes_split(&self) -> bool {
        let [train, val] = [&self.train, &self.val].map(|items| items.first().map(first_folder));
        self.in_halves() && val.is_some() && train != val
    }

    /// Whether the paths begin with the folder of a half, not with that of a class.
    fn in_halves(&self) -> bool {
        in_halves(self.all(), &self.classes)
    }

    /// Splits class folders anew so that the photos of each of `groups` are in one half; a photo is in at most one group, and
    /// named by its index in [`Dataset::items`]. Classes get as many photos to validate with as [`Dataset::open`] gives them,
    /// or as near to it as whole groups allow. Without groups the split is that of [`Dataset::open`] with these options.
    /// Photos that came split stay as they are.
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
        items.sort_by(|(a, _), (b, _)| {
            (a.class, folder::by_folder(&a.path)).cmp(&(b.class, folder::by_folder(&b.path)))
        });
        let (items, grouped): (Vec<Item>, Vec<Option<usize>>) = items.into_iter().unzip();
        let mut units = vec![Vec::new(); groups.len()];
        for (item, group) in grouped.into_iter().enumerate() {
            match group {
                Some(group) => units[group].push(item),
                None => units.push(vec![item]),
            }
        }
        let dataset = Self::divided(self.root, self.classes, (items, self.test), &units, options)?;
        match dataset.val.is_empty() {
            true => Err(Error::NoneValidates { path: dataset.root, fraction: options.val_fraction }),
            false => Ok(dataset),
        }
    }

    /// The photos to train and to validate with, in this order.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.train.iter().chain(&self.val)
    }

    /// [`Dataset::items`], and those kept for tests.
    pub fn all(&self) -> impl Iterator<Item = &Item> {
        self.items().chain(&self.test)
    }

    /// CRC-32 of the classes and of what is in each half. The folder does not count: the images may move.
    pub fn checksum(&self) -> String {
        let mut hasher = Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        self.classes.iter().for_each(|class| add(class));
        for (half, items) in [("train", &self.train), ("val", &self.val), ("test", &self.test)] {
            for Item { path, class } in items {
                add(half);
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
    /// [`Error::Io`]; [`Error::Dataset`] when it is no split, has changed since it was written, or names a class that it does not
    /// list. Splits of earlier versions carry no checksum.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read(path).map_err(Error::io("read", path))?;
        let Saved { dataset, crc32 }: Saved<Self> = serde_json::from_slice(&text)
            .map_err(|error| refuse(path, format!("it is no split: {error}")))?;
        if crc32.is_some_and(|written| written != dataset.checksum()) {
            let reason = "it has changed since it was written; put back the file as it was".into();
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

    /// Copies the images to `out/train/<class>/` and `out/val/<class>/`, as the tutorial's `split_data.py`
    /// does, with their names and any sub-folders of a class, and those kept for tests to `out/test/<class>/`. `out`
    /// appears when all are copied, so it is never half a data set.
    ///
    /// # Errors
    /// [`Error::Exists`] when `out` is there and not empty; [`Error::Dataset`] when it lies in the data set
    /// itself; [`Error::Io`].
    pub fn copy_to(&self, out: &Path, progress: &mut dyn FnMut(&CopyProgress)) -> Result<()> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io("find", path));
        if absolute(out)?.starts_with(absolute(&self.root)?) {
            return Err(refuse(
                out,
                "the photos would be copied into their own folder; choose another".into(),
            ));
        }
        let in_halves = self.in_halves();
        let mut halves = vec![(Role::Train, &self.train), (Role::Val, &self.val)];
        halves.extend((!self.test.is_empty()).then_some((Role::Test, &self.test)));
        staged::folder(out, None, |partial| {
            for (class, name) in self.classes.iter().enumerate() {
                // A class of which no photo validates is one all the same.
                for (half, _) in &halves {
                    let folder = partial.join(half.folder()).join(name);
                    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
                }
                let of_class = |item: &&Item| item.class == class;
                let total = halves.iter().map(|(_, items)| items.iter().filter(of_class).count()).sum();
                let items = halves
                    .iter()
                    .flat_map(|(half, items)| items.iter().filter(of_class).map(move |item| (half, item)));
                for (done, (half, item)) in items.enumerate() {
                    let to = partial.join(half.folder()).join(below_half(&item.path, in_halves));
                    copy(&self.root.join(&item.path), &to)?;
                    progress(&CopyProgress { class: name, done: done + 1, total });
                }
            }
            Ok(())
        })
    }

    /// Divides `items`, sorted by class, and leaves `test` alone.
    pub(crate) fn divided(
        root: PathBuf,
        classes: Vec<String>,
        (items, test): (Vec<Item>, Vec<Item>),
        units: &[Vec<usize>],
        options: &SplitOptions,
    ) -> Result<Self> {
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
        Ok(Self { root, classes, train, val, test })
    }
}

/// Which of `items`, sorted by class, validate. `units` share the items out: those of one stay together.
///
/// Units are taken in the order in which the permutation of a class meets them, unless one would give a class more than its
/// share; then further ones, if that brings the classes nearer to their shares. Without larger units, the first of each
/// permutation validate.
fn validating(items: &[Item], classes: usize, units: &[Vec<usize>], options: &SplitOptions) -> Vec<bool> {
    let mut sizes = vec![0; classes];
    for item in items {
        sizes[item.class] += 1;
    }
    // Always below n, as the fraction is below 1, in floating point too: each class keeps a photo to train with.
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

/// Whether the paths begin with the folder of a half, not with that of a class. All images of one half may be of the one
/// class that is named like it, but not all of a data set.
pub(crate) fn in_halves<'a>(mut items: impl Iterator<Item = &'a Item>, classes: &[String]) -> bool {
    items.any(|item| first_folder(item) != classes[item.class])
}

/// The path below the folder of a half: it begins with a class.
pub(crate) fn below_half(path: &str, in_halves: bool) -> &str {
    path.split_once('/').filter(|_| in_halves).map_or(path, |(_, below)| below)
}

fn first_folder(item: &Item) -> &str {
    item.path.split_once('/').map_or("", |(first, _)| first)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    fs::copy(from, to).map_err(Error::io("copy", from))?;
    Ok(())
}

fn refuse(path: &Path, reason: String) -> Error {
    Error::Dataset { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes files that hold their own path.
    fn tree(paths: impl IntoIterator<Item = impl AsRef<str>>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let file = root.path().join(path.as_ref());
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, path.as_ref()).unwrap();
        }
        root
    }

    fn photos<'a>(class: &'a str, count: usize) -> impl Iterator<Item = String> + 'a {
        (0..count).map(move |k| format!("{class}/{k:03}.jpg"))
    }

    fn open(root: &Path) -> Result<Dataset> {
        Dataset::open(root, &SplitOptions::default())
    }

    fn paths(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| item.path.as_str()).collect()
    }

    #[track_caller]
    fn refused(result: Result<Dataset>, cause: &str) {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(cause), "expected `{cause}`: {message}");
    }

    /// The sizes of the flower photos' classes, and what `int(n * 0.1)` of the tutorial makes of them.
    #[test]
    fn the_flowers_split_into_3306_and_364() {
        let sizes = [633, 898, 641, 699, 799];
        let root = tree(sizes.iter().zip(["a", "b", "c", "d", "e"]).flat_map(|(n, class)| photos(class, *n)));
        let dataset = open(root.path()).unwrap();
        assert_eq!((dataset.train.len(), dataset.val.len()), (3306, 364));
        let of_class = |class| dataset.val.iter().filter(|item| item.class == class).count();
        assert_eq!([0, 1, 2, 3, 4].map(of_class), [63, 89, 64, 69, 79]);
    }

    /// A seed must mean the same photos next year.
    #[test]
    fn a_seed_keeps_its_meaning() {
        let root = tree(photos("a", 20).chain(photos("b", 31)));
        let val = |seed| {
            let options = SplitOptions { seed, ..SplitOptions::default() };
            paths(&Dataset::open(root.path(), &options).unwrap().val).join(" ")
        };
        assert_eq!(val(0), "a/009.jpg a/011.jpg b/003.jpg b/007.jpg b/015.jpg");
        assert_eq!(val(1), "a/010.jpg a/012.jpg b/008.jpg b/018.jpg b/030.jpg");
    }

    /// `groups` of paths as `keep_together` wants them.
    fn together(dataset: Dataset, groups: &[Vec<String>], options: &SplitOptions) -> Result<Dataset> {
        let index = |path: &String| dataset.items().position(|item| item.path == *path).unwrap();
        let groups: Vec<Vec<usize>> = groups.iter().map(|group| group.iter().map(index).collect()).collect();
        dataset.keep_together(&groups, options)
    }

    #[test]
    fn without_groups_the_split_is_the_plain_one() {
        let root =
            tree(photos("a", 20).chain(photos("b", 31)).chain(photos("b/sub", 9)).chain(photos("c", 1)));
        for seed in 0..20 {
            let options = SplitOptions { seed, val_fraction: 0.25 };
            let plain = Dataset::open(root.path(), &options).unwrap();
            assert_eq!(plain.clone().keep_together(&[], &options).unwrap(), plain);
            // Each photo a group of its own is no group.
            let alone: Vec<Vec<usize>> = (0..plain.items().count()).map(|item| vec![item]).collect();
            assert_eq!(plain.clone().keep_together(&alone, &options).unwrap(), plain);
        }
    }

    #[test]
    fn groups_stay_together_and_classes_keep_their_shares() {
        let root = tree(photos("a", 40).chain(photos("b", 55)).chain(photos("c", 23)));
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

    /// Of ten photos two are to validate, and they come in a group of three, one of five, and one of two.
    #[test]
    fn whole_groups_come_as_near_as_they_can() {
        let root = tree(photos("a", 10).chain(photos("b", 10)));
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
    fn photos_that_come_split_stay_so() {
        let root = tree(["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "val/b/2.jpg"]);
        let dataset = open(root.path()).unwrap();
        assert!(dataset.comes_split());
        let kept = dataset.clone().keep_together(&[vec![0, 2]], &SplitOptions::default()).unwrap();
        assert_eq!(kept, dataset);
        let classes_of_these_names =
            tree(photos("train", 20).chain(photos("val", 20)).chain(photos("bus", 20)));
        assert!(!open(classes_of_these_names.path()).unwrap().comes_split());
    }

    /// Two to a thousand classes, names with spaces and of any script, counts that differ.
    #[test]
    fn any_folders_of_ones_own_are_split() {
        let names = ["common daisy", "Löwenzahn", "薔薇", "подсолнух", "tulipes d'été", "🌷"];
        let root = tree(names.iter().enumerate().flat_map(|(k, name)| photos(name, 1 + 10 * k)));
        let dataset = open(root.path()).unwrap();
        let mut sorted = names.map(String::from);
        sorted.sort_unstable();
        assert_eq!(dataset.classes, sorted);
        assert_eq!(dataset.val.len(), 1 + 2 + 3 + 4 + 5);
        let copied = tempfile::tempdir().unwrap();
        dataset.copy_to(copied.path(), &mut |_| {}).unwrap();
        let copied = open(copied.path()).unwrap();
        // The class of one photo has none to validate with.
        assert_eq!((copied.classes.len(), copied.train.len(), copied.val.len()), (6, 141, 15));

        let classes: Vec<String> = (0..1000).map(|class| format!("class {class}")).collect();
        let root = tree(classes.iter().enumerate().flat_map(|(k, class)| photos(class, 1 + k % 11)));
        let dataset = open(root.path()).unwrap();
        assert_eq!(dataset.classes.len(), 1000);
        assert_eq!(dataset.val.len(), (0..1000).filter(|k| k % 11 >= 9).count());
    }

    #[test]
    fn each_photo_is_in_one_half_in_order() {
        let root = tree(photos("a", 20).chain(photos("b", 31)));
        let dataset = open(root.path()).unwrap();
        for half in [&dataset.train, &dataset.val] {
            assert!(paths(half).is_sorted());
            assert!(half.iter().all(|item| dataset.classes[item.class] == item.path[..1]));
        }
        let mut all: Vec<&str> = dataset.items().map(|item| item.path.as_str()).collect();
        all.sort_unstable();
        assert_eq!(all, photos("a", 20).chain(photos("b", 31)).collect::<Vec<_>>());
    }

    #[test]
    fn fractions_without_sense_are_refused() {
        let root = tree(photos("a", 20).chain(photos("b", 1)));
        let with = |val_fraction| Dataset::open(root.path(), &SplitOptions { val_fraction, seed: 0 });
        for fraction in [f64::NAN, -0.1, 1.0, f64::INFINITY] {
            refused(with(fraction), "val_fraction cannot be");
        }
        refused(with(0.0), "leaves no image to validate with");
        refused(with(0.01), "leaves no image to validate with");
        let almost_all = with(1.0 - f64::EPSILON / 2.0).unwrap();
        assert_eq!(almost_all.train.iter().map(|item| item.class).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn train_and_val_are_taken_as_they_are() {
        let root = tree(["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "val/b/2.jpg", "val/b/sub/3.jpg"]);
        let dataset = open(root.path()).unwrap();
        assert_eq!(dataset.root, root.path());
        assert_eq!(dataset.classes, ["a", "b"]);
        assert_eq!(paths(&dataset.train), ["train/a/1.jpg", "train/b/1.jpg"]);
        assert_eq!(paths(&dataset.val), ["val/a/2.jpg", "val/b/2.jpg", "val/b/sub/3.jpg"]);
    }

    #[test]
    fn halves_that_do_not_fit_are_refused() {
        let root = tree(["train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/a/2.jpg", "val/B/2.jpg"]);
        refused(open(root.path()), "only train/ has b, c; only val/ has B");
        let root = tree(["train/a/1.jpg", "train/b/1.jpg", "val/1.jpg"]);
        refused(open(root.path()), "it has train/ but no class folders in val/");
        let root = tree(["train/a/1.jpg", "train/b/1.jpg", "val/a/notes.txt", "val/b/notes.txt"]);
        refused(open(root.path()), "there is no image in val/");
        let root = tree(["val/a/1.jpg", "val/b/1.jpg"]);
        refused(open(root.path()), "it has val/ but no class folders in train/");
    }

    #[test]
    fn train_may_be_a_class() {
        let root = tree(photos("train", 20).chain(photos("bus", 20)));
        assert_eq!(open(root.path()).unwrap().classes, ["bus", "train"]);
    }

    #[test]
    fn a_lone_folder_is_entered() {
        let root = tree(photos("top/a", 10).chain(photos("top/b", 10)));
        let dataset = open(root.path()).unwrap();
        assert_eq!(dataset.root, root.path().join("top"));
        assert_eq!(dataset.val.len(), 2);
        let root = tree(["x/train/a/1.jpg", "x/train/b/1.jpg", "x/val/a/2.jpg", "x/val/b/2.jpg"]);
        assert_eq!(open(root.path()).unwrap().root, root.path().join("x"));
        refused(open(tree(["a/1.jpg"]).path()), "one class, `a`");
    }

    #[test]
    fn what_is_no_folder_is_refused() {
        refused(
            open(Path::new("no/such/folder")),
            "no/such/folder is not a data set: there is no such folder",
        );
        let root = tree(["a.txt"]);
        refused(open(&root.path().join("a.txt")), "it is not a folder");
    }

    #[test]
    fn a_split_survives_its_file() {
        let root = tree(photos("a", 10).chain(photos("b", 10)));
        let dataset = open(root.path()).unwrap();
        let file = root.path().join("split.json");
        dataset.save(&file).unwrap();
        assert_eq!(Dataset::load(&file).unwrap(), dataset);

        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, &text[..text.len() / 2]).unwrap();
        refused(Dataset::load(&file), "it is no split");
        fs::write(&file, text.replace("crc32", "other").replace("\"class\": 1", "\"class\": 2")).unwrap();
        refused(Dataset::load(&file), "is of class 2, which is not listed");
    }

    #[test]
    fn a_split_that_has_changed_is_refused_unless_its_folder_alone_has() {
        let root = tree(photos("a", 10).chain(photos("b", 10)));
        let dataset = open(root.path()).unwrap();
        let file = root.path().join("split.json");
        dataset.save(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let (path, class) = (format!("{:?}", dataset.val[1].path), format!("{:?}", dataset.train[0].path));
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
        refused(Dataset::load(&file), "it has changed since it was written");

        let moved = Dataset { root: "elsewhere".into(), ..dataset.clone() };
        assert_eq!(moved.checksum(), dataset.checksum());
        // As an earlier version wrote it.
        fs::write(&file, serde_json::to_vec_pretty(&dataset).unwrap()).unwrap();
        assert_eq!(Dataset::load(&file).unwrap(), dataset);
    }

    #[test]
    fn a_copy_opens_as_the_same_split() {
        let root = tree(photos("a", 10).chain(photos("b", 20)).chain(["b/sub/000.jpg".to_owned()]));
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
        for (half, before, after) in
            [("train/", &dataset.train, &copied.train), ("val/", &dataset.val, &copied.val)]
        {
            let stripped: Vec<&str> =
                after.iter().map(|item| item.path.strip_prefix(half).unwrap()).collect();
            assert_eq!(stripped, paths(before));
        }
        let sub = if out.join("val/b/sub/000.jpg").exists() { "val" } else { "train" };
        assert_eq!(fs::read_to_string(out.join(sub).join("b/sub/000.jpg")).unwrap(), "b/sub/000.jpg");

        // A copy of the copy has the same paths: no train/train.
        let again = parent.path().join("again");
        copied.copy_to(&again, &mut |_| {}).unwrap();
        assert_eq!(open(&again).unwrap().val, copied.val);
    }

    #[test]
    fn copies_overwrite_nothing() {
        let root = tree(photos("a", 10).chain(photos("b", 10)));
        let dataset = open(root.path()).unwrap();
        let out = tree(["mine.txt"]);
        let error = dataset.copy_to(out.path(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        let error = dataset.copy_to(&root.path().join("copy"), &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("into their own folder"), "{error}");

        let empty = tempfile::tempdir().unwrap();
        dataset.copy_to(empty.path(), &mut |_| {}).unwrap();
        assert_eq!(open(empty.path()).unwrap().val.len(), 2);
    }

    /// A photo that cannot be copied leaves no half of a data set.
    #[test]
    fn a_failed_copy_leaves_nothing() {
        let root = tree(photos("a", 10).chain(photos("b", 10)));
        let dataset = open(root.path()).unwrap();
        fs::remove_file(root.path().join("b/005.jpg")).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("copy");
        let error = dataset.copy_to(&out, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("b/005.jpg"), "{error}");
        assert!(!out.exists() && !parent.path().join(".copy.partial").exists());
    }
}
