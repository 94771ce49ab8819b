//! What the ranks of a run exchange before the first step: rank 0 prepares the run, and the others
//! get its settings, images and state. Programs, settings and image files must be equal.

use std::{collections::BTreeMap, env, fs, io, path::PathBuf};

use alexnet_core::{
    Collective, Progress, State,
    collective::{agree, broadcast, broadcast_state, gather},
    text::shown,
};
use alexnet_data::dataset::{Dataset, Item};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::{ready::Ready, resume::Resume};
use crate::{
    Engine, Error, Parallel, Result, RunFolder, TrainConfig, engine, prepare, run_folder::Marks,
    saved,
};

/// Values that must be equal on all ranks, by name.
type Values = BTreeMap<String, String>;

/// Checks that all ranks have the same program, the same instruction set and the same settings.
/// `resumed` is the run that is resumed, with its changed settings.
///
/// # Errors
/// [`Error::RankDiffers`] on all ranks; when the settings cannot be saved.
pub fn check_equal(
    ranks: &dyn Collective,
    config: &TrainConfig,
    resumed: Option<(&RunFolder, &Resume)>,
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

fn values(
    config: &TrainConfig,
    resumed: Option<(&RunFolder, &Resume)>,
    parallel: Parallel,
) -> Result<Values> {
    let unreadable = |error: toml::de::Error| Error::Unsaveable { reason: error.to_string() };
    let settings: Table = saved::text(config)?.parse().map_err(unreadable)?;
    let mut values: Values =
        settings.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
    let run = match resumed {
        None => format!("{:?}", config.run_dir),
        Some((folder, changes)) => format!("{}, {changes:?}", folder.path().display()),
    };
    values.insert("run folder".into(), run);
    values.insert("checkpoint-every".into(), format!("{:?}", config.checkpoint_every));
    values.insert("parallel".into(), parallel.to_string());
    values.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    values.insert("program".into(), program());
    if config.engine.backend == Engine::Cpu {
        values.insert("instruction set".into(), engine::instruction_set(config.engine.isa));
    }
    Ok(values)
}

/// Returns the checksum of the program's file.
fn program() -> String {
    match env::current_exe().and_then(fs::read) {
        Ok(file) => format!("of checksum {:08x}", crc32fast::hash(&file)),
        Err(error) => format!("that cannot be read ({error})"),
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
    file_sizes: Vec<Option<u64>>,
    progress: Progress,
}

impl Sent {
    fn of(ready: &Ready) -> Result<Self> {
        let dataset = ready.loader.dataset();
        Ok(Self {
            settings: saved::text(&ready.config)?,
            checkpoint_every: ready.config.checkpoint_every,
            folder: ready.folder.path().to_owned(),
            file_sizes: file_sizes(dataset).map(Result::ok).collect(),
            dataset: dataset.clone(),
            progress: ready.progress.clone(),
        })
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
/// Those of `prepare`; [`Error::RankDiffers`] when another rank has other image files. All ranks
/// return an error together.
pub fn share(ranks: &dyn Collective, prepare: impl FnOnce() -> Result<Ready>) -> Result<Ready> {
    if ranks.size() == 1 {
        return prepare();
    }
    let ready = agree(ranks, (ranks.rank() == 0).then(prepare).transpose())?;
    let sent = agree(ranks, ready.as_ref().map(Sent::of).transpose())?;
    let sent = broadcast(ranks, sent)?;
    agree(ranks, has_files(ranks, &sent.dataset, &sent.file_sizes))?;
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

fn file_sizes(dataset: &Dataset) -> impl Iterator<Item = io::Result<u64>> {
    dataset.items().map(|Item { path, .. }| Ok(fs::metadata(dataset.root.join(path))?.len()))
}

/// Checks that this rank has the image files of rank 0, by their sizes. A file that cannot be read
/// on both is left to the loader.
fn has_files(ranks: &dyn Collective, dataset: &Dataset, expected: &[Option<u64>]) -> Result<()> {
    for ((Item { path, .. }, found), expected) in
        dataset.items().zip(file_sizes(dataset)).zip(expected)
    {
        let (found, expected) = match (found, expected) {
            (Ok(found), Some(expected)) if found == *expected => continue,
            (Err(_), None) => continue,
            (found, expected) => (
                found.map_or_else(|error| error.to_string(), |size| format!("{size} bytes")),
                expected.map_or("unreadable".into(), |size| format!("{size} bytes")),
            ),
        };
        return Err(Error::RankDiffers {
            rank: ranks.name(),
            first: "rank 0".into(),
            what: shown(&dataset.root.join(path).to_string_lossy()).to_string(),
            found,
            expected,
        });
    }
    Ok(())
}
