//! Which images weights are asked about: those that they have not seen, as far as that can be known.

use std::path::Path;

use alexnet_core::text::shown_path;
use alexnet_data::{
    dataset::{Dataset, Item, listing::Listing},
    known_split::{MatchedSplit, SplitMatch, match_split},
};
use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use crate::{dataset, run_folder::RunFolder};

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// Those that validate
    Val,
    /// Those that train
    Train,
    /// Those of the test half, where the folder has one
    Test,
    /// All of them
    All,
}

impl Split {
    fn items(self, dataset: &Dataset) -> Vec<Item> {
        match self {
            Self::Val => dataset.val.clone(),
            Self::Train => dataset.train.clone(),
            Self::Test => dataset.test.clone(),
            Self::All => dataset.all().cloned().collect(),
        }
    }

    /// What images of it are called.
    fn kind(self) -> &'static str {
        match self {
            Self::Val => "validation images",
            Self::Train => "training images",
            Self::Test => "test images",
            Self::All => "images",
        }
    }
}

/// What a command was told about which images to take.
#[derive(Clone, Copy)]
pub enum Wanted {
    /// What `--split` says, if it was given.
    Chosen(Option<Split>),
    /// Nothing: it has no such option.
    Usual,
}

impl Wanted {
    fn split(self) -> Option<Split> {
        match self {
            Self::Chosen(split) => split,
            Self::Usual => None,
        }
    }

    /// `words` about the option, where there is one.
    fn hint(self, words: &'static str) -> &'static str {
        match self {
            Self::Chosen(_) => words,
            Self::Usual => "",
        }
    }
}

/// Images to ask about.
pub struct Asked {
    /// The data set that they are of.
    pub dataset: Dataset,
    /// Those that are asked about.
    pub items: Vec<Item>,
}

/// The images of `data`, or else of the run that the weights come from, that are wanted. A run's own split is used for its own
/// images, wherever they are now, so that none it trained on is taken for a validation image. Of other images no split named
/// means their validation half, or all. What is assumed is printed.
///
/// # Errors
/// When there are no such images.
pub fn images(data: Option<&Path>, weights: &Path, wanted: Wanted) -> Result<Asked> {
    let run = split_of_run(weights)?;
    let asked = match (data, run) {
        (None, Some(run)) => of_run(run, wanted)?,
        (data, None) => of_others(dataset::read(data)?, wanted, "no run tells how they were split")?,
        (Some(data), Some(run)) => {
            let listing = dataset::read(Some(data))?;
            match match_split(&listing, &run) {
                SplitMatch::Same(again) => of_the_same(&listing, &run, again, wanted)?,
                SplitMatch::Other { trained } => {
                    let asked = of_others(listing, wanted, "they are not the run's images")?;
                    if trained > 0 {
                        note!(
                            "warning: {trained} of all have the path of an image that the weights were trained on"
                        );
                    }
                    asked
                }
            }
        }
    };
    Ok(asked)
}

/// The split of the run that holds the weights.
fn split_of_run(weights: &Path) -> Result<Option<Dataset>> {
    let folder = weights.parent().and_then(Path::parent).and_then(|run| RunFolder::open(run).ok());
    let file = folder.map(|run| run.split()).filter(|file| file.is_file());
    Ok(file.map(|file| Dataset::load(&file)).transpose()?)
}

fn of_run(run: Dataset, wanted: Wanted) -> Result<Asked> {
    let split = wanted.split().unwrap_or(Split::Val);
    ensure!(
        run.root.is_dir(),
        "the images of the run are not in {} any more: name the folder that holds them with `--data`",
        shown_path(&run.root)
    );
    let items = split.items(&run);
    ensure!(
        !items.is_empty(),
        "the run has no {}{}",
        split.kind(),
        wanted.hint(": choose another `--split`")
    );
    Ok(Asked { dataset: run, items })
}

/// Images that the run knows.
fn of_the_same(listing: &Listing, run: &Dataset, again: MatchedSplit, wanted: Wanted) -> Result<Asked> {
    let split = wanted.split().unwrap_or(Split::Val);
    let MatchedSplit { mut dataset, new, missing } = again;
    if split == Split::All {
        let items = listing.items().cloned().collect();
        return Ok(Asked { dataset, items });
    }
    // A test half that was added later has nothing to do with the run.
    let added = split == Split::Test && run.test.is_empty();
    if added {
        let seen = |item: &Item| dataset.items().any(|known| known == item);
        dataset.test = listing.test.iter().filter(|item| !seen(item)).cloned().collect();
    }
    let items = split.items(&dataset);
    let before = if added { items.len() } else { split.items(run).len() };
    ensure!(
        !items.is_empty(),
        "none of the run's {before} {} is in {}{}",
        split.kind(),
        shown_path(&listing.root),
        wanted.hint(": with `--split all` all images there are asked about")
    );
    let mut said = match before {
        n if n == items.len() => format!("its {n} {}", split.kind()),
        n => format!("{} of its {n} {}", items.len(), split.kind()),
    };
    if new > 0 {
        let way = wanted.hint(" (`--split all` takes them)");
        said += &format!("; {new} images are new since, and in neither half{way}");
    }
    if missing > 0 {
        said += &format!("; {missing} are missing");
    }
    if split == Split::Val
        && listing
            .val
            .as_ref()
            .is_some_and(|val| val.len() != items.len() || !val.iter().all(|item| items.contains(item)))
    {
        said += "; the folders here divide them otherwise";
    }
    note!("split as the run was, by the paths of the images: {said}");
    Ok(Asked { dataset, items })
}

/// Images that no run is known to have trained on.
fn of_others(listing: Listing, wanted: Wanted, why: &str) -> Result<Asked> {
    let split = wanted.split();
    let in_halves = listing.val.is_some();
    let all = listing.items().count();
    let dataset = match split {
        Some(Split::Val | Split::Train) if !in_halves => dataset::split(listing, dataset::VAL_FRACTION, 0)?,
        _ => {
            let Listing { root, classes, train, val, test, .. } = listing;
            Dataset { root, classes, train, val: val.unwrap_or_default(), test }
        }
    };
    let chosen = split.unwrap_or(if in_halves { Split::Val } else { Split::All });
    let items = chosen.items(&dataset);
    let (n, kind) = (items.len(), chosen.kind());
    match split {
        None if in_halves => {
            let way = wanted.hint(", `--split all` takes all");
            note!("{why}: the {n} {kind} of {all} images are asked about{way}");
        }
        None => note!("{why}: all {n} images are asked about"),
        Some(Split::Val | Split::Train) if !in_halves => note!(
            "{why}: {n} of {all} images, the {kind} of a split with seed 0 that leaves a tenth to validate; `--split all` takes all"
        ),
        Some(_) => {}
    }
    if items.is_empty() {
        match chosen {
            Split::Test => bail!(
                "{} has no test half: a folder named test/ with the class folders in it, beside train/; `--split all` takes all \
                 images",
                shown_path(&dataset.root)
            ),
            _ => bail!("there are no {kind} in {}", shown_path(&dataset.root)),
        }
    }
    Ok(Asked { dataset, items })
}
