//! `alexnet runs`: lists and compares runs, and deletes the checkpoints of finished ones.

mod clean;
mod table;

use std::{
    cmp::Reverse,
    path::{Path, PathBuf},
};

use alexnet::{
    RunSummary,
    core::{Error, text::shown_path, train::EpochRow},
    run_folder::RUNS,
    runs::find,
};
use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use crate::output::{self, explain};

/// List runs with their results, the newest first, or delete their checkpoints
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Folder of the runs
    #[arg(long, value_name = "DIR", default_value = RUNS)]
    folder: PathBuf,
    /// What to sort by
    #[arg(long, value_name = "KEY", value_enum, default_value = "date")]
    sort: Key,
    /// Output format
    #[arg(long, value_name = "NAME", value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    Clean(clean::Args),
}

/// Output formats of `runs`.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    /// A table to read
    Table,
    /// JSON for other programs
    Json,
}

/// What runs are sorted by.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Key {
    /// The newest first
    Date,
    /// The name of the folder
    Name,
    /// The highest validation accuracy first
    Best,
    /// The highest validation accuracy of the last epoch first
    Last,
    /// The most completed epochs first
    Epochs,
    /// The largest first
    Size,
}

/// Runs the command.
///
/// # Errors
/// If the folder cannot be read, a checkpoint cannot be deleted, or the output cannot be written.
pub fn run(args: &Args) -> Result<()> {
    if let Some(Command::Clean(args)) = &args.command {
        return clean::run(args);
    }
    let mut runs = summaries(&args.folder)?;
    sort(&mut runs, args.sort);
    match args.format {
        Format::Json => output::json(&table::json(&runs)?),
        Format::Table if runs.is_empty() => {
            note!("there are no runs in {}; `train` starts one", shown_path(&args.folder));
            Ok(())
        }
        Format::Table => table::print(&runs, &args.folder),
    }
}

/// Reads the runs in a folder. One that cannot be read is left out with a warning.
fn summaries(folder: &Path) -> Result<Vec<RunSummary>> {
    let runs = find(folder).map_err(Error::io("read", folder))?;
    let summary = |run: PathBuf| match RunSummary::read(&run) {
        Ok(summary) => Some(summary),
        Err(error) => {
            note!("warning: {} is left out: {}", shown_path(&run), explain(&error.into()));
            None
        }
    };
    Ok(runs.into_iter().filter_map(summary).collect())
}

/// Sorts runs. Equal ones stay in the order of their names.
fn sort(runs: &mut [RunSummary], key: Key) {
    let best = |run: &RunSummary| run.progress.best().and_then(EpochRow::accuracy).unwrap_or(-1.0);
    let last =
        |run: &RunSummary| run.progress.history.last().and_then(EpochRow::accuracy).unwrap_or(-1.0);
    match key {
        Key::Name => {}
        Key::Date => runs.sort_by_key(|run| Reverse(run.modified)),
        Key::Best => runs.sort_by(|a, b| best(b).total_cmp(&best(a))),
        Key::Last => runs.sort_by(|a, b| last(b).total_cmp(&last(a))),
        Key::Epochs => {
            runs.sort_by_key(|run| Reverse(run.progress.history.len()));
        }
        Key::Size => runs.sort_by_key(|run| Reverse(run.bytes)),
    }
}
