//! Which photos train and which validate.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use alexnet_core::files::write_atomically;
use alexnet_core::rng::{self, Purpose};
use serde::{Deserialize, Serialize};

use crate::folder::{self, Folder};
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
    /// Reads the names of a data set and splits it unless it comes split.
    ///
    /// `path` holds either `train/` and `val/`, each with the same class folders, or class folders (see [`folder::scan`]),
    /// or nothing but one folder that holds one of these, such as the top folder of an archive.
    ///
    /// Class folders are split as the tutorial's `split_data.py` does it: of a class's `n` photos `int(n * val_fraction)`
    /// validate. Which ones is a pure function of the seed, the index of the class and `n`.
    ///
    /// # Errors
    /// [`Error::Dataset`] for anything else, and when a class keeps no photo to train with or no class keeps one to
    /// validate with; [`Error::Option`] for a fraction outside `0.0..1.0`; [`Error::Io`].
    pub fn open(path: &Path, options: &SplitOptions) -> Result<Self> {
        if !(0.0..1.0).contains(&options.val_fraction) {
            return Err(Error::Option {
                option: "--val-fraction",
                value: options.val_fraction.to_string(),
                reason: "it must be at least 0 and below 1",
            });
        }
        let root = top(path)?;
        if is_split(&root)? { Self::already_split(root) } else { Self::by_seed(root, options) }
    }

    /// All photos, those that train first.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.train.iter().chain(&self.val)
    }

    /// Writes `split.json`.
    ///
    /// # Errors
    /// [`Error::Core`] when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| {
            let mut text = serde_json::to_vec_pretty(self)?;
            text.push(b'\n');
            file.write_all(&text)
        })?;
        Ok(())
    }

    /// Reads `split.json`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Dataset`] when it is no split or names a class that it does not list.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read(path).map_err(Error::io("read", path))?;
        let dataset: Self = serde_json::from_slice(&text)
            .map_err(|error| refuse(path, format!("it is no split: {error}")))?;
        if let Some(item) = dataset.items().find(|item| item.class >= dataset.classes.len()) {
            return Err(refuse(path, format!("`{}` is of class {}, which is not listed", item.path, item.class)));
        }
        Ok(dataset)
    }

    /// Copies the photos to `out/train/<class>/` and `out/val/<class>/`, as the tutorial's `split_data.py` does, with their
    /// names and any sub-folders of a class. `out` appears when all are copied, so it is never half a data set.
    ///
    /// # Errors
    /// [`Error::Exists`] when `out` is there and not empty; [`Error::Dataset`] when it lies in the data set itself;
    /// [`Error::Io`].
    pub fn copy_to(&self, out: &Path, progress: &mut dyn FnMut(&CopyProgress)) -> Result<()> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io("find", path));
        if absolute(out)?.starts_with(absolute(&self.root)?) {
            return Err(refuse(
                out,
                "the photos would be copied into their own folder; choose another".into(),
            ));
        }
        staged::folder(out, None, |partial| {
            for (class, name) in self.classes.iter().enumerate() {
                let of_class = |items: &'_ [Item]| items.iter().filter(|item| item.class == class).count();
                let total = of_class(&self.train) + of_class(&self.val);
                let halves = [("train", &self.train), ("val", &self.val)];
                let items = halves
                    .iter()
                    .flat_map(|(half, items)| items.iter().map(move |item| (half, item)))
                    .filter(|(_, item)| item.class == class);
                for (done, (half, item)) in items.enumerate() {
                    // The paths of a set that came split begin with its own `train/` or `val/`.
                    let inside = match item.path.split_once('/') {
                        Some((first, rest)) if first != name => rest,
                        _ => &item.path,
                    };
                    copy(&self.root.join(&item.path), &partial.join(half).join(inside))?;
                    progress(&CopyProgress { class: name, done: done + 1, total });
                }
            }
            Ok(())
        })
    }

    fn already_split(root: PathBuf) -> Result<Self> {
        let train = folder::scan(&root.join("train"))?;
        let val = folder::scan(&root.join("val"))?;
        let only_in = |a: &Folder, b: &Folder| -> Vec<String> {
            a.classes.iter().filter(|class| !b.classes.contains(class)).cloned().collect()
        };
        if train.classes != val.classes {
            let differences: Vec<String> = [("train", only_in(&train, &val)), ("val", only_in(&val, &train))]
                .into_iter()
                .filter(|(_, classes)| !classes.is_empty())
                .map(|(half, classes)| format!("only {half}/ has {}", classes.join(", ")))
                .collect();
            return Err(refuse(&root, format!("its classes differ: {}", differences.join("; "))));
        }
        let below = |half: &str, items: Vec<Item>| -> Vec<Item> {
            items.into_iter().map(|item| Item { path: format!("{half}/{}", item.path), ..item }).collect()
        };
        let (train, val, classes) = (below("train", train.items), below("val", val.items), train.classes);
        Ok(Self { root, classes, train, val })
    }

    fn by_seed(root: PathBuf, options: &SplitOptions) -> Result<Self> {
        let Folder { classes, items } = folder::scan(&root)?;
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for of_class in items.chunk_by(|a, b| a.class == b.class) {
            let (class, n) = (of_class[0].class, of_class.len());
            let validating = (n as f64 * options.val_fraction) as usize;
            if validating >= n {
                let reason = format!("class `{}` keeps no photo to train with", classes[class]);
                return Err(refuse(&root, format!("{reason}; add photos or lower --val-fraction")));
            }
            let mut validates = vec![false; n];
            for index in &rng::permutation(options.seed, Purpose::Split, 0, class as u64, n)[..validating] {
                validates[*index] = true;
            }
            for (item, validates) in of_class.iter().zip(validates) {
                if validates { &mut val } else { &mut train }.push(item.clone());
            }
        }
        if val.is_empty() {
            let reason = format!("--val-fraction {} leaves no photo to validate with", options.val_fraction);
            return Err(refuse(&root, format!("{reason}; add photos or raise it")));
        }
        Ok(Self { root, classes, train, val })
    }
}

/// Descends once if all that `path` holds is one folder of folders.
fn top(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        let reason = if path.exists() { "it is not a folder" } else { "there is no such folder" };
        return Err(refuse(path, reason.into()));
    }
    if let [only] = &folder::subfolders(path)?[..] {
        let below = path.join(only);
        if !folder::subfolders(&below)?.is_empty() && !is_half(path, only)? {
            return Ok(below);
        }
    }
    Ok(path.to_owned())
}

/// Whether the folder holds `train/` and `val/`.
fn is_split(root: &Path) -> Result<bool> {
    match (is_half(root, "train")?, is_half(root, "val")?) {
        (true, true) => Ok(true),
        (false, false) => Ok(false),
        (train, _) => {
            let (found, missing) = if train { ("train", "val") } else { ("val", "train") };
            let whole = root.join(found);
            let reason = format!(
                "it has {found}/ but no class folders in {missing}/; add them, or split {} by seed",
                whole.display()
            );
            Err(refuse(root, reason))
        }
    }
}

/// Whether `name` is a folder of folders: a class called `train` (beside `bus` and `tram`) holds photos.
fn is_half(root: &Path, name: &str) -> Result<bool> {
    let half = root.join(name);
    Ok(matches!(name, "train" | "val") && half.is_dir() && !folder::subfolders(&half)?.is_empty())
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
