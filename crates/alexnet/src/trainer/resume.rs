//! Resuming a run: its files are compared with each other before any of them is written.

use std::{collections::BTreeSet, path::PathBuf};

use alexnet_core::{ExifOrientation, Progress, text::escaped};
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
    let dataset = match &changes.data {
        Some(data) => moved(known, data.clone().into(), observer)?,
        None => known,
    };
    if !dataset.root.is_dir() {
        return Err(Error::ImagesMoved { folder: dataset.root });
    }
    if changes.data.is_some() && config.on_bad_image == OnBadImage::Error {
        look_at_all(&dataset, observer)?;
    }

    folder.remove_leftovers()?;
    if changes.data.is_some() || !is_split {
        dataset.save(&split)?;
    }
    saved::write(&config, &folder)?;
    let marks = saved::marks(&config, &dataset)?;
    let epochs = config.epochs;
    let ready = match checkpoint {
        Some((state, progress, _)) => {
            let loader = prepare::loader(&config, dataset)?;
            Ready { config, folder, marks, loader, state, progress }
        }
        None => {
            let Prepared { config, loader, state, .. } = Prepared::new(config, dataset, observer)?;
            let progress = Progress::default();
            folder.save_checkpoint(&state, &progress, &marks)?;
            Ready { config, folder, marks, loader, state, progress }
        }
    };
    let Progress { step, history, .. } = &ready.progress;
    let done = history.len() as u64;
    observer.note(match done >= epochs {
        true => Note::NothingLeft { epochs },
        false => Note::Resuming { step: *step, epoch: done + 1 },
    });
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

/// The images of a run in their new folder.
fn moved(known: Dataset, to: DataSource, observer: &mut dyn Observer) -> Result<Dataset> {
    let found = to.listing(observer)?;
    let taken = found.train.iter().chain(found.val.iter().flatten());
    let there: BTreeSet<&str> = taken.map(|item| item.path.as_str()).collect();
    let all = known.items().count();
    let missing: Vec<&str> =
        known.items().map(|item| item.path.as_str()).filter(|path| !there.contains(path)).collect();
    if let Some(first) = missing.first() {
        return Err(Error::ImagesMissing {
            folder: found.root,
            missing: missing.len(),
            all,
            first: escaped(first).to_string(),
        });
    }
    let more = there.len() - all;
    if more > 0 {
        observer.note(Note::NewImages { images: more, folder: found.root.clone() });
    }
    Ok(Dataset { root: found.root, ..known })
}
