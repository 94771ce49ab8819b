//! Fine-tunes given weights on other classes: the convolutions keep their weights, the last layer
//! is replaced.
//!
//! `cargo run --release --example finetune -- alexnet.pth my_images my_run`

use alexnet::{TrainConfig, Trainer, WeightsFile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, data, run] = &arguments[..] else {
        return Err("name weights, images and a run".into());
    };
    let config = TrainConfig {
        variant: WeightsFile::read(Some(weights.as_ref()), &mut ())?
            .loaded
            .weights
            .metadata
            .variant,
        weights: Some(weights.into()),
        data: data.into(),
        run_dir: Some(run.into()),
        freeze: vec!["features".into()],
        epochs: 2,
        ..TrainConfig::default()
    };
    let run = Trainer::new(config)?.run(&mut ())?;
    for epoch in run.history() {
        println!(
            "epoch {}: loss {:.3}, accuracy {:.3}",
            epoch.epoch,
            epoch.train_loss,
            epoch.accuracy().unwrap_or_default()
        );
    }
    Ok(())
}
