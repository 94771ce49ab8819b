//! `alexnet data split`: a folder that is split once and for all.

use std::path::PathBuf;

use alexnet::core::text::shown_path;
use alexnet::data::{check::duplicates, dataset::Dataset, split::SplitOptions};
use alexnet::{DataSource, source::VAL_FRACTION};
use anyhow::Result;
use clap::ValueEnum;

use crate::{console::Console, parse, progress};

/// Copy images into OUT/train and OUT/val, class by class
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of class folders, or .tgz, .tar or .zip
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Folder to copy into, empty or not there yet
    #[arg(long, value_name = "DIR")]
    copy: PathBuf,
    /// Share of each class that validates
    #[arg(long, value_name = "SHARE", default_value_t = VAL_FRACTION, value_parser = parse::fraction)]
    val_fraction: f64,
    /// Decides which images
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse::at_least(0u64))]
    seed: u64,
    /// What happens to images that are there more than once, as they are or nearly so
    #[arg(long, value_name = "WAY", value_enum, default_value_t = Duplicates::Together)]
    duplicates: Duplicates,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Duplicates {
    /// All of them train, or all of them validate
    Together,
    /// They are split like others, as `train` splits
    Ignore,
}

/// Runs the command.
///
/// # Errors
/// When images cannot be had or copied.
pub fn run(args: &Args) -> Result<()> {
    let options = SplitOptions { val_fraction: args.val_fraction, seed: args.seed };
    let mut dataset = DataSource::from(&args.data).open(&options, &mut Console::default())?;
    if args.duplicates == Duplicates::Together {
        dataset = together(dataset, args)?;
    }
    let bar = progress::Items::new("copying");
    dataset.copy_to(&args.copy, &mut |progress| bar.at(progress.done, progress.total))?;
    bar.finish();
    say!(
        "{} images for training, {} images for validation in {}",
        dataset.train.len(),
        dataset.val.len(),
        shown_path(&args.copy)
    )?;
    if !dataset.test.is_empty() {
        say!("{} images for tests", dataset.test.len())?;
    }
    say!("processing done!")
}

fn together(dataset: Dataset, args: &Args) -> Result<Dataset> {
    if dataset.comes_split() {
        note!(
            "the data set comes split and stays so; `data check` lists the images that are in several subsets"
        );
        return Ok(dataset);
    }
    let bar = progress::Items::new("comparing");
    let groups = duplicates(&dataset, &|done, total| bar.at(done, total));
    bar.finish();
    if !groups.is_empty() {
        note!(
            "{} images are there more than once, in {} groups that stay together; `data check` shows them",
            groups.iter().map(Vec::len).sum::<usize>(),
            groups.len()
        );
    }
    let options = SplitOptions { val_fraction: args.val_fraction, seed: args.seed };
    Ok(dataset.keep_together(&groups, &options)?)
}
