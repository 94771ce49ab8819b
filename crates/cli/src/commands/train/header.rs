//! The two lines that describe a run when it starts.

use alexnet::{Parallel, RunInfo};
use anyhow::Result;

use crate::{columns::grouped, config::named};

/// Returns a line about the network and its engine, and a line about the training. `source`
/// describes where the options come from, and `ranks` is the number of processes and how they
/// divide the computation.
///
/// # Errors
/// If the network is not valid.
pub fn header(run: &RunInfo, source: &str, ranks: (usize, Parallel)) -> Result<[String; 2]> {
    let RunInfo { config, topology, .. } = *run;
    let engine = config.engine;
    let parameters: u64 = topology.summary()?.iter().map(|row| row.parameters as u64).sum();
    let device = if engine.device == Default::default() {
        String::new()
    } else {
        format!(" on {}", engine.device)
    };
    let threads = rayon::current_num_threads();
    let processes = match ranks {
        (1, _) => String::new(),
        (ranks, Parallel::Data) => format!("{ranks} ranks of "),
        (ranks, parallel) => format!("{parallel}, {ranks} ranks of "),
    };
    let network = format!(
        "network {}, {} parameters, {} classes, engine {}{device}, {processes}{threads} thread{}",
        config.variant,
        grouped(parameters),
        topology.classes()?,
        engine.backend.name(),
        if threads == 1 { "" } else { "s" }
    );
    let training = format!(
        "{source}: {} epochs, batches of {}, {}, rate {} {}, seed {}",
        config.epochs,
        config.batch_size,
        named(config.opt),
        config.lr,
        named(config.lr_scheduler),
        config.seed
    );
    Ok([network, training])
}
