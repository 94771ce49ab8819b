//! A run that was left goes on: its files are compared with each other before any of them is written.

use std::{collections::BTreeSet, path::Path};

use alexnet_core::{
    Progress,
    text::{escaped, shown_path},
};
use alexnet_data::dataset::Dataset;
use anyhow::{Result, ensure};

use super::{Args, Run, look_at_all};
use crate::{
    dataset, exif,
    recipe::{BadImage, DEFAULT_EPOCHS},
    run_folder::{Marks, RunFolder},
    saved::{NEXT, Saved},
    start,
};

/// The run in the folder `path`, with the options that a resume may give anew.
///
/// # Errors
/// When it cannot go on as it was begun; then nothing in the folder has changed.
pub fn resumed(path: &Path, args: &Args) -> Result<Run> {
    let folder = RunFolder::open(path)?;
    let engine = args.options.engine.choice_or(Saved::read(&folder)?.0.engine);
    let backend = engine.start(args.options.engine.threads)?;
    let folder = folder.locked()?;
    // Once more: only now nobody else writes it.
    let (Saved { mut recipe, .. }, is_sealed) = Saved::read(&folder)?;
    let given = &args.options.recipe;
    let epochs = *recipe.epochs.insert(given.epochs.or(recipe.epochs).unwrap_or(DEFAULT_EPOCHS));
    let data = &mut recipe.setup.data;
    data.on_bad_image = given.setup.data.on_bad_image.or(data.on_bad_image);
    let moved_to = given.setup.data.data.as_deref();
    data.data = moved_to.map(Path::to_owned).or(data.data.take());
    data.exif_orientation = Some(exif::of_run(data.exif_orientation));
    let mut options = Saved { engine, recipe };
    options.check()?;
    let recipe = &options.recipe;

    let checkpoint = folder.load_checkpoint()?;
    if let Some((_, _, Marks { options: Some(kept), .. })) = &checkpoint {
        ensure!(is_sealed, "{} lacks its first line, so it is damaged: {NEXT}", shown_path(&folder.args()));
        options.agree_with(kept)?;
    }
    match &checkpoint {
        Some((_, progress, _)) => can_go_on(&folder, progress, epochs)?,
        None => ensure!(
            !folder.has_results(),
            "{} is missing, but {} has weights or results: copy the checkpoint from where the run was made, or begin another run with \
             `train --config {}`, from these weights with `--weights`",
            shown_path(&folder.checkpoint()),
            shown_path(path),
            shown_path(&folder.args())
        ),
    }
    let split = folder.split();
    let is_split = split.exists();
    let known = match &checkpoint {
        _ if is_split => Dataset::load(&split)?,
        // It was killed before it had one.
        None => {
            let setup = &recipe.setup;
            dataset::open_or_draw(setup.data.data.as_deref(), setup.data.val_fraction, setup.seed)?
        }
        Some(_) => anyhow::bail!(
            "{} is missing: copy it from where the run was made, since it says which images train",
            shown_path(&split)
        ),
    };
    if let Some((_, _, Marks { split: Some(kept), .. })) = &checkpoint {
        ensure!(
            *kept == known.checksum(),
            "{} is not the split that the run was begun with: {NEXT}",
            shown_path(&split)
        );
    }
    let dataset = match moved_to {
        Some(data) => moved(known, data)?,
        None => known,
    };
    ensure!(
        dataset.root.is_dir(),
        "the images of this run are no longer in {}: say with `--data` where they are",
        shown_path(&dataset.root)
    );
    if moved_to.is_some() && recipe.setup.data.on_bad_image != Some(BadImage::Skip) {
        look_at_all(&dataset)?;
    }

    folder.remove_leftovers()?;
    if moved_to.is_some() || !is_split {
        dataset.save(&split)?;
    }
    options.write(&folder)?;
    let marks = options.marks(&dataset)?;
    let setup = &mut options.recipe.setup;
    let (state, loader, progress) = match checkpoint {
        Some((state, progress, _)) => (state, start::loader(setup, dataset)?, progress),
        None => {
            let (state, loader) = start::begin(setup, dataset)?;
            let progress = Progress::default();
            folder.save_checkpoint(&state, &progress, &marks)?;
            (state, loader, progress)
        }
    };
    if progress.history.len() as u64 >= epochs {
        note!("all {epochs} epochs are done; `--epochs` with a larger number goes on");
    } else {
        note!("going on after step {}, in epoch {}", progress.step, progress.history.len() + 1);
    }
    Ok(Run { folder, options, marks, backend, loader, state, progress })
}

fn can_go_on(folder: &RunFolder, progress: &Progress, epochs: u64) -> Result<()> {
    let done = progress.history.len() as u64;
    ensure!(
        done <= epochs,
        "{done} epochs are done, more than {epochs}: give `--epochs` a number from {done} on"
    );
    ensure!(
        progress.best().is_none() || folder.best().exists(),
        "{} is missing: copy it from where the run was made; or put a copy of {} there, and the run goes on with that as its best",
        shown_path(&folder.best()),
        shown_path(&folder.last())
    );
    Ok(())
}

/// The images of a run where they are now.
fn moved(known: Dataset, to: &Path) -> Result<Dataset> {
    let found = dataset::read(Some(to))?;
    let taken = found.train.iter().chain(found.val.iter().flatten());
    let there: BTreeSet<&str> = taken.map(|item| item.path.as_str()).collect();
    let all = known.items().count();
    let missing: Vec<&str> =
        known.items().map(|item| item.path.as_str()).filter(|path| !there.contains(path)).collect();
    ensure!(
        missing.is_empty(),
        "{} does not have the images of this run: {} of {all} are missing, such as {}; name the folder that has them all",
        shown_path(&found.root),
        missing.len(),
        escaped(missing[0])
    );
    let more = there.len() - all;
    if more > 0 {
        note!(
            "{more} images in {} are new since the run began, and take no part in it",
            shown_path(&found.root)
        );
    }
    Ok(Dataset { root: found.root, ..known })
}
