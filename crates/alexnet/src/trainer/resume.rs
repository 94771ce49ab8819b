//! Resuming a run: its files are compared with each other before any of them is written.

use std::path::PathBuf;

use alexnet_core::{
    ExifOrientation, Progress,
    alexnet::Variant,
    text::{escaped, shown_path},
    weights::Weights,
};
use alexnet_data::{dataset::Dataset, loader::OnBadImage};

use super::ready::{Ready, look_at_all};
use crate::{
    DataSource, EngineConfig, Error, Note, Observer, Result, RunFolder, TrainConfig,
    engine_config::EngineChanges,
    prepare::{self, Prepared},
    run_folder::Marks,
    saved,
};

/// The settings that a resume may change. Those that decide the weights cannot change.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// The engine, its device and how it computes.
    pub engine: EngineChanges,
    /// Another total number of epochs.
    pub epochs: Option<u64>,
    /// Another number of epochs without a higher validation accuracy that end the run.
    pub patience: Option<u64>,
    /// The new folder of the run's images.
    pub data: Option<PathBuf>,
    /// What happens when an image cannot be read.
    pub on_bad_image: Option<OnBadImage>,
    /// Saves a checkpoint after this number of steps, in addition to the one after each epoch.
    pub checkpoint_every: Option<u64>,
}

impl Resume {
    /// Changes these settings, except the engine.
    pub(super) fn apply(&self, config: &mut TrainConfig) {
        config.checkpoint_every = self.checkpoint_every;
        config.epochs = self.epochs.unwrap_or(config.epochs);
        config.patience = self.patience.or(config.patience);
        config.on_bad_image = self.on_bad_image.unwrap_or(config.on_bad_image);
        if let Some(data) = &self.data {
            config.data = data.clone().into();
        }
    }
}

/// Loads the run in `folder` and applies the changes.
///
/// # Errors
/// When its files are missing, damaged or inconsistent. No file was changed then.
pub(super) fn ready(
    folder: RunFolder,
    engine: EngineConfig,
    changes: &Resume,
    observer: &mut dyn Observer,
) -> Result<Ready> {
    let folder = folder.locked(observer)?;
    // Read again: only now no other process writes it.
    let (mut config, is_sealed) = saved::read(&folder)?;
    config.engine = engine;
    changes.apply(&mut config);
    if config.exif_orientation.is_none() {
        // Runs of versions without this setting did not apply the orientation.
        observer.note(Note::OrientationIgnoredByRun);
        config.exif_orientation = Some(ExifOrientation::Ignore);
    }
    config.check()?;
    saved::check(&config)?;

    let checkpoint = folder.load_checkpoint()?;
    if let Some((_, _, Marks { options: Some(stored), .. })) = &checkpoint {
        if !is_sealed {
            let reason = "lacks its first line, so it is damaged".into();
            return Err(Error::RunFile { path: folder.args(), reason });
        }
        saved::agree(&config, stored, &folder)?;
    }
    match &checkpoint {
        Some((_, progress, _)) => can_go_on(&folder, progress, config.epochs)?,
        None if folder.has_results() => {
            return Err(Error::CheckpointMissing {
                path: folder.checkpoint(),
                folder: folder.path().to_owned(),
                settings: folder.args(),
            });
        }
        None => {}
    }
    let split = folder.split();
    let is_split = split.exists();
    let known = match &checkpoint {
        _ if is_split => Dataset::load(&split)?,
        // The run was killed before it wrote the split.
        None => config.data.open_or_draw(&config.split_options(), observer)?,
        Some(_) => return Err(Error::SplitMissing { path: split }),
    };
    if let Some((_, _, Marks { split: Some(stored), .. })) = &checkpoint
        && *stored != known.checksum()
    {
        let reason = "is not the split that the run was started with".into();
        return Err(Error::RunFile { path: split, reason });
    }
    if checkpoint.as_ref().is_some_and(|(_, progress, _)| progress.best().is_some()) {
        check_best(&folder, config.variant, &known.classes)?;
    }
    let dataset = match &changes.data {
        Some(data) => moved(known, data.clone().into(), observer)?,
        None => known.opened()?,
    };
    if !dataset.root().is_dir() {
        return Err(Error::ImagesMoved { folder: dataset.root().to_owned() });
    }
    if changes.data.is_some() && config.on_bad_image == OnBadImage::Error {
        look_at_all(&dataset, observer)?;
    }

    let resumed = match checkpoint {
        None => None,
        Some((state, progress, Marks { order, .. })) => {
            let loader = prepare::loader(&config, dataset.clone())?;
            if order.is_some_and(|stored| Some(stored) != loader.storage_order()) {
                return Err(Error::OtherOrder { folder: dataset.root().to_owned() });
            }
            Some((loader, state, progress))
        }
    };

    // A copy of a run may lack its empty folders, or have only its settings.
    folder.create_places()?;
    folder.remove_leftovers()?;
    if changes.data.is_some() || !is_split {
        dataset.save(&split)?;
    }
    saved::write(&config, &folder)?;
    let epochs = config.epochs;
    let ready = match resumed {
        Some((loader, state, progress)) => {
            let marks = saved::marks(&config, &loader)?;
            Ready { config, folder, marks, loader, state, progress }
        }
        None => {
            let written = config.clone();
            let Prepared { config, loader, state, .. } = Prepared::new(config, dataset, observer)?;
            let (marks, progress) = (saved::marks(&written, &loader)?, Progress::default());
            folder.save_checkpoint(&state, &progress, &marks)?;
            Ready { config, folder, marks, loader, state, progress }
        }
    };
    let Progress { step, history, .. } = &ready.progress;
    let done = history.len() as u64;
    if done >= epochs {
        observer.note(Note::NothingLeft { epochs });
    } else if !ready.config.is_stuck(&ready.progress) {
        observer.note(Note::Resuming { step: *step, epoch: done + 1 });
    }
    Ok(ready)
}

fn can_go_on(folder: &RunFolder, progress: &Progress, epochs: u64) -> Result<()> {
    let done = progress.history.len() as u64;
    if done > epochs {
        return Err(Error::MoreEpochsDone { done, epochs });
    }
    if progress.best().is_some() && !folder.best().exists() {
        return Err(Error::BestMissing { path: folder.best(), last: folder.last() });
    }
    Ok(())
}

/// Checks that the best weights, which the end of a run evaluates, are complete and fit the run.
fn check_best(folder: &RunFolder, variant: Variant, classes: &[String]) -> Result<()> {
    let unusable = |reason| Error::BestUnusable { reason, last: folder.last() };
    let best = Weights::load(folder.best()).map_err(|error| unusable(error.to_string()))?;
    if best.metadata.variant != variant || best.metadata.classes != classes {
        let path = folder.best();
        return Err(unusable(format!(
            "{} has another network or other classes than this run",
            shown_path(&path)
        )));
    }
    Ok(())
}

/// The images of a run in their new folder.
fn moved(known: Dataset, to: DataSource, observer: &mut dyn Observer) -> Result<Dataset> {
    let found = to.listing(observer)?;
    let all = known.items().count();
    let there = found.train.len() + found.val.as_ref().map_or(0, Vec::len);
    let folder = found.root().to_owned();
    let dataset = known.with_images(found.images).map_err(|missing| Error::ImagesMissing {
        folder: folder.clone(),
        missing: missing.images,
        all,
        first: escaped(&missing.first).to_string(),
    })?;
    if there > all {
        observer.note(Note::NewImages { images: there - all, folder });
    }
    Ok(dataset)
}
