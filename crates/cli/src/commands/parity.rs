//! `alexnet parity`: checks that all engines of this binary give the same results on the user's
//! images.

mod steps;

use std::{path::PathBuf, process::ExitCode};

use alexnet::core::{
    Backend, Batch, Device, Logits, Model, State, Step, metrics::argmax, train::Batches,
    weights::Weights,
};
use alexnet::data::{
    dataset::Item,
    loader::{Loader, LoaderOptions},
};
use alexnet::{Engine, Selection, TrainConfig, WeightsFile, classifier::orientation};
use anyhow::{Result, ensure};
use serde::Serialize;

use self::steps::{Comparison, Deviation, Target, TrainingSetup};
use crate::{
    config::Source,
    console::Console,
    options::{
        AugmentationOptions, OptimizerOptions, OrientationOption, RateOptions, StepOptions,
        Threads, data::source, engine::disable_tf32,
    },
    output::{self, Format},
    parse,
};

/// Training steps that are compared.
const STEPS: u64 = 10;

/// Compare the results of all engines in this binary
///
/// Compares the logits of the validation images, and the first ten training steps with the given
/// options, each step from the same weights. The exit code is 1 if two engines differ by more than
/// the tolerance.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Weights file [default: the best weights of the newest run]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Images, as for `train` [default: those of the run that the weights come from]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Images in a batch
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = parse::at_least(1u32))]
    batch_size: u32,
    /// Output format
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    orientation: OrientationOption,
    #[command(flatten)]
    optimizer: OptimizerOptions,
    #[command(flatten)]
    rates: RateOptions,
    #[command(flatten)]
    steps: StepOptions,
    #[command(flatten)]
    augmentation: AugmentationOptions,
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Serialize)]
struct Report {
    images: usize,
    /// The largest |logit| of the first engine.
    largest_logit: f64,
    pairs: Vec<Pair>,
    training: Vec<Training>,
}

/// The difference of two engines.
#[derive(Serialize)]
struct Pair {
    engines: [String; 2],
    /// The largest difference of two logits.
    largest_difference: f64,
    /// Images for which they predict different classes, of those whose two largest logits differ by
    /// at least `MARGIN`.
    other_answers: usize,
    /// Whether all logits are within the tolerance.
    within_tolerance: bool,
}

/// The training steps of an engine.
#[derive(Serialize)]
struct Training {
    engine: String,
    /// The loss before each step, of a run in which the engine continues from its own weights.
    losses: Vec<f64>,
    /// The deviation of its steps from those of the first engine, each step from the same weights.
    apart: Deviation,
    /// The tolerance.
    allowed: Deviation,
    /// Whether `apart` is within `allowed`.
    within_tolerance: bool,
}

