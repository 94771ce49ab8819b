//! The folder of a run: `runs/train`, `runs/train2`, ….

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use alexnet_core::{
    Error as CoreError, Progress, Result as CoreResult, State, checkpoint,
    files::{create_folders, read_text, remove_temporary, sync_folder, write_atomically},
    lock::Lock,
    train::{EpochRow, Validation},
    weights::Metadata,
};
use alexnet_interchange::class_indices;
use serde::{Deserialize, Serialize};

use crate::{Error, Note, Observer, Result};

/// The default folder of runs.
pub const RUNS: &str = "runs";

/// The files of a run besides `args.toml`, weights and checkpoint. Some are written by the program.
const FILES: [&str; 14] = [
    "calibration.png",
    "class_indices.json",
    "confusion_matrix.png",
    "confusion_matrix_normalized.png",
    "environment.json",
    "events.out.tfevents",
    "misclassified.csv",
    "misclassified.jpg",
    "report.json",
    "results.csv",
    "results.png",
    "split.json",
    "train_batch0.jpg",
    "val_batch0_pred.jpg",
];

/// The folder of a run, and the paths of its files.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held while this process writes to the run.
    _lock: Option<Lock>,
}

/// Stored in a checkpoint beside state and progress, so that a resume can detect that other files
/// of the run have changed. Absent in checkpoints of earlier versions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// The options that decide the weights, as TOML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
    /// The checksum of the split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// The checksum of the order of the images in shards, if the run depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
}

/// The content of a checkpoint beside the state.
#[derive(Serialize, Deserialize)]
struct Kept<P> {
    #[serde(flatten)]
    progress: P,
    #[serde(flatten)]
    marks: Marks,
}

