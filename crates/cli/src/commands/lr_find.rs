//! `alexnet lr-find`: finds useful learning rates with a range test.

use std::{ops::ControlFlow, path::PathBuf, process::ExitCode};

use alexnet::{
    Prepared, TrainConfig,
    core::{
        Options,
        lr_find::{Range, range_test, suggestion},
        text::shown_path,
    },
};
use anyhow::{Result, ensure};

use crate::{
    config::Source,
    console::Console,
    figures,
    options::{EngineOptions, OptimizerOptions, SetupOptions},
    output::note_left_out,
    parse, progress,
    stop::Stop,
};

/// Find a learning rate: train for some steps with an increasing rate and plot the loss
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Lowest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-6, value_parser = parse::positive)]
    min_lr: f32,
    /// Highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 0.1, value_parser = parse::positive)]
    max_lr: f32,
    /// Number of steps from the lowest to the highest rate
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = parse::at_least(10u64))]
    steps: u64,
    /// File to write the figure to
    #[arg(long, value_name = "PNG", default_value = "lr_find.png")]
    out: PathBuf,
    #[command(flatten)]
    setup: SetupOptions,
    #[command(flatten)]
    optimizer: OptimizerOptions,
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    engine: EngineOptions,
}

/// Runs the command. The exit code is 0, or 129, 130 or 143 after a signal.
///
/// # Errors
/// If an option is invalid, an image cannot be read, or the figure cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let Args { engine, optimizer, setup, min_lr, max_lr, steps, .. } = args;
    ensure!(min_lr < max_lr, "`--min-lr` {min_lr} is not below `--max-lr` {max_lr}");
    let (engine, backend) = engine.start()?;
    let mut config = TrainConfig { engine, ..TrainConfig::default() };
    setup.apply(&mut config);
    optimizer.apply(&mut config);
    let mut console = Console::default();
    let dataset = config.data.open(&config.split_options(), &mut console)?;
    dataset.images.check_outside(&args.out)?;
    let Prepared { config, topology, frozen, loader, state } =
        Prepared::new(config, dataset, &mut console)?;
    let (device, optimizer) = (engine.device, config.optimizer());
    let options = Options { device, optimizer, frozen, ..Options::default() };
    let mut model = backend.compile(&topology, state, &options)?;
    let stop = Stop::default();
    stop.listen()?;
    let range = Range { min: *min_lr, max: *max_lr, steps: *steps };
    let (bar, mut done) = (progress::Items::new("trying rates"), 0);
    let points = range_test(model.as_mut(), &loader, config.seed, &range, |_| {
        done += 1;
        bar.at(done, *steps as usize);
        if stop.code().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    bar.finish();
    for (path, reason) in loader.skipped() {
        note_left_out(&path, &reason);
    }
    if let Some(code) = stop.code() {
        return Ok(ExitCode::from(code));
    }
    let suggestion = suggestion(&points);
    figures::save(&figures::lr_curve(&points, suggestion)?, &args.out)?;
    match suggestion {
        Some(lr) => say!("suggested: --lr {lr:.1e}")?,
        None => say!("no rate between {min_lr:e} and {max_lr:e} lowers the loss")?,
    }
    if let Some(first) = points.first() {
        note!(
            "the loss, {:.6} in the first step, is drawn against the learning rate in {}",
            first.loss,
            shown_path(&args.out)
        );
    }
    Ok(ExitCode::SUCCESS)
}
