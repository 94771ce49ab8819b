//! What a run consists of before its first or next step, and how a new run gets there.

use std::path::Path;

use alexnet_core::{Error as CoreError, Progress, State, train::Batches};
use alexnet_data::{
    check,
    dataset::Dataset,
    loader::{Loader, OnBadImage},
};

use crate::{
    Error, LrScheduler, Note, Observer, Result, RunFolder, TrainConfig,
    observer::{Work, shared},
    prepare::Prepared,
    run_folder::{Marks, RUNS},
    saved,
};

/// A run before its first or next step.
pub struct Ready {
    pub config: TrainConfig,
    pub folder: RunFolder,
    pub marks: Marks,
    pub loader: Loader,
    pub state: State,
    pub progress: Progress,
}

/// A new run on these images, with its folder.
pub fn new_run(
    config: TrainConfig,
    dataset: Dataset,
    observer: &mut dyn Observer,
) -> Result<Ready> {
    if !config.frozen(&config.variant.topology(dataset.classes.len()))?.is_empty()
        && config.weights.is_none()
    {
        observer.note(Note::FrozenUntrained);
    }
    if config.on_bad_image == OnBadImage::Error {
        look_at_all(&dataset, observer)?;
    }
    let needs_validation = [
        ("patience", config.patience.map(|patience| patience.to_string())),
        (
            "lr_scheduler",
            (config.lr_scheduler == LrScheduler::Plateau).then(|| "plateau".to_owned()),
        ),
    ];
    let first = needs_validation.into_iter().find_map(|(field, value)| Some((field, value?)));
    if let Some((field, value)) = first.filter(|_| dataset.val.is_empty()) {
        let reason = "there are no validation images".into();
        return Err(CoreError::Invalid { field, value, reason }.into());
    }
    let run_dir = config.run_dir.clone();
    dataset.images.check_outside(run_dir.as_deref().unwrap_or(Path::new(RUNS)))?;
    let Prepared { config, loader, state, .. } = Prepared::new(config, dataset, observer)?;
    // A run that cannot take its first step creates no folder.
    loader.whole_steps(0).next().transpose()?;
    saved::check(&config)?;
    let (marks, progress) = (saved::marks(&config, &loader)?, Progress::default());
    let folder = RunFolder::create(run_dir.as_deref(), observer)?;
    // The settings are written first: with them, a run that is killed now can already be resumed.
    saved::write(&config, &folder)?;
    loader.dataset().save(&folder.split())?;
    // From here on, a missing checkpoint is an error, and the initial weights file is no longer
    // needed.
    folder.save_checkpoint(&state, &progress, &marks)?;
    Ok(Ready { config, folder, marks, loader, state, progress })
}

/// The most unreadable images that an error names.
const NAMED: usize = 5;

/// Checks that all images can be read, before hours of training.
pub fn look_at_all(dataset: &Dataset, observer: &mut dyn Observer) -> Result<()> {
    let unreadable = check::unreadable(dataset, &shared(observer, Work::LookingAtImages));
    if unreadable.is_empty() {
        return Ok(());
    }
    Err(Error::Unreadable {
        images: unreadable.len(),
        of: dataset.items().count(),
        named: unreadable.iter().take(NAMED).map(ToString::to_string).collect(),
    })
}