impl RunFolder {
    fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), _lock: None }
    }

    /// The folder that another rank has locked. This process must not write it.
    pub(crate) fn of_another_rank(path: PathBuf) -> Self {
        Self::at(path)
    }

    /// Creates and locks the folder of a new run: `path`, or the next free `runs/train…`.
    ///
    /// # Errors
    /// [`Error::RunExists`] when it contains a run, [`Error::Taken`] when it contains a file that the
    /// run would overwrite, [`Error::InUse`] when another process starts one there,
    /// [`Error::NoPlace`] when it cannot be created.
    pub(crate) fn create(path: Option<&Path>, observer: &mut dyn Observer) -> Result<Self> {
        let folder = match path {
            Some(path) => Self::at(path),
            None => Self::at(claim_next(Path::new(RUNS))?),
        };
        folder.holds_no_run()?;
        folder.create_places().map_err(|error| Error::NoPlace { error })?;
        let folder = folder.locked(observer)?;
        // Another process may have started a run since, and ended.
        folder.holds_no_run()?;
        // Or it was killed before it had written `args.toml`.
        folder.remove_leftovers()?;
        Ok(folder)
    }

    /// Creates the folders of the weights and of the checkpoint.
    pub(crate) fn create_places(&self) -> CoreResult<()> {
        create_folders(self.weights())?;
        create_folders(self.path.join("checkpoint"))
    }

    fn holds_no_run(&self) -> Result<()> {
        if self.checkpoint().exists() || self.args().exists() {
            return Err(Error::RunExists { folder: self.path.clone() });
        }
        // A run writes `args.toml` first, so these are not from a run.
        let files = FILES.iter().map(|name| self.file(name));
        match files.chain([self.best(), self.last()]).find(|file| file.exists()) {
            Some(file) => Err(Error::Taken { file }),
            None => Ok(()),
        }
    }

    /// Whether `path` is an existing file that the run reads or writes.
    pub fn has(&self, path: &Path) -> bool {
        let Ok(path) = fs::canonicalize(path) else { return false };
        let others = [self.args(), self.best(), self.last(), self.checkpoint(), self.file(".lock")];
        let mut files = FILES.iter().map(|name| self.file(name)).chain(others);
        files.any(|file| fs::canonicalize(file).is_ok_and(|file| file == path))
    }

    /// Locks the folder until this value is dropped. Call it before anything in the folder is
    /// written.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process has locked it; when creating the lock file fails.
    pub(crate) fn locked(self, observer: &mut dyn Observer) -> Result<Self> {
        let lock = Lock::acquire(self.file(".lock")).map_err(|error| match error {
            CoreError::Held { by, .. } => Error::InUse { folder: self.path.clone(), by },
            error => error.into(),
        })?;
        if !lock.is_supported {
            observer.note(Note::NoLocks { folder: self.path.clone() });
        }
        Ok(Self { _lock: Some(lock), ..self })
    }

    /// Opens the folder of an existing run.
    ///
    /// # Errors
    /// [`Error::NotARun`] when it has no `args.toml`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let folder = Self::at(path.as_ref());
        match folder.args().is_file() {
            true => Ok(folder),
            false => Err(Error::NotARun { folder: folder.path }),
        }
    }

    /// Removes temporary files of a killed writer. The folder must be locked: otherwise the files
    /// could belong to another process that is writing them.
    ///
    /// # Errors
    /// When writing fails.
    pub(crate) fn remove_leftovers(&self) -> CoreResult<()> {
        for place in [self.path.clone(), self.weights(), self.path.join("checkpoint")] {
            remove_temporary(&place)?;
        }
        Ok(())
    }

    /// The best weights in a run folder.
    ///
    /// # Errors
    /// [`Error::NoBestWeights`] when the file is missing.
    pub fn weights_in(folder: &Path) -> Result<PathBuf> {
        let best = Self::at(folder).best();
        match best.is_file() {
            true => Ok(best),
            false => Err(Error::NoBestWeights { folder: folder.to_owned() }),
        }
    }

    /// The best weights of the newest run in `runs/`.
    ///
    /// # Errors
    /// [`Error::NoWeights`] when no run has weights.
    pub fn newest_weights() -> Result<PathBuf> {
        let folders = fs::read_dir(RUNS).into_iter().flatten().flatten();
        let weights = folders.map(|entry| Self::at(entry.path()).best()).filter_map(|best| {
            let modified = fs::metadata(&best).and_then(|m| m.modified()).ok()?;
            Some((modified, best))
        });
        weights.max().map(|(_, best)| best).ok_or_else(|| Error::NoWeights { folder: RUNS.into() })
    }

    /// The newest run in `runs/`: the one whose checkpoint, or whose settings if it has none, were
    /// written last.
    ///
    /// # Errors
    /// [`Error::NoRuns`] when `runs/` has no run.
    pub fn newest() -> Result<PathBuf> {
        let folders = fs::read_dir(RUNS).into_iter().flatten().flatten();
        let runs = folders.map(|entry| Self::at(entry.path())).filter_map(|run| {
            let file = if run.checkpoint().is_file() { run.checkpoint() } else { run.args() };
            Some((fs::metadata(file).and_then(|file| file.modified()).ok()?, run.path))
        });
        runs.max().map(|(_, path)| path).ok_or_else(|| Error::NoRuns { folder: RUNS.into() })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file directly in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// `args.toml`: the settings.
    pub fn args(&self) -> PathBuf {
        self.file("args.toml")
    }

    /// `split.json`.
    pub fn split(&self) -> PathBuf {
        self.file("split.json")
    }

    fn weights(&self) -> PathBuf {
        self.path.join("weights")
    }

    /// Weights of the epoch with the highest validation accuracy; without validation images, of the
    /// last epoch.
    pub fn best(&self) -> PathBuf {
        self.weights().join("best.safetensors")
    }

    /// Weights of the last epoch.
    pub fn last(&self) -> PathBuf {
        self.weights().join("last.safetensors")
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint").join("checkpoint.safetensors")
    }

    /// Whether a run has written weights or results here.
    pub fn has_results(&self) -> bool {
        [self.best(), self.last(), self.file("results.csv")].iter().any(|file| file.exists())
    }

    /// Writes the checkpoint.
    ///
    /// # Errors
    /// When writing fails.
    pub(crate) fn save_checkpoint(
        &self,
        state: &State,
        progress: &Progress,
        marks: &Marks,
    ) -> CoreResult<()> {
        checkpoint::save(self.checkpoint(), state, &Kept { progress, marks: marks.clone() })
    }

    /// The progress in the checkpoint; `None` before the first checkpoint.
    ///
    /// # Errors
    /// When the checkpoint is damaged.
    pub fn progress(&self) -> Result<Option<Progress>> {
        Ok(self.load_checkpoint()?.map(|(_, progress, _)| progress))
    }

    /// Reads the checkpoint; `None` before the first one.
    ///
    /// # Errors
    /// When it is damaged.
    pub(crate) fn load_checkpoint(&self) -> CoreResult<Option<(State, Progress, Marks)>> {
        let path = self.checkpoint();
        if !path.exists() {
            return Ok(None);
        }
        let (state, Kept { progress, marks }) = checkpoint::load(&path)?;
        Ok(Some((state, progress, marks)))
    }

    /// Writes the file `name`.
    ///
    /// # Errors
    /// When writing fails.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> CoreResult<()> {
        write_atomically(self.file(name), |file| file.write_all(content))
    }

    /// Writes `class_indices.json` in the tutorial's format: from indices, as strings, to names,
    /// with an indent of 4.
    ///
    /// # Errors
    /// When writing fails.
    pub(crate) fn write_class_indices(&self, metadata: &Metadata) -> CoreResult<()> {
        class_indices::write(self.file(class_indices::NAME), &metadata.classes)
    }

    /// Writes `history` to `results.csv`. Without validation images, their columns are empty. There
    /// is a column of the accuracy among five if there are more than five classes.
    ///
    /// # Errors
    /// When writing fails.
    pub(crate) fn write_results(&self, history: &[EpochRow]) -> CoreResult<()> {
        let top5 = |row: &EpochRow| row.validation.and_then(|validation| validation.top5);
        let has_top5 = history.iter().any(|row| top5(row).is_some());
        let column = if has_top5 { ",metrics/accuracy_top5" } else { "" };
        let mut text = format!("epoch,time,train/loss,val/loss,metrics/accuracy_top1{column},lr\n");
        let number = |number: Option<f64>| number.map_or(String::new(), |n| format!("{n:.6}"));
        for row in history {
            let EpochRow { epoch, time, train_loss, validation, lr } = row;
            let loss = number(validation.map(|validation| validation.loss));
            let mut accuracy = number(row.accuracy());
            if has_top5 {
                accuracy += &format!(",{}", number(top5(row)));
            }
            text += &format!("{epoch},{time:.1},{train_loss:.6},{loss},{accuracy},{lr}\n");
        }
        self.write("results.csv", text.as_bytes())
    }

    /// Reads the completed epochs from `results.csv`; none before the first epoch is complete.
    ///
    /// # Errors
    /// [`Error::RunFile`] when the file is damaged; when it cannot be read.
    pub fn results(&self) -> Result<Vec<EpochRow>> {
        let path = self.file("results.csv");
        if !path.exists() {
            return Ok(vec![]);
        }
        let text = read_text(&path, MAX_RESULTS_BYTES)?;
        let rows = csv::Reader::from_reader(text.as_bytes()).into_deserialize();
        let rows: csv::Result<Vec<ResultsRow>> = rows.collect();
        let rows =
            rows.map_err(|error| Error::RunFile { path, reason: format!("is damaged: {error}") })?;
        Ok(rows.into_iter().map(EpochRow::from).collect())
    }

    /// Writes a value as indented JSON.
    ///
    /// # Errors
    /// When writing fails.
    pub(crate) fn write_json(&self, name: &str, value: &impl Serialize) -> CoreResult<()> {
        let text = serde_json::to_vec_pretty(value);
        self.write(
            name,
            &text.map_err(|error| CoreError::io("write", self.file(name))(error.into()))?,
        )
    }
}

