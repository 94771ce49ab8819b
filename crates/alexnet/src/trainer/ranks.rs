//! What the ranks of a run exchange before the first step: rank 0 prepares the run, and the others
//! get its settings, images and state. Programs, settings and image files must be equal.

use std::{collections::BTreeMap, env, fs, io, path::PathBuf};

use alexnet_core::{
    Collective, Progress, State,
    collective::{agree, broadcast, broadcast_state, gather},
    text::shown,
};
use alexnet_data::dataset::Dataset;
use serde::{Deserialize, Serialize};
use toml::Table;

use super::ready::Ready;
use crate::{
    Engine, Error, Parallel, Result, RunFolder, TrainConfig, engine, prepare, run_folder::Marks,
    saved,
};

/// Values that must be equal on all ranks, by name.
type Values = BTreeMap<String, String>;

/// Checks that all ranks have the same program, the same instruction set and the same settings.
/// `resumed` is the folder of the run that is resumed.
///
/// # Errors
/// [`Error::RankDiffers`] on all ranks; when the settings cannot be saved.
pub fn check_equal(
    ranks: &dyn Collective,
    config: &TrainConfig,
    resumed: Option<&RunFolder>,
    parallel: Parallel,
) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let own = agree(ranks, values(config, resumed, parallel))?;
    let all = gather(ranks, &(ranks.name(), own))?;
    let Some(((first, expected), others)) = all.split_first() else { return Ok(()) };
    let absent = "not set".to_owned();
    for (rank, found) in others {
        for name in expected.keys().chain(found.keys()) {
            let [expected, found] =
                [expected, found].map(|values| values.get(name).unwrap_or(&absent));
            if found != expected {
                return Err(Error::RankDiffers {
                    rank: rank.clone(),
                    first: first.clone(),
                    what: shown(name).to_string(),
                    found: shown(found).to_string(),
                    expected: shown(expected).to_string(),
                });
            }
        }
    }
    Ok(())
}

fn values(config: &TrainConfig, resumed: Option<&RunFolder>, parallel: Parallel) -> Result<Values> {
    let unreadable = |error: toml::de::Error| Error::Unsaveable { reason: error.to_string() };
    let settings: Table = saved::text(config)?.parse().map_err(unreadable)?;
    let mut values: Values =
        settings.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
    let run_dir = config.run_dir.as_deref().map(|folder| ("the run folder", folder));
    let run = resumed.map(|folder| ("the resumed run", folder.path())).or(run_dir);
    values.extend(run.map(|(name, folder)| (name.into(), folder.display().to_string())));
    let every = config.checkpoint_every;
    values.extend(every.map(|steps| ("checkpoint-every".into(), steps.to_string())));
    values.insert("parallel".into(), parallel.to_string());
    values.insert("the version".into(), env!("CARGO_PKG_VERSION").into());
    values.insert("the program's checksum".into(), checksum_of_program());
    if config.engine.backend == Engine::Cpu {
        values.insert("the instruction set".into(), engine::instruction_set(config.engine.isa));
    }
    Ok(values)
}

/// Returns the checksum of the program's file, or why it is unknown.
fn checksum_of_program() -> String {
    match env::current_exe().and_then(fs::read) {
        Ok(file) => format!("{:08x}", crc32fast::hash(&file)),
        Err(error) => format!("unknown ({error})"),
    }
}

/// The parts of [`Ready`] that rank 0 sends, without the state.
#[derive(Serialize, Deserialize)]
struct Sent {
    settings: String,
    /// All ranks must know when a checkpoint is due: the model's state is spread over them.
    checkpoint_every: Option<u64>,
    folder: PathBuf,
    dataset: Dataset,
    progress: Progress,
}

impl Sent {
    fn of(ready: &Ready) -> Result<Self> {
        Ok(Self {
            settings: saved::text(&ready.config)?,
            checkpoint_every: ready.config.checkpoint_every,
            folder: ready.folder.path().to_owned(),
            dataset: ready.loader.dataset().clone(),
            progress: ready.progress.clone(),
        })
    }

    /// Finds the images in shards.
    fn opened(self) -> Result<Self> {
        Ok(Self { dataset: self.dataset.opened()?, ..self })
    }

    /// Creates the run on another rank than rank 0, without its state.
    fn received(self) -> Result<Ready> {
        let unreadable = |reason| Error::Unsaveable { reason };
        let config = saved::parse(&self.settings).map_err(unreadable)?;
        Ok(Ready {
            loader: prepare::loader(&config, self.dataset)?,
            config: TrainConfig { checkpoint_every: self.checkpoint_every, ..config },
            folder: RunFolder::of_another_rank(self.folder),
            marks: Marks::default(),
            state: State::default(),
            progress: self.progress,
        })
    }
}