/// Runs the command.
///
/// # Errors
/// If weights or images cannot be read, or an engine fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    let engines = Engine::compiled();
    let targets = targets(&engines);
    disable_tf32(&targets.iter().map(|target| target.device).collect::<Vec<_>>())?;
    args.threads.start()?;
    let config = args.config();
    let mut console = Console::default();
    let mut file = WeightsFile::read(args.weights.as_deref(), &mut console)?;
    let Selection { dataset, items } =
        file.selection(&source(args.data.as_ref()), None, None, &mut console)?;
    let Weights { metadata, parameters } = file.loaded.weights;
    let exif_orientation =
        orientation(args.orientation.given(), metadata.exif_orientation, &mut console);
    let topology = metadata.variant.topology(metadata.classes.len());
    let batch_size = config.batch_size as usize;
    let loader = Loader::new(
        dataset,
        LoaderOptions {
            batch_size,
            accumulate: config.accumulate as usize,
            augmentation: config.augmentation,
            exif_orientation,
            ..LoaderOptions::of(&metadata)
        },
    )?;
    let batches: Vec<Batch> =
        loader.whole_steps(0).take(STEPS as usize).collect::<Result<_, _>>()?;
    ensure!(!batches.is_empty(), "there is no image to train on");
    // The learning rates of the first steps of a run of ten epochs.
    let schedule = config.schedule();
    let steps_per_epoch = loader.steps_per_epoch() as u64;
    let step = |number| Step {
        number,
        seed: 0,
        micro_batch: None,
        lr: schedule.lr(number - 1, steps_per_epoch, []),
        clip_grad_norm: config.clip_grad_norm,
    };
    let steps = (1..=STEPS).map(step).zip(batches.into_iter().cycle()).collect();
    let optimizer = config.optimizer();
    let setup = TrainingSetup { topology, optimizer, parameters, steps, batch_size };

    let (mut logits, mut losses) = (Vec::new(), Vec::new());
    for target in &targets {
        note!("running {}", target.name);
        let state = State::from(setup.parameters.clone());
        let mut model = setup.compile(target, &state)?;
        logits.push((target.name.clone(), evaluate(model.as_mut(), &loader, &items)?));
        losses.push(setup.losses(target)?);
    }
    if targets.len() > 1 {
        note!("comparing each step");
    }
    let training = setup.compare(&targets)?.into_iter().zip(losses).zip(&targets);
    let training =
        training.map(|((Comparison { apart, allowed, within_tolerance }, losses), target)| {
            Training { engine: target.name.clone(), losses, apart, allowed, within_tolerance }
        });
    let report = Report::new(&logits, training.collect());
    match args.format {
        Format::Json => output::json(&serde_json::to_string(&report)?)?,
        Format::Text => report.print()?,
    }
    Ok(if report.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Args {
    /// Returns the training configuration of the given options.
    fn config(&self) -> TrainConfig {
        let mut config = TrainConfig { batch_size: self.batch_size, ..TrainConfig::default() };
        self.optimizer.apply(&mut config);
        self.rates.apply(&mut config);
        self.steps.apply(&mut config);
        self.augmentation.apply(&mut config);
        config
    }
}

/// Returns the logits of the images.
fn evaluate(model: &mut dyn Model, loader: &Loader, items: &[Item]) -> Result<Logits> {
    let mut all = Logits { values: Vec::new(), classes: loader.dataset().classes.len() };
    for batch in loader.evaluation(items) {
        all.values.extend(model.logits(&batch?.1.images)?.values);
    }
    Ok(all)
}

/// Returns each engine on the CPU and on its first GPU.
fn targets(engines: &[Box<dyn Backend>]) -> Vec<Target<'_>> {
    let mut targets = Vec::new();
    for engine in engines {
        let devices =
            engine.devices().into_iter().filter(|device| !matches!(device, Device::Cuda(1..)));
        targets.extend(devices.map(|device| {
            let name = match device {
                Device::Cpu => engine.name().to_owned(),
                gpu => format!("{} on {gpu}", engine.name()),
            };
            Target { name, engine: engine.as_ref(), device }
        }));
    }
    targets
}

/// If the two largest logits of an image are closer than this, engines may predict different
/// classes.
const MARGIN: f32 = 1e-4;

/// Returns whether two logits are within the tolerance, `1e-4·|logit| + 1e-5·largest`.
fn close(a: f32, b: f32, largest: f64) -> bool {
    f64::from((a - b).abs()) <= 1e-4 * f64::from(b.abs()) + 1e-5 * largest
}

/// If the losses of two engines differ by more than this share, a message explains why.
const DRIFT: f64 = 1e-4;

impl Report {
    fn new(logits: &[(String, Logits)], training: Vec<Training>) -> Self {
        let (_, first) = &logits[0];
        let largest = first.values.iter().fold(0f64, |a, v| a.max(f64::from(v.abs())));
        let mut pairs = Vec::new();
        for (i, (name, a)) in logits.iter().enumerate() {
            for (other, b) in &logits[i + 1..] {
                pairs.push(Pair::new([name.clone(), other.clone()], a, b, largest));
            }
        }
        Self { images: first.rows().len(), largest_logit: largest, pairs, training }
    }

    fn agrees(&self) -> bool {
        self.pairs.iter().all(|pair| pair.within_tolerance && pair.other_answers == 0)
            && self.training.iter().all(|training| training.within_tolerance)
    }

    /// Returns the largest relative difference between the losses of an engine and those of the
    /// first.
    fn drift(&self) -> f64 {
        let differences = self.training.iter().flat_map(|training| {
            training
                .losses
                .iter()
                .zip(&self.training[0].losses)
                .map(|(a, b)| (a - b).abs() / b.abs())
        });
        differences.fold(0.0, f64::max)
    }