/// The largest `results.csv`, in bytes. Those of a thousand epochs have a few ten thousand.
const MAX_RESULTS_BYTES: u64 = 1 << 26;

/// The columns of `results.csv` that an [`EpochRow`] is made of.
#[derive(Deserialize)]
struct ResultsRow {
    epoch: u64,
    time: f64,
    #[serde(rename = "train/loss")]
    train_loss: f64,
    #[serde(rename = "val/loss")]
    val_loss: Option<f64>,
    #[serde(rename = "metrics/accuracy_top1")]
    accuracy: Option<f64>,
    #[serde(rename = "metrics/accuracy_top5", default)]
    top5: Option<f64>,
    lr: f32,
}

impl From<ResultsRow> for EpochRow {
    fn from(row: ResultsRow) -> Self {
        let ResultsRow { epoch, time, train_loss, val_loss, accuracy, top5, lr } = row;
        let validation =
            val_loss.zip(accuracy).map(|(loss, accuracy)| Validation { loss, accuracy, top5 });
        Self { epoch, time, train_loss, validation, lr }
    }
}

/// Creates `train`, or the next free of `train2`, `train3`, …. Creation is atomic, so concurrent
/// runs get different folders.
fn claim_next(runs: &Path) -> CoreResult<PathBuf> {
    create_folders(runs)?;
    let mut path = runs.join("train");
    let mut n = 1;
    loop {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => n += 1,
            made => {
                let made = made.and_then(|()| sync_folder(runs));
                return made.map_err(CoreError::io("create", &path)).map(|()| path);
            }
        }
        path = runs.join(format!("train{n}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_like_their_forebears() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["train", "train2", "train3"] {
            assert_eq!(claim_next(folder.path()).unwrap(), folder.path().join(name));
        }
    }

    #[test]
    fn a_folder_that_holds_a_run_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(Some(folder.path()), &mut ()).unwrap();
        let error = RunFolder::create(Some(folder.path()), &mut ()).unwrap_err().to_string();
        assert!(error.contains("is in use by process "), "{error}");
        run.write("args.toml", b"").unwrap();
        let error = RunFolder::create(Some(folder.path()), &mut ()).unwrap_err().to_string();
        assert!(error.contains("already contains a run"), "{error}");
        assert!(run.has(&run.weights().join("../args.toml")));
        assert!(!run.has(&run.best()) && !run.has(folder.path()));
        let error =
            RunFolder::open(folder.path()).unwrap().locked(&mut ()).unwrap_err().to_string();
        assert!(error.contains("is in use by process "), "{error}");
        drop(run);
        RunFolder::open(folder.path()).unwrap().locked(&mut ()).unwrap();
        assert!(RunFolder::open(folder.path().join("weights")).is_err());
    }

    /// A run of an earlier version with more than five classes has no accuracy among five in its
    /// first epochs.
    #[test]
    fn results_have_a_column_of_the_accuracy_among_five_if_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(Some(folder.path()), &mut ()).unwrap();
        let written = |rows: &[Option<Validation>]| {
            let row = |(epoch, validation)| EpochRow {
                epoch,
                time: 1.0,
                train_loss: 2.0,
                validation,
                lr: 0.5,
            };
            let rows: Vec<EpochRow> = (1..).zip(rows.iter().copied()).map(row).collect();
            run.write_results(&rows).unwrap();
            fs::read_to_string(run.file("results.csv")).unwrap()
        };
        let plain = Some(Validation { loss: 1.5, accuracy: 0.25, top5: None });
        let five = Some(Validation { loss: 1.0, accuracy: 0.5, top5: Some(0.75) });
        let head = "epoch,time,train/loss,val/loss,metrics/accuracy_top1,";
        assert_eq!(written(&[plain]), format!("{head}lr\n1,1.0,2.000000,1.500000,0.250000,0.5\n"));
        assert_eq!(written(&[None]), format!("{head}lr\n1,1.0,2.000000,,,0.5\n"));
        assert_eq!(
            written(&[plain, five]),
            format!(
                "{head}metrics/accuracy_top5,lr\n1,1.0,2.000000,1.500000,0.250000,,0.5\n\
                 2,1.0,2.000000,1.000000,0.500000,0.750000,0.5\n"
            )
        );
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(Some(folder.path()), &mut ()).unwrap();
        assert_eq!(run.results().unwrap(), []);
        let row = |epoch, accuracy: Option<f64>| EpochRow {
            epoch,
            time: 1.5,
            train_loss: 0.25,
            validation: accuracy.map(|accuracy| Validation { loss: 2.0, accuracy, top5: None }),
            lr: 2e-4,
        };
        let mut history = [row(1, Some(0.5)), row(2, Some(0.625)), row(3, None)];
        run.write_results(&history).unwrap();
        assert_eq!(run.results().unwrap(), history);
        history[1].validation.as_mut().unwrap().top5 = Some(0.75);
        run.write_results(&history).unwrap();
        assert_eq!(run.results().unwrap(), history);
        run.write("results.csv", b"epoch,time\n1,2\n").unwrap();
        let error = run.results().unwrap_err().to_string();
        assert!(
            error.contains("results.csv is damaged: ") && error.contains("train/loss"),
            "{error}"
        );
    }

    #[test]
    fn files_of_others_are_not_overwritten() {
        for name in ["results.csv", "weights/best.safetensors"] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("weights")).unwrap();
            fs::write(folder.path().join(name), "mine").unwrap();
            fs::write(folder.path().join("notes.txt"), "mine").unwrap();
            let error = RunFolder::create(Some(folder.path()), &mut ()).unwrap_err().to_string();
            let file = folder.path().join(name);
            let expected = format!("{} exists and is not of a run", file.display());
            assert!(error.starts_with(&expected), "{error}");
            fs::remove_file(file).unwrap();
            RunFolder::create(Some(folder.path()), &mut ()).unwrap();
        }
    }

    #[test]
    fn leftovers_of_a_killed_writer_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(Some(folder.path()), &mut ()).unwrap();
        run.write("args.toml", b"").unwrap();
        let leftover = folder.path().join("checkpoint").join(".checkpoint.safetensors.tmp-1-x");
        fs::write(&leftover, b"half").unwrap();
        // Another process may be training there.
        drop(run);
        let run = RunFolder::open(folder.path()).unwrap();
        assert!(leftover.exists());
        run.remove_leftovers().unwrap();
        assert!(!leftover.exists() && run.args().exists());
    }

    #[test]
    fn leftovers_of_a_run_that_was_killed_at_its_start_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let [leftover, other] =
            [".args.toml.tmp-28464-rxXoFr", ".notes.tmp-old"].map(|name| folder.path().join(name));
        for file in [&leftover, &other] {
            fs::write(file, b"half").unwrap();
        }
        RunFolder::create(Some(folder.path()), &mut ()).unwrap();
        assert!(!leftover.exists() && other.exists());
    }

    #[test]
    fn class_indices_are_the_tutorials() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(Some(folder.path()), &mut ()).unwrap();
        let metadata = Metadata {
            variant: alexnet_core::alexnet::Variant::Tutorial,
            classes: vec!["daisy".into(), "ro\"se".into()],
            input_size: 224,
            resize_crop: None,
            normalization: alexnet_core::Normalization::HALF,
            exif_orientation: alexnet_core::ExifOrientation::Apply,
            precision: Default::default(),
        };
        run.write_class_indices(&metadata).unwrap();
        let text = fs::read_to_string(run.file("class_indices.json")).unwrap();
        assert_eq!(text, "{\n    \"0\": \"daisy\",\n    \"1\": \"ro\\\"se\"\n}");
    }
}
