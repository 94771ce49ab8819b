//! Detects folders that are already split: which sub-folder holds the training, validation and test
//! images.

use std::path::Path;

use alexnet_core::text::shown_path;
use serde::{Deserialize, Serialize};

use super::folder::{loose_images, subfolders};
use crate::{Error, Result};

/// A subset of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subset {
    /// Training images.
    Train,
    /// Validation images, evaluated after each epoch.
    Val,
    /// Test images, evaluated after training.
    Test,
}

impl Subset {
    const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The accepted names of the folder, in lower case. The first one is the name that this crate
    /// writes.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training"],
            Self::Val => &["val", "valid", "validation"],
            Self::Test => &["test", "testing"],
        }
    }

    /// Returns the name of the folder that this crate writes.
    pub fn folder(self) -> &'static str {
        self.names()[0]
    }

    /// Returns the subset whose accepted names include this folder name, in any case.
    pub fn of(name: &str) -> Option<Self> {
        let is_named =
            |subset: &Self| subset.names().iter().any(|known| known.eq_ignore_ascii_case(name));
        Self::ALL.into_iter().find(is_named)
    }
}

/// The folders of a data set that is already split. Each holds one folder per class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subsets {
    /// Name of the folder of the training subset.
    pub train: String,
    /// Name of the folder of the validation subset. It may be missing if there is a test subset.
    pub val: Option<String>,
    /// Name of the folder of the test subset.
    pub test: Option<String>,
    /// Names of the other folders, which are ignored.
    pub others: Vec<String>,
}

/// Finds the subset folders in `root`. Returns `None` when the sub-folders of `root` are classes.
///
/// The data set is split if it has a training folder and a validation or test folder, both with
/// class folders. It is also split if a training folder with class folders is next to a folder of
/// unlabeled test images; that folder is then one of the `others`. A class may have the name of a
/// subset if it holds images itself and there are classes with other names.
///
/// # Errors
/// [`Error::Dataset`] if two folders are the same subset, if there is only one subset, or if the
/// subsets have no class folders; [`Error::Io`].
pub fn find(root: &Path) -> Result<Option<Subsets>> {
    // Subset folders with and without class folders in them.
    let (mut nested, mut flat) = (Vec::new(), Vec::new());
    let mut others = Vec::new();
    for name in subfolders(root)? {
        match Subset::of(&name) {
            None => others.push(name),
            Some(subset) if subfolders(&root.join(&name))?.is_empty() => flat.push((subset, name)),
            Some(subset) => nested.push((subset, name)),
        }
    }
    let has =
        |found: &[(Subset, String)], wanted| found.iter().any(|(subset, _)| *subset == wanted);
    let is_split =
        has(&nested, Subset::Train) && (has(&nested, Subset::Val) || has(&nested, Subset::Test));
    let unlabeled_test = others.is_empty() && has(&flat, Subset::Test) && !has(&flat, Subset::Val);
    if is_split || has(&nested, Subset::Train) && unlabeled_test {
        let mut one = |wanted: Subset| -> Result<Option<String>> {
            let mut named =
                nested.extract_if(.., |(subset, _)| *subset == wanted).map(|(_, name)| name);
            match (named.next(), named.next()) {
                (Some(a), Some(b)) => {
                    let reason =
                        format!("{a}/ and {b}/ are both its {} subset; keep one", wanted.folder());
                    Err(refuse(root, reason))
                }
                (name, _) => Ok(name),
            }
        };
        let [train, val, test] = [one(Subset::Train)?, one(Subset::Val)?, one(Subset::Test)?];
        others.extend(flat.into_iter().map(|(_, name)| name));
        return Ok(train.map(|train| Subsets { train, val, test, others }));
    }
    for (subset, name) in &nested {
        let folder = root.join(name);
        if loose_images(&folder)?.is_empty() && (*subset != Subset::Test || others.is_empty()) {
            let missing = if *subset == Subset::Train { Subset::Val } else { Subset::Train };
            let reason = format!(
                "it has {name}/ but no class folders in {}/; add them, or use only {}",
                missing.folder(),
                shown_path(&folder)
            );
            return Err(refuse(root, reason));
        }
    }
    match &flat[..] {
        [(subset, name), rest @ ..] if others.is_empty() && nested.is_empty() => {
            match rest.iter().find(|(other, _)| other != subset) {
                None => Ok(None),
                Some((_, other)) => {
                    let reason = format!(
                        "{name}/ and {other}/ are named like subsets of a data set but hold no class folders; \
                         each class needs a folder of its images in both"
                    );
                    Err(refuse(root, reason))
                }
            }
        }
        _ => Ok(None),
    }
}

/// Describes the folders of subsets for a note.
pub(super) fn describe(train: &str, val: Option<&str>, test: Option<&str>) -> String {
    let mut note = format!("the data set is already split: {train}/ for training");
    match val {
        Some(val) => note.push_str(&format!(", {val}/ for validation")),
        None => note.push_str(", a share of it for validation"),
    }
    if let Some(test) = test {
        note.push_str(&format!(", {test}/ for tests"));
    }
    note
}

fn refuse(path: &Path, reason: String) -> Error {
    Error::Dataset { path: path.to_owned(), reason }
}
