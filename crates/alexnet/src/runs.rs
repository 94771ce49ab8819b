//! The runs in a folder, and what is known of each without reading its weights.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use alexnet_core::{Error as CoreError, ExifOrientation, Normalization, Precision, Progress, lock};
use toml::{Table, Value};

use crate::{Convolution, Observer, Recipe, Result, RunFolder, TrainConfig, saved};

/// Folders below the folder of runs that are searched: `runs/train`, `runs/recipes/fast-0`.
const DEPTH: usize = 2;

/// The name and the value of a setting.
pub type Change = (String, Option<Value>);

/// What is known of a run from its small files.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Its folder.
    pub folder: PathBuf,
    /// The completed epochs.
    pub progress: Progress,
    /// The number of epochs that it was started with, or that a resume has changed it to.
    pub epochs: u64,
    /// Whether its last epoch is done and evaluated. Otherwise it can be resumed.
    pub is_finished: bool,
    /// The process that trains it now.
    pub in_use_by: Option<String>,
    /// The recipe from which the fewest settings differ.
    pub recipe: Recipe,
    /// The settings that differ from the recipe, by name, as TOML; `None` if it has no such setting.
    pub changes: Vec<Change>,
    /// When an epoch ended last, or the run was started.
    pub modified: SystemTime,
    /// The size of its files in bytes.
    pub bytes: u64,
    /// The size of its checkpoint in bytes; 0 if it has none.
    pub checkpoint_bytes: u64,
}

/// Returns the run folders in a folder and in its subfolders, sorted.
///
/// # Errors
/// When a folder cannot be read. A missing folder has no runs.
pub fn find(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fn collect(folder: &Path, depth: usize, runs: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.join("args.toml").is_file() {
                runs.push(path);
            } else if depth > 1 && path.is_dir() {
                collect(&path, depth - 1, runs)?;
            }
        }
        Ok(())
    }
    let mut runs = vec![];
    if folder.exists() {
        collect(folder, DEPTH, &mut runs)?;
    }
    runs.sort();
    Ok(runs)
}

impl RunSummary {
    /// Reads the files of a run, except weights and checkpoint.
    ///
    /// # Errors
    /// [`crate::Error::NotARun`], [`crate::Error::RunFile`] when `args.toml` or `results.csv` is
    /// damaged; when reading fails.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = RunFolder::open(folder)?;
        let (config, _) = saved::read(&folder)?;
        let progress = Progress::of_epochs(folder.results()?);
        let (recipe, changes) = nearest_recipe(&config)?;
        let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
        let results = modified(&folder.file("results.csv"));
        let is_validated = progress.history.last().is_some_and(|row| row.validation.is_some());
        // A run that is resumed with more epochs still has the report of before.
        let is_evaluated = !is_validated || modified(&folder.file("report.json")) >= results;
        let is_over = progress.history.len() as u64 >= config.epochs || config.is_stuck(&progress);
        // A link is counted without its target, which is not deleted.
        let size = |path: PathBuf| fs::symlink_metadata(path).map_or(0, |file| file.len());
        Ok(Self {
            epochs: config.epochs,
            is_finished: is_evaluated && is_over,
            in_use_by: lock::holder(folder.file(".lock")),
            recipe,
            changes,
            modified: results.or(modified(&folder.args())).unwrap_or(SystemTime::UNIX_EPOCH),
            bytes: bytes_in(folder.path()),
            checkpoint_bytes: size(folder.checkpoint()),
            progress,
            folder: folder.path().to_owned(),
        })
    }
}

impl RunSummary {
    /// Deletes the checkpoint of the run, if the run has not changed since this summary was read.
    /// Returns whether it did. Afterwards the run cannot be resumed.
    ///
    /// # Errors
    /// [`crate::Error::InUse`] when a process trains it; when deleting fails.
    pub fn delete_checkpoint(&self, observer: &mut dyn Observer) -> Result<bool> {
        let folder = RunFolder::open(&self.folder)?.locked(observer)?;
        let now = Self::read(folder.path())?;
        let done = |run: &Self| (run.epochs, run.progress.history.len());
        if done(&now) != done(self) {
            return Ok(false);
        }
        let checkpoint = folder.checkpoint();
        fs::remove_file(&checkpoint).map_err(CoreError::io("delete", &checkpoint))?;
        Ok(true)
    }
}