    fn print(&self) -> Result<()> {
        let verdict = |within| if within { "" } else { "  OUT OF TOLERANCE" };
        say!("{} images, largest logit {:.3}", self.images, self.largest_logit)?;
        say!("{:24}  {:>18}  {:>13}", "logits", "largest difference", "other classes")?;
        for pair in &self.pairs {
            say!(
                "{:24}  {:>18.2e}  {:>13}{}",
                pair.engines.join(" - "),
                pair.largest_difference,
                pair.other_answers,
                verdict(pair.within_tolerance && pair.other_answers == 0)
            )?;
        }
        if let [first, others @ ..] = &self.training[..]
            && !others.is_empty()
        {
            say!("{:24}  {:>18}  {:>13}  {:>8}", "training steps", "loss", "gradients", "update")?;
            let row = |name: &str, Deviation { loss, gradients, update }: Deviation, verdict| {
                say!("{name:24}  {loss:>18.2e}  {gradients:>13.2e}  {update:>8.1e}{verdict}")
            };
            for Training { engine, apart, within_tolerance, .. } in others {
                row(&format!("{} - {engine}", first.engine), *apart, verdict(*within_tolerance))?;
            }
            row("allowed", first.allowed, "")?;
        }
        say!("{:24}  {:>18}  {:>13}", "training loss", "step 1", format!("step {STEPS}"))?;
        for Training { engine, losses, .. } in &self.training {
            let [first, last] = [0, losses.len() - 1].map(|i| losses[i]);
            say!("{engine:24}  {first:>18.9}  {last:>13.9}")?;
        }
        let drift = self.drift();
        if self.training.iter().all(|training| training.within_tolerance) && drift > DRIFT {
            note!(
                "each single step is within tolerance; over {STEPS} steps rounding differences grow, here to {drift:.0e} of the loss, \
                 because Adam moves a weight by a full step even if its gradient is little more than a rounding error"
            );
        }
        if self.training.len() == 1 {
            note!(
                "this binary has only one engine; `cargo xtask libtorch` downloads libtorch for another"
            );
        }
        Ok(())
    }
}

impl Pair {
    fn new(engines: [String; 2], a: &Logits, b: &Logits, largest: f64) -> Self {
        let differences = a.values.iter().zip(&b.values).map(|(a, b)| f64::from((a - b).abs()));
        let clear = |row: &[f32]| {
            let best = row[argmax(row)];
            row.iter().filter(|logit| best - **logit < MARGIN).count() == 1
        };
        let rows = a.rows().zip(b.rows());
        Self {
            engines,
            // NaN counts as the largest difference.
            largest_difference: differences
                .fold(0.0, |a, d| if d > a || d.is_nan() { d } else { a }),
            other_answers: rows.filter(|(a, b)| clear(a) && argmax(a) != argmax(b)).count(),
            within_tolerance: a.values.iter().zip(&b.values).all(|(a, b)| close(*a, *b, largest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(values: &[f32]) -> (String, Logits) {
        ("engine".into(), Logits { values: values.to_vec(), classes: 3 })
    }

    fn report(other: &[f32], within_tolerance: bool) -> Report {
        let both = [logits(&[1.0, 2.0, 3.0, 5.0, 4.99999, 0.0]), logits(other)];
        let (engine, losses) = ("b".into(), vec![1.6, 1.5]);
        let [apart, allowed] = [Deviation::default(); 2];
        let training = Training { engine, losses, apart, allowed, within_tolerance };
        Report::new(&both, vec![training])
    }

    #[test]
    fn rounding_differences_are_within_tolerance() {
        let report = report(&[1.0, 2.0001, 3.0, 4.99999, 5.0, 1e-5], true);
        assert!(report.agrees());
        assert_eq!((report.images, report.largest_logit), (2, 5.0));
        assert!((report.pairs[0].largest_difference - 1e-4).abs() < 1e-6);
    }

    #[test]
    fn larger_differences_are_detected() {
        for logits in [
            [1.0, 2.001, 3.0, 5.0, 4.99999, 0.0],
            [3.0, 2.0, 1.0, 5.0, 4.99999, 0.0],
            [1.0, f32::NAN, 3.0, 5.0, 4.99999, 0.0],
        ] {
            assert!(!report(&logits, true).agrees(), "{logits:?}");
        }
        assert_eq!(report(&[3.0, 2.0, 1.0, 5.0, 4.99999, 0.0], true).pairs[0].other_answers, 1);
        assert!(!report(&[1.0, 2.0, 3.0, 5.0, 4.99999, 0.0], false).agrees());
    }
}
