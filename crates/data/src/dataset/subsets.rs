//! Reads folders that come split: which sub-folder holds training, validation and test images.

use std::path::Path;

use alexnet_core::text::shown_path;
use serde::{Deserialize, Serialize};

use super::folder::{loose_images, subfolders};
use crate::{Error, Result};

/// A part of a data set, by what its images are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subset {
    /// Training.
    Train,
    /// Validation, during training.
    Val,
    /// A test after training.
    Test,
}

impl Subset {
    const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The usual names of such folders, in lower case; the first is the one that this crate writes.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training"],
            Self::Val => &["val", "valid", "validation"],
            Self::Test => &["test", "testing"],
        }
    }

    /// The name of the folder that this crate writes.
    pub fn folder(self) -> &'static str {
        self.names()[0]
    }

    /// The subset that a folder of this name holds, if its name is one of the usual.
    pub fn of(name: &str) -> Option<Self> {
        let is = |role: &Self| role.names().iter().any(|known| known.eq_ignore_ascii_case(name));
        Self::ALL.into_iter().find(is)
    }
}

/// The names of the folders that a data set comes split into, each with a folder for each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subsets {
    /// The training subset.
    pub train: String,
    /// The validation subset. There may be a test subset alone.
    pub val: Option<String>,
    /// The test subset.
    pub test: Option<String>,
    /// Folders beside them, which are ignored.
    pub others: Vec<String>,
}

/// Finds the subsets in a folder; none where its sub-folders are classes.
///
/// A training subset and another, each a folder of folders, are subsets; so is a training subset beside a folder of unlabelled test
/// images, which then is none. A class may have the name of a subset when it holds images itself and stands beside classes
/// of other names.
///
/// # Errors
/// [`Error::Dataset`] for two folders of one subset, for one subset alone, and for subsets without class folders: as classes they would
/// be meaningless. [`Error::Io`].
pub fn find(root: &Path) -> Result<Option<Subsets>> {
    let (mut full, mut flat) = (Vec::new(), Vec::new());
    let mut others = Vec::new();
    for name in subfolders(root)? {
        match Subset::of(&name) {
            None => others.push(name),
            Some(role) if subfolders(&root.join(&name))?.is_empty() => flat.push((role, name)),
            Some(role) => full.push((role, name)),
        }
    }
    let has = |subsets: &[(Subset, String)], wanted| subsets.iter().any(|(role, _)| *role == wanted);
    let is_whole = has(&full, Subset::Train) && (has(&full, Subset::Val) || has(&full, Subset::Test));
    let unlabelled_test = others.is_empty() && has(&flat, Subset::Test) && !has(&flat, Subset::Val);
    if is_whole || has(&full, Subset::Train) && unlabelled_test {
        let mut one = |wanted: Subset| -> Result<Option<String>> {
            let mut named = full.extract_if(.., |(role, _)| *role == wanted).map(|(_, name)| name);
            match (named.next(), named.next()) {
                (Some(a), Some(b)) => {
                    let reason = format!("{a}/ and {b}/ are both its subset `{}`; keep one", wanted.folder());
                    Err(refuse(root, reason))
                }
                (name, _) => Ok(name),
            }
        };
        let [train, val, test] = [one(Subset::Train)?, one(Subset::Val)?, one(Subset::Test)?];
        others.extend(flat.into_iter().map(|(_, name)| name));
        return Ok(train.map(|train| Subsets { train, val, test, others }));
    }
    for (role, name) in &full {
        let subset = root.join(name);
        if loose_images(&subset)?.is_empty() && (*role != Subset::Test || others.is_empty()) {
            let missing = if *role == Subset::Train { Subset::Val } else { Subset::Train };
            let reason = format!(
                "it has {name}/ but no class folders in {}/; add them, or name {} alone",
                missing.folder(),
                shown_path(&subset)
            );
            return Err(refuse(root, reason));
        }
    }
    match &flat[..] {
        [(role, name), rest @ ..] if others.is_empty() && full.is_empty() => {
            match rest.iter().find(|(other, _)| other != role) {
                None => Ok(None),
                Some((_, other)) => {
                    let reason = format!(
                        "{name}/ and {other}/ are named like subsets of a data set, and hold no class folders; \
                         each class needs a folder of its images in both"
                    );
                    Err(refuse(root, reason))
                }
            }
        }
        _ => Ok(None),
    }
}

fn refuse(path: &Path, reason: String) -> Error {
    Error::Dataset { path: path.to_owned(), reason }
}
