//! `alexnet data split`: copies images into a training and a validation folder.

use std::path::PathBuf;

use alexnet::core::text::shown_path;
use alexnet::data::{Error as DataError, check::duplicates, dataset::Dataset, split::SplitOptions};
use alexnet::{DataSource, source::VAL_FRACTION};
use anyhow::Result;
use clap::ValueEnum;

use crate::{console::Console, parse, progress};

/// Copy images into the folders train and val, with a folder for each class
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of class folders, or .tgz, .tar or .zip
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Folder to copy into, empty or not existing yet
    #[arg(long, value_name = "DIR")]
    copy: PathBuf,
    /// Share of each class for the validation set
    #[arg(long, value_name = "SHARE", default_value_t = VAL_FRACTION, value_parser = parse::fraction)]
    val_fraction: f64,
    /// Random seed of the split
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse::at_least(0u64))]
    seed: u64,
    /// What to do with duplicates and near duplicates
    #[arg(long, value_name = "ACTION", value_enum, default_value_t = Duplicates::Together)]
    duplicates: Duplicates,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Duplicates {
    /// Put all duplicates of an image into the same subset
    Together,
    /// Split duplicates like other images, as `train` does
    Ignore,
}

/// Runs the command.
///
/// # Errors
/// If images cannot be found, read or copied.
pub fn run(args: &Args) -> Result<()> {
    let options = SplitOptions {
        val_fraction: args.val_fraction,
        seed: args.seed,
        ..SplitOptions::default()
    };
    let mut dataset = DataSource::from(&args.data).open(&options, &mut Console::default())?;
    if dataset.val.is_empty() {
        let (path, fraction) = (args.data.clone(), args.val_fraction);
        return Err(DataError::NoneValidates { path, fraction }.into());
    }
    if args.duplicates == Duplicates::Together {
        dataset = keep_together(dataset, args)?;
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
        say!("{} images for testing", dataset.test.len())?;
    }
    say!("processing done!")
}

/// Splits the images so that the copies of an image are in the same subset.
fn keep_together(dataset: Dataset, args: &Args) -> Result<Dataset> {
    if dataset.comes_split() {
        note!(
            "the data set is already split and is copied as it is; `data check` lists duplicates in several subsets"
        );
        return Ok(dataset);
    }
    let bar = progress::Items::new("comparing");
    let groups = duplicates(&dataset, &|done, total| bar.at(done, total));
    bar.finish();
    if !groups.is_empty() {
        note!(
            "{} images exist more than once, in {} groups that stay together; `data check` lists them",
            groups.iter().map(Vec::len).sum::<usize>(),
            groups.len()
        );
    }
    let options = SplitOptions {
        val_fraction: args.val_fraction,
        seed: args.seed,
        ..SplitOptions::default()
    };
    Ok(dataset.keep_together(&groups, &options)?)
}
