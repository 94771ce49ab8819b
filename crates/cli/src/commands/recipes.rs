//! `alexnet recipes`: prints a table of the accuracy that the recipes reach.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use alexnet::{
    Recipe, RunFolder, RunSummary,
    core::{Progress, train::EpochRow},
    run_folder::RUNS,
};
use anyhow::{Context, Result, ensure};

use crate::parse;

/// Train with each recipe and each seed, and print a table of the results
///
/// The runs are stored in runs/recipes. A finished run is not repeated, and a stopped run is
/// resumed.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Recipes [default: those for small data sets]
    #[arg(value_name = "RECIPE")]
    recipes: Vec<Recipe>,
    /// Random seeds; each gives a different split into training and validation subset
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0,1,2", value_parser = parse::at_least(0u64))]
    seeds: Vec<u64>,
    /// Images, as for `train`
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If a run fails or is stopped.
pub fn run(args: &Args) -> Result<()> {
    let recipes = if args.recipes.is_empty() { &Recipe::SMALL } else { args.recipes.as_slice() };
    let mut table = vec![
        "| recipe | epochs | minutes per run | best validation accuracy: seeds | mean | of the last epoch: seeds | mean |".to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    for recipe in recipes {
        let name = recipe.name();
        let mut runs = Vec::new();
        for seed in &args.seeds {
            let folder = Path::new(RUNS).join("recipes").join(format!("{name}-{seed}"));
            if !is_cleaned(&folder) {
                train(name, *seed, args.data.as_deref(), &folder)?;
            }
            runs.push(progress(&folder)?);
        }
        table.push(row(name, &runs));
    }
    table.iter().try_for_each(|line| say!("{line}"))
}

/// Trains in a separate process. Resumes the run if its folder has one.
fn train(recipe: &str, seed: u64, data: Option<&Path>, folder: &Path) -> Result<()> {
    let resume = folder.join("args.toml").exists();
    let mut command = Command::new(env::current_exe()?);
    if resume {
        command.arg("train").arg("--resume").arg(folder);
    } else {
        command
            .args(["train", "--recipe", recipe, "--seed", &seed.to_string()])
            .arg("--run-dir")
            .arg(folder);
    }
    command.args(data.iter().flat_map(|data| [Path::new("--data"), data]));
    // Standard output is only for the table.
    command.stdout(std::io::stderr());
    let status = command.status().context("cannot start training")?;
    ensure!(
        status.success(),
        "training by the recipe {recipe} ended early; the same command continues it"
    );
    Ok(())
}

/// Whether a folder has a finished run whose checkpoint was deleted by `runs clean`.
fn is_cleaned(folder: &Path) -> bool {
    let run = RunSummary::read(folder);
    run.is_ok_and(|run| run.is_finished && run.checkpoint_bytes == 0)
}

fn progress(folder: &Path) -> Result<Progress> {
    let run = RunFolder::open(folder)?;
    match run.progress()? {
        Some(progress) => Ok(progress),
        None => Ok(Progress::of_epochs(run.results()?)),
    }
}

fn row(name: &str, runs: &[Progress]) -> String {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let listed =
        |values: &[f64]| values.iter().map(|v| format!("{v:.3}")).collect::<Vec<_>>().join(", ");
    let of =
        |value: fn(&Progress) -> Option<f64>| runs.iter().filter_map(value).collect::<Vec<f64>>();
    let best = of(|run| run.best().and_then(EpochRow::accuracy));
    let last = of(|run| run.history.last().and_then(EpochRow::accuracy));
    let minutes = mean(&of(|run| Some(run.seconds / 60.0)));
    let epochs = runs.iter().map(|run| run.history.len()).max().unwrap_or_default();
    format!(
        "| `{name}` | {epochs} | {minutes:.1} | {} | **{:.3}** | {} | {:.3} |",
        listed(&best),
        mean(&best),
        listed(&last),
        mean(&last)
    )
}
