//! Choosing the images to evaluate weights on, without images that they were trained on as far as
//! that is known.

use std::{collections::HashSet, path::Path};

use alexnet_data::{
    dataset::listing::Listing,
    dataset::{Dataset, Item},
    known_split::{MatchedSplit, SplitMatch, match_split},
    split::SplitOptions,
};

use crate::{DataSource, Error, Note, Observer, Result, RunFolder, Split};

/// The images to evaluate weights on.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Their data set.
    pub dataset: Dataset,
    /// The images.
    pub items: Vec<Item>,
}

impl Selection {
    /// Chooses the images of `data`, or by default those of the run of the weights. For the images
    /// of the run, wherever they are now, the split of the run is used, so that no training image
    /// is taken for a validation image; `None` as `split` means its validation images, or if it has
    /// none its test images, or its training images. For other images, `None` as `split` means
    /// their validation subset if the folder has one, otherwise all images.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn choose(
        data: &DataSource,
        weights: &Path,
        split: Option<Split>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        match split_of_run(weights)? {
            Some(run) if data.is_default() => of_run(run, split, observer),
            None => of_others(
                data.listing(observer)?,
                split,
                "no run is known that split them",
                observer,
            ),
            Some(run) => {
                let listing = data.listing(observer)?;
                match match_split(&listing, &run) {
                    SplitMatch::Same(again) => of_the_same(&listing, &run, again, split, observer),
                    SplitMatch::Other { trained } => {
                        let why = "they are not the run's images";
                        let selection = of_others(listing, split, why, observer)?;
                        if trained > 0 {
                            observer.note(Note::TrainedOn { images: trained });
                        }
                        Ok(selection)
                    }
                }
            }
        }
    }

    /// Chooses all images of `data`, or by default those of the run of the weights.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn all(data: &DataSource, weights: &Path, observer: &mut dyn Observer) -> Result<Self> {
        match split_of_run(weights)? {
            Some(run) if data.is_default() => of_run(run, Some(Split::All), observer),
            _ => {
                let why = "all images were requested";
                of_others(data.listing(observer)?, Some(Split::All), why, observer)
            }
        }
    }
}

/// The split of the run that the weights belong to.
fn split_of_run(weights: &Path) -> Result<Option<Dataset>> {
    let folder = weights.parent().and_then(Path::parent).and_then(|run| RunFolder::open(run).ok());
    let file = folder.map(|run| run.split()).filter(|file| file.is_file());
    Ok(file.map(|file| Dataset::load(&file)).transpose()?)
}

fn of_run(run: Dataset, split: Option<Split>, observer: &mut dyn Observer) -> Result<Selection> {
    let split = split.unwrap_or_else(|| usual(&run, observer));
    if !run.root().is_dir() {
        return Err(Error::ImagesMoved { folder: run.root().to_owned() });
    }
    let run = run.opened()?;
    let items = split.items(&run);
    if items.is_empty() {
        return Err(Error::RunHasNone { split });
    }
    Ok(Selection { dataset: run, items })
}

/// The subset of a run that is evaluated if none is named: its validation images, or others with a
/// note.
fn usual(run: &Dataset, observer: &mut dyn Observer) -> Split {
    if !run.val.is_empty() {
        return Split::Val;
    }
    let split = if run.test.is_empty() { Split::Train } else { Split::Test };
    observer.note(Note::NoValidationImages { instead: split });
    split
}

/// Images of the run.
fn of_the_same(
    listing: &Listing,
    run: &Dataset,
    again: MatchedSplit,
    split: Option<Split>,
    observer: &mut dyn Observer,
) -> Result<Selection> {
    let split = split.unwrap_or_else(|| usual(run, observer));
    let MatchedSplit { mut dataset, new, missing } = again;
    if split == Split::All {
        let items = listing.items().collect();
        return Ok(Selection { dataset, items });
    }
    // A test subset that was added later does not belong to the run.
    let added = split == Split::Test && run.test.is_empty();
    if added {
        let seen: HashSet<Item> = dataset.items().collect();
        dataset.test = listing.test.iter().filter(|item| !seen.contains(item)).copied().collect();
    }
    let items = split.items(&dataset);
    let before = if added { items.len() } else { split.items(run).len() };
    if items.is_empty() {
        return Err(Error::NoneOfTheRun { split, of: before, folder: listing.root().to_owned() });
    }
    let what = match before {
        n if n == items.len() => format!("its {n} {}", split.kind()),
        n => format!("{} of its {n} {}", items.len(), split.kind()),
    };
    let of_folders = listing.val.as_ref().filter(|_| split == Split::Val);
    let folders_differ = of_folders.is_some_and(|val| {
        let known: HashSet<Item> = items.iter().copied().collect();
        val.len() != items.len() || !val.iter().all(|item| known.contains(item))
    });
    observer.note(Note::SplitAsTheRun { what, new, missing, folders_differ });
    Ok(Selection { dataset, items })
}

/// Images that no known run was trained on.
fn of_others(
    listing: Listing,
    split: Option<Split>,
    why: &'static str,
    observer: &mut dyn Observer,
) -> Result<Selection> {
    let is_split = listing.val.is_some();
    let all = listing.items().count();
    let split_now = matches!(split, Some(Split::Val | Split::Train)) && !is_split;
    let dataset = if split_now {
        listing.split(&SplitOptions::default())?
    } else {
        let Listing { images, classes, train, val, test, .. } = listing;
        Dataset { images, classes, train, val: val.unwrap_or_default(), test }
    };
    let chosen = split.unwrap_or(if is_split { Split::Val } else { Split::All });
    let items = chosen.items(&dataset);
    let (used, kind) = (items.len(), chosen.kind());
    if split.is_none() || split_now {
        observer.note(Note::ImagesUsed { why, used, all, kind, split_now });
    }
    if items.is_empty() {
        return Err(Error::NoSuchImages { split: chosen, folder: dataset.root().to_owned() });
    }
    Ok(Selection { dataset, items })
}
