//! Trains on a folder of class folders: `cargo run --release --example train -- my_images my_run
//! 24`, for 24 epochs

use std::ops::ControlFlow;

use alexnet::{
    Note, Observer, Recipe, RunInfo, TrainConfig, TrainObserver, Trainer, core::StepReport,
};

struct Lines;

impl Observer for Lines {
    fn note(&mut self, note: Note) {
        eprintln!("{note}");
    }
}

impl TrainObserver for Lines {
    fn step(&mut self, run: &RunInfo, report: &StepReport) -> ControlFlow<()> {
        println!("step {}: loss {:.3}", run.progress.step, report.loss);
        ControlFlow::Continue(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [data, run, epochs] =
        std::array::from_fn(|i| std::env::args().nth(i + 1).unwrap_or_default());
    let (run_dir, epochs) = (Some(run.into()), epochs.parse()?);
    let config =
        TrainConfig { data: data.into(), run_dir, epochs, ..TrainConfig::recipe(Recipe::Fast) };
    let run = Trainer::new(config)?.run(&mut Lines)?;
    println!(
        "accuracy {:.3} in epoch {}",
        run.best().and_then(|row| row.accuracy()).unwrap_or_default(),
        run.history().len()
    );
    Ok(())
}
