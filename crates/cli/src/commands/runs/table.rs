//! The list of runs as a table and as JSON.

use std::path::Path;

use alexnet::{
    RunSummary,
    core::{text::shown_path, train::EpochRow},
};
use anyhow::Result;
use console::Term;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use crate::{
    columns::{TERMINAL, print_table, shorten, width},
    run_options::{changed, options},
};

/// The fewest columns for the options of a run.
const SHORTEST: usize = 10;

/// Prints a table that fits the terminal, or 80 columns.
///
/// # Errors
/// If it cannot be written.
pub fn print(runs: &[RunSummary], folder: &Path) -> Result<()> {
    let terminal = Term::stdout().size_checked().map_or(TERMINAL, |(_, columns)| columns.into());
    let mut table =
        vec![["run", "options", "epochs", "best", "last", "MB", "date"].map(String::from)];
    table.extend(runs.iter().map(|run| row(run, folder)));
    let columns = |column: usize| table.iter().map(|row| width(&row[column])).max().unwrap_or(0);
    let others: usize = (0..table[0].len()).filter(|column| *column != 1).map(columns).sum();
    let gaps = 2 * (table[0].len() - 1);
    // The last column of some terminals is not usable.
    let room = (terminal.max(TERMINAL) - 1).saturating_sub(others + gaps).max(SHORTEST);
    table.iter_mut().for_each(|row| row[1] = shorten(&row[1], room));
    print_table(&table)
}

fn row(run: &RunSummary, folder: &Path) -> [String; 7] {
    let RunSummary { progress, epochs, is_finished, .. } = run;
    let done = progress.history.len();
    let accuracy = |row: Option<&EpochRow>| {
        row.and_then(EpochRow::accuracy).map_or("–".into(), |accuracy| format!("{accuracy:.3}"))
    };
    [
        shown_path(run.folder.strip_prefix(folder).unwrap_or(&run.folder)).to_string(),
        options(run),
        if *is_finished { done.to_string() } else { format!("{done}/{epochs}") },
        accuracy(progress.best()),
        accuracy(progress.history.last()),
        format!("{:.0}", run.bytes as f64 / 1e6),
        match &run.in_use_by {
            Some(_) => "in use".into(),
            None => date(run),
        },
    ]
}

fn time(run: &RunSummary) -> Timestamp {
    Timestamp::try_from(run.modified).unwrap_or_default()
}

/// Returns the date in local time.
fn date(run: &RunSummary) -> String {
    time(run).to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d").to_string()
}

/// Returns all that is known of the runs as a JSON array.
///
/// # Errors
/// Never, since all values can be written as JSON.
pub fn json(runs: &[RunSummary]) -> Result<String> {
    let epoch = |row: Option<&EpochRow>| {
        row.map(|row| {
            let loss = row.validation.map(|validation| validation.loss);
            json!({"epoch": row.epoch, "accuracy": row.accuracy(), "loss": loss})
        })
    };
    let object = |run: &RunSummary| {
        json!({
            "run": run.folder.to_string_lossy(),
            "recipe": run.recipe.name(),
            "options": changed(run),
            "epochs_done": run.progress.history.len(),
            "epochs": run.epochs,
            "finished": run.is_finished,
            "in_use": run.in_use_by.is_some(),
            "best": epoch(run.progress.best()),
            "last": epoch(run.progress.history.last()),
            "seconds": run.progress.seconds,
            "date": time(run).to_string(),
            "bytes": run.bytes,
            "checkpoint_bytes": run.checkpoint_bytes,
        })
    };
    Ok(serde_json::to_string_pretty(&runs.iter().map(object).collect::<Vec<_>>())?)
}
