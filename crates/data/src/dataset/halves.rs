//! Reads folders that come split: which sub-folder holds training, validation and test images.

use std::path::Path;

use alexnet_core::text::shown_path;
use serde::{Deserialize, Serialize};

use super::folder::{loose_images, subfolders};
use crate::{Error, Result};

/// A part of a data set, by what its images are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Half {
    /// Training.
    Train,
    /// Validation, during training.
    Val,
    /// A test after training.
    Test,
}

impl Half {
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

    /// The half that a folder of this name holds, if its name is one of the usual.
    pub fn of(name: &str) -> Option<Self> {
        let is = |role: &Self| role.names().iter().any(|known| known.eq_ignore_ascii_case(name));
        Self::ALL.into_iter().find(is)
    }
}

/// The names of the folders that a data set comes split into, each with a folder for each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halves {
    /// The training half.
    pub train: String,
    /// The validation half. There may be a test half alone.
    pub val: Option<String>,
    /// The test half.
    pub test: Option<String>,
    /// Folders beside them, which are ignored.
    pub others: Vec<String>,
}

/// Finds the halves in a folder; none where its sub-folders are classes.
///
/// A training half and another, each a folder of folders, are halves; so is a training half beside a folder of unlabelled test
/// images, which then is none. A class may have the name of a half when it holds images itself and stands beside classes
/// of other names.
///
/// # Errors
/// [`Error::Dataset`] for two folders of one half, for one half alone, and for halves without class folders: as classes they would
/// be meaningless. [`Error::Io`].
pub fn find(root: &Path) -> Result<Option<Halves>> {
    let (mut full, mut flat) = (Vec::new(), Vec::new());
    let mut others = Vec::new();
    for name in subfolders(root)? {
        match Half::of(&name) {
            None => others.push(name),
            Some(role) if subfolders(&root.join(&name))?.is_empty() => flat.push((role, name)),
            Some(role) => full.push((role, name)),
        }
    }
    let has = |halves: &[(Half, String)], wanted| halves.iter().any(|(role, _)| *role == wanted);
    let is_whole = has(&full, Half::Train) && (has(&full, Half::Val) || has(&full, Half::Test));
    let unlabelled_test = others.is_empty() && has(&flat, Half::Test) && !has(&flat, Half::Val);
    if is_whole || has(&full, Half::Train) && unlabelled_test {
        let mut one = |wanted: Half| -> Result<Option<String>> {
            let mut named = full.extract_if(.., |(role, _)| *role == wanted).map(|(_, name)| name);
            match (named.next(), named.next()) {
                (Some(a), Some(b)) => {
                    let reason = format!("{a}/ and {b}/ are both its half `{}`; keep one", wanted.folder());
                    Err(refuse(root, reason))
                }
                (name, _) => Ok(name),
            }
        };
        let [train, val, test] = [one(Half::Train)?, one(Half::Val)?, one(Half::Test)?];
        others.extend(flat.into_iter().map(|(_, name)| name));
        return Ok(train.map(|train| Halves { train, val, test, others }));
    }
    for (role, name) in &full {
        let half = root.join(name);
        if loose_images(&half)?.is_empty() && (*role != Half::Test || others.is_empty()) {
            let missing = if *role == Half::Train { Half::Val } else { Half::Train };
            let reason = format!(
                "it has {name}/ but no class folders in {}/; add them, or name {} alone",
                missing.folder(),
                shown_path(&half)
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
                        "{name}/ and {other}/ are named like halves of a data set, and hold no class folders; \
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
