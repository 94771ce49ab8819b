//! `alexnet runs clean`: deletes the checkpoints of finished runs.

use std::path::PathBuf;

use alexnet::{
    Error, RunSummary,
    core::text::{shown, shown_path},
    run_folder::RUNS,
};
use anyhow::Result;

use super::summaries;
use crate::console::Console;

/// Delete the checkpoints of finished runs, which have the state of the optimizer
///
/// Weights, results and figures stay. Without its checkpoint, a run cannot be resumed with more
/// epochs. A run that is in use is left as it is.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Run folders [default: all runs in --folder]
    #[arg(value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder of the runs
    #[arg(long, value_name = "DIR", default_value = RUNS)]
    folder: PathBuf,
    /// Also delete the checkpoints of runs that are not finished: they cannot be resumed afterwards
    #[arg(long)]
    unfinished: bool,
    /// Only print what would be deleted
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// If a run cannot be read, or a checkpoint cannot be deleted.
pub fn run(args: &Args) -> Result<()> {
    let runs = match args.runs.is_empty() {
        true => summaries(&args.folder)?,
        false => args.runs.iter().map(RunSummary::read).collect::<Result<_, _>>()?,
    };
    let (mut cleaned, mut freed) = (0, 0);
    for run in runs.iter().filter(|run| run.checkpoint_bytes > 0) {
        if let Some(bytes) = clean(run, args)? {
            say!("{}: {}", shown_path(&run.folder), megabytes(bytes))?;
            (cleaned, freed) = (cleaned + 1, freed + bytes);
        }
    }
    let verb = if args.dry_run { "would be freed" } else { "freed" };
    let plural = if cleaned == 1 { "" } else { "s" };
    note!("{} {verb} in {cleaned} run{plural}", megabytes(freed));
    Ok(())
}

/// Deletes the checkpoint of a run. Returns its size, or `None` if it is left as it is.
fn clean(run: &RunSummary, args: &Args) -> Result<Option<u64>> {
    let left = |why: String| {
        note!("{} is left as it is: {why}", shown_path(&run.folder));
        Ok(None)
    };
    if let Some(by) = &run.in_use_by {
        return left(format!("it is in use by {}", shown(by)));
    }
    if !run.is_finished && !args.unfinished {
        let done = run.progress.history.len();
        return left(format!(
            "it can be resumed after {done} of {} epochs; `--unfinished` deletes its checkpoint too",
            run.epochs
        ));
    }
    if args.dry_run {
        return Ok(Some(run.checkpoint_bytes));
    }
    match run.delete_checkpoint(&mut Console::default()) {
        Ok(true) => Ok(Some(run.checkpoint_bytes)),
        Ok(false) => left("it was resumed in the meantime".into()),
        Err(Error::InUse { by, .. }) => left(format!("it is in use by {}", shown(&by))),
        Err(error) => Err(error.into()),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}
