//! `alexnet bench`: measures the time of a training step, a forward pass or the preparation of a
//! batch of images.

use std::{path::PathBuf, time::Instant};

use alexnet::DataSource;
use alexnet::core::{
    Batch, Model, Options, Step,
    alexnet::Variant,
    init::{Init, initialize},
    rng::{Purpose, permutation},
    train::Batches,
};
use alexnet::data::{
    dataset::{Dataset, Item},
    loader::{Loader, LoaderOptions},
    split::SplitOptions,
};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Serialize;

use crate::{config::named, console::Console, options::EngineOptions, output::Format, parse};

/// Measure the time of training, inference or image preparation
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Workload to measure
    #[arg(long, value_name = "WORK", value_enum, default_value = "train")]
    what: What,
    /// Network: tutorial, original, original-norm-first or torchvision
    #[arg(long, value_name = "NAME", default_value_t)]
    variant: Variant,
    /// Images in a batch
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = parse::at_least(1u32))]
    batch_size: u32,
    /// Number of measured steps, after two warm-up steps; the median is printed [default: 12, or 60
    /// for batches of at most 4]
    #[arg(long, value_name = "N", value_parser = parse::at_least(1u32))]
    steps: Option<u32>,
    /// Images for `--what pipeline`, as for `train`
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    engine: EngineOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Forward pass, backward pass and Adam on random pixels, with dropout
    Train,
    /// Forward pass
    Infer,
    /// Decode, crop, flip and resize images, without a cache of decoded images
    Pipeline,
}

#[derive(Serialize)]
struct Report {
    backend: &'static str,
    what: String,
    precision: String,
    batch: u32,
    median_ms: f64,
    images_per_s: f64,
}

/// Runs the command.
///
/// # Errors
/// If the engine fails, an image cannot be read, or an option would be ignored.
pub fn run(args: &Args) -> Result<()> {
    let pipeline = matches!(args.what, What::Pipeline);
    ensure!(
        pipeline || args.data.is_none(),
        "`--data` is only for `--what pipeline`; leave it out"
    );
    ensure!(
        !pipeline || args.steps.is_none(),
        "`--what pipeline` measures a complete epoch; leave `--steps` out"
    );
    if let (true, Some(option)) = (pipeline, args.engine.chosen()) {
        bail!("`--what pipeline` does not use an engine; leave `{option}` out");
    }
    let (choice, backend) = args.engine.start()?;
    let steps = args.steps.unwrap_or(if args.batch_size > 4 { 12 } else { 60 });
    let median_ms = match args.what {
        What::Pipeline => pipeline_ms(args)?,
        What::Train | What::Infer => {
            let topology = args.variant.topology(5);
            let state = initialize(&topology, Init::Tutorial, 0)?;
            let options = Options { device: choice.device, ..Options::default() };
            let mut model = backend.compile(&topology, state, &options)?;
            let batch = Batch::random(args.batch_size as usize, topology.input[1], 5);
            let mut step =
                Step { micro_batch: None, number: 0, seed: 0, lr: 2e-4, clip_grad_norm: None };
            let mut measure = || step_ms(args.what, model.as_mut(), &batch, &mut step);
            measure()?;
            measure()?;
            median((0..steps).map(|_| measure()).collect::<Result<_>>()?)
        }
    };
    let report = Report {
        backend: backend.name(),
        what: named(args.what),
        precision: choice.precision.unwrap_or_default().to_string(),
        batch: args.batch_size,
        median_ms: round(median_ms, 1e3),
        images_per_s: round(f64::from(args.batch_size) / median_ms * 1e3, 1e1),
    };
    match args.format {
        Format::Json => crate::output::json(&serde_json::to_string(&report)?)?,
        Format::Text => say!(
            "{} {} {}, batch {}: {} ms, {} images/s",
            report.backend,
            report.what,
            report.precision,
            report.batch,
            report.median_ms,
            report.images_per_s
        )?,
    }
    Ok(())
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn step_ms(what: What, model: &mut dyn Model, batch: &Batch, step: &mut Step) -> Result<f64> {
    let start = Instant::now();
    if matches!(what, What::Train) {
        step.number += 1;
        let report = model.train_step(batch, step)?;
        ensure!(report.loss.is_finite(), "the loss is not finite at step {}", step.number);
    } else {
        model.logits(&batch.images)?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Measures the milliseconds per batch over at most 1,000 images, for the work that PyTorch's
/// loader does in the tutorial.
fn pipeline_ms(args: &Args) -> Result<f64> {
    let data =
        args.data.as_deref().context("`--what pipeline` needs images; name them with `--data`")?;
    let dataset = DataSource::from(data).open(&SplitOptions::default(), &mut Console::default())?;
    let all: Vec<Item> = dataset.items().collect();
    let order = permutation(0, Purpose::Synthetic, 0, 0, all.len());
    let train: Vec<Item> = order.into_iter().take(1000).map(|i| all[i]).collect();
    let images = train.len();
    let dataset = Dataset { train, ..dataset };
    let loader = Loader::new(
        dataset,
        LoaderOptions {
            batch_size: args.batch_size as usize,
            size: args.variant.topology(5).input[1],
            ..LoaderOptions::default()
        },
    )?;
    let epoch_ms = |epoch| {
        let start = Instant::now();
        loader.whole_steps(epoch).try_for_each(|batch| batch.map(drop))?;
        anyhow::Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    // Not measured: the first pass also checks the images for damage, as the first epoch of a
    // training run does.
    epoch_ms(0)?;
    Ok(epoch_ms(1)? / images as f64 * f64::from(args.batch_size))
}