/// Returns the run that `prepare` prepares on rank 0, on all ranks. Only the folder on rank 0 is
/// locked and may be written.
///
/// # Errors
/// Those of `prepare`. All ranks return an error together.
pub fn share(ranks: &dyn Collective, prepare: impl FnOnce() -> Result<Ready>) -> Result<Ready> {
    if ranks.size() == 1 {
        return prepare();
    }
    let ready = agree(ranks, (ranks.rank() == 0).then(prepare).transpose())?;
    let sent = agree(ranks, ready.as_ref().map(Sent::of).transpose())?;
    let sent: Sent = broadcast(ranks, sent)?;
    let opened = match &ready {
        Some(_) => Ok(sent),
        None => sent.opened(),
    };
    let sent = agree(ranks, opened)?;
    let (ready, state) = match ready {
        Some(mut ready) => {
            let state = std::mem::take(&mut ready.state);
            (Ok(ready), Some(state))
        }
        None => (sent.received(), None),
    };
    let ready = agree(ranks, ready)?;
    Ok(Ready { state: broadcast_state(ranks, state)?, ..ready })
}

/// Returns the images that `list` lists on rank 0, on all ranks.
///
/// # Errors
/// Those of `list` and of [`check_files`]. All ranks return an error together.
pub fn share_dataset(
    ranks: &dyn Collective,
    list: impl FnOnce() -> Result<Dataset>,
) -> Result<Dataset> {
    if ranks.size() == 1 {
        return list();
    }
    let listed = agree(ranks, (ranks.rank() == 0).then(list).transpose())?;
    let sent = broadcast(ranks, listed.clone())?;
    let opened = match listed {
        Some(listed) => Ok(listed),
        None => sent.opened().map_err(Error::from),
    };
    let dataset = agree(ranks, opened)?;
    check_files(ranks, &dataset)?;
    Ok(dataset)
}

/// Checks that all ranks have the image files of rank 0, by their sizes. A file that cannot be read
/// anywhere is left to the loader.
///
/// # Errors
/// [`Error::RankDiffers`] on all ranks.
pub fn check_files(ranks: &dyn Collective, dataset: &Dataset) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let is_first = ranks.rank() == 0;
    let sizes = is_first.then(|| file_sizes(dataset).map(Result::ok).collect::<Vec<_>>());
    let sizes = broadcast(ranks, sizes)?;
    let all = gather(ranks, &(ranks.name(), differing_file(dataset, &sizes)))?;
    let first = all[0].0.clone();
    match all.into_iter().find_map(|(rank, differing)| Some((rank, differing?))) {
        None => Ok(()),
        Some((rank, Differing { what, found, expected })) => {
            Err(Error::RankDiffers { rank, first, what, found, expected })
        }
    }
}

/// A file that differs, with its size on this rank and on rank 0.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Differing {
    what: String,
    found: String,
    expected: String,
}

/// Returns the first file that differs from that of rank 0, where the files have these sizes.
fn differing_file(dataset: &Dataset, sizes: &[Option<u64>]) -> Option<Differing> {
    let bytes = |size: u64| format!("{size} bytes long");
    dataset.items().zip(file_sizes(dataset)).zip(sizes).find_map(|((item, found), expected)| {
        let (found, expected) = match (found, *expected) {
            (Ok(found), Some(expected)) if found == expected => return None,
            (Err(_), None) => return None,
            (found, expected) => (
                found.map_or_else(|error| format!("unreadable ({error})"), bytes),
                expected.map_or("unreadable".into(), bytes),
            ),
        };
        let path = dataset.images.file(item);
        Some(Differing { what: shown(&path.to_string_lossy()).to_string(), found, expected })
    })
}

fn file_sizes(dataset: &Dataset) -> impl Iterator<Item = io::Result<u64>> {
    dataset.items().map(|item| dataset.images.bytes(item))
}

#[cfg(test)]
mod tests {
    use alexnet_core::collective::threads;
    use alexnet_data::synthetic;

    use super::*;
    use crate::DataSource;

    #[test]
    fn the_rank_and_the_file_that_differs_are_named() {
        let place = tempfile::tempdir().unwrap();
        synthetic::generate(place.path(), 2, 0, &|_, _| {}).unwrap();
        let config = TrainConfig { val_fraction: 0.5, ..TrainConfig::default() };
        let source = DataSource::from(place.path().to_owned());
        let dataset = source.open_or_draw(&config.split_options(), &mut ()).unwrap();
        let lens = || file_sizes(&dataset).map(|size| Some(size.unwrap())).collect::<Vec<_>>();
        assert_eq!(differing_file(&dataset, &lens()), None);
        let path = dataset.images.file(dataset.items().nth(3).unwrap());
        let len = lens()[3].unwrap();
        let of_first = |size: Option<u64>| {
            let mut sizes = lens();
            sizes[3] = size;
            let Differing { what, found, expected } = differing_file(&dataset, &sizes).unwrap();
            assert_eq!(what, path.display().to_string());
            (found, expected)
        };
        let long = |len: u64| format!("{len} bytes long");
        assert_eq!(of_first(Some(len + 1)), (long(len), long(len + 1)));
        assert_eq!(of_first(None), (long(len), "unreadable".into()));

        // The file vanishes after rank 0 has looked at it.
        let sizes = lens();
        fs::remove_file(&path).unwrap();
        let Differing { found, .. } = differing_file(&dataset, &sizes).unwrap();
        assert!(found.starts_with("unreadable ("), "{found}");
        assert!(threads::run(2, |ranks| check_files(&*ranks, &dataset)).iter().all(Result::is_ok));
    }
}
