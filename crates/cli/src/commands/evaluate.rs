//! `alexnet evaluate`: how good weights are on a set of photos.

use std::path::PathBuf;

use alexnet_core::{metrics::Report, train};
use alexnet_data::{
    augment::Policy,
    loader::{Loader, LoaderOptions, OnBadImage},
    split::Item,
};
use anyhow::Result;
use clap::ValueEnum;

use crate::{
    engine::EngineArgs,
    output::Format,
    trained::{Trained, photos},
};

/// Prints loss, top-1, per-class precision, recall and F1, and the confusion matrix.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// Weights [default: the best of the newest run]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Photos, as for `train` [default: those of the run that the weights come from]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Which photos: a run keeps its split, and the same photos given again are split as it was
    #[arg(long, value_enum, default_value = "val")]
    split: Split,
    /// Photos a step
    #[arg(short, long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Split {
    Val,
    Train,
    All,
}

/// Runs the command.
///
/// # Errors
/// When weights or photos cannot be read, or are of other classes.
pub fn run(args: &Args) -> Result<()> {
    let mut trained = Trained::load(args.weights.as_deref(), &args.engine)?;
    let dataset = photos(args.data.as_deref(), &trained.path, &mut trained.metadata, trained.named)?;
    let items: Vec<Item> = match args.split {
        Split::Val => dataset.val.clone(),
        Split::Train => dataset.train.clone(),
        Split::All => dataset.items().cloned().collect(),
    };
    let loader = Loader::new(
        dataset,
        LoaderOptions {
            batch_size: args.batch_size as usize,
            seed: 0,
            size: trained.metadata.input_size,
            normalization: trained.metadata.normalization,
            policy: Policy::TUTORIAL,
            cache_bytes: 0,
            on_bad_image: OnBadImage::Error,
        },
    )?;
    let batches = loader.evaluation(&items).map(|batch| Ok(batch?.1));
    let evaluation = train::evaluate(trained.model.as_mut(), batches)?;
    let report = evaluation.report(&trained.metadata.classes);
    match args.format {
        Format::Json => say!("{}", serde_json::to_string(&report)?)?,
        Format::Text => print_text(&report)?,
    }
    Ok(())
}

fn print_text(report: &Report) -> Result<()> {
    say!("images {}  loss {:.4}  top1 {:.4}", report.images, report.loss, report.top1)?;
    let width = report.per_class.iter().map(|c| c.class.chars().count()).max().unwrap_or(0).max(5);
    say!("{:width$}  {:>9}  {:>6}  {:>5}  {:>7}", "class", "precision", "recall", "f1", "support")?;
    for class in &report.per_class {
        let q = &class.quality;
        say!(
            "{:width$}  {:>9.3}  {:>6.3}  {:>5.3}  {:>7}",
            class.class,
            q.precision,
            q.recall,
            q.f1,
            q.support
        )?;
    }
    say!("confusion, rows true, columns predicted:")?;
    for (class, row) in report.per_class.iter().zip(&report.confusion.counts) {
        let cells: Vec<String> = row.iter().map(|n| format!("{n:>5}")).collect();
        say!("{:width$}  {}", class.class, cells.join(" "))?;
    }
    Ok(())
}