/// Returns the size of all files in a folder. What cannot be read counts as 0.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
        _ => entry.metadata().map_or(0, |file| file.len()),
    };
    entries.map(bytes).sum()
}

/// Returns the recipe from which the fewest settings of a run differ, and these settings.
fn nearest_recipe(config: &TrainConfig) -> Result<(Recipe, Vec<Change>)> {
    let ours = table(completed(config.clone()))?;
    let mut nearest: Option<(Recipe, Vec<Change>)> = None;
    for recipe in Recipe::ALL {
        let mut preset = completed(TrainConfig::recipe(recipe));
        // If it is open, its value depends on the number of images.
        preset.model_ema_steps = preset.model_ema_steps.or(config.model_ema_steps);
        let changes = changes(&ours, &table(preset)?);
        if nearest.as_ref().is_none_or(|(_, fewest)| changes.len() < fewest.len()) {
            nearest = Some((recipe, changes));
        }
    }
    Ok(nearest.unwrap_or_default())
}

/// Gives open settings the values that they have without initial weights, and removes engine settings
/// that are defaults.
fn completed(mut config: TrainConfig) -> TrainConfig {
    let Normalization { mean, std } = Normalization::HALF;
    config.mean.get_or_insert(mean);
    config.std.get_or_insert(std);
    config.exif_orientation.get_or_insert(ExifOrientation::Apply);
    config.val_resize_crop.get_or_insert(0);
    // Engine settings that are given with their default values.
    let engine = &mut config.engine;
    engine.convolution = engine.convolution.filter(|given| *given != Convolution::Winograd);
    engine.precision = engine.precision.filter(|given| *given != Precision::F32);
    config
}

/// Returns the settings as they are in `args.toml`.
fn table(config: TrainConfig) -> Result<Table> {
    // TOML that was just written can be read.
    Ok(saved::text(&config)?.parse().unwrap_or_default())
}

fn changes(run: &Table, recipe: &Table) -> Vec<Change> {
    let differs = |(key, value): &(&String, &Value)| recipe.get(*key) != Some(value);
    let changed = run.iter().filter(differs);
    let changed = changed.map(|(key, value)| (key.clone(), Some(value.clone())));
    let missing = recipe.keys().filter(|key| !run.contains_key(*key));
    changed.chain(missing.map(|key| (key.clone(), None))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;

    #[test]
    fn a_run_is_described_by_the_nearest_recipe() {
        for recipe in Recipe::ALL {
            let mut config = TrainConfig::recipe(recipe);
            assert_eq!(nearest_recipe(&config).unwrap(), (recipe, vec![]));
            // Settings that are open when a run is started.
            config.mean.get_or_insert([0.5; 3]);
            config.std.get_or_insert([0.5; 3]);
            config.exif_orientation = Some(ExifOrientation::Apply);
            config.val_resize_crop.get_or_insert(0);
            config.model_ema_steps = Some(7);
            config.engine.precision = Some(Precision::F32);
            config.engine.convolution = Some(Convolution::Winograd);
            assert_eq!(nearest_recipe(&config).unwrap(), (recipe, vec![]));
            config.seed = 1;
            config.engine.backend = Engine::Candle;
            let changed = nearest_recipe(&config).unwrap();
            let engine = ("backend".to_owned(), Some(Value::from("candle")));
            assert_eq!(changed, (recipe, vec![engine, ("seed".into(), Some(1.into()))]));
        }
        let mut config = TrainConfig::recipe(Recipe::Fast);
        config.mean = Some([0.4; 3]);
        assert_eq!(nearest_recipe(&config).unwrap().1[0].0, "mean");
        let ours = table(TrainConfig::default()).unwrap();
        let mut recipe = ours.clone();
        recipe.insert("patience".into(), 3.into());
        assert_eq!(changes(&ours, &recipe), [("patience".into(), None)]);
    }
}
