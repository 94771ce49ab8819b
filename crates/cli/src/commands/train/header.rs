//! What a run is, in two lines.

use alexnet_core::{Topology, alexnet::Variant};
use anyhow::Result;

use crate::{columns::grouped, config::named, engine::Choice, recipe::Recipe};

/// The network with its engine, and what it learns by; `source` is where the options come from.
///
/// # Errors
/// When the network is not valid.
pub fn header(recipe: &Recipe, topology: &Topology, engine: Choice, source: &str) -> Result<[String; 2]> {
    let parameters: u64 = topology.summary()?.iter().map(|row| row.parameters as u64).sum();
    let variant: Variant = recipe.setup.model.variant;
    let device =
        if engine.device == Default::default() { String::new() } else { format!(" on {}", engine.device) };
    let threads = rayon::current_num_threads();
    let network = format!(
        "network {variant}, {} parameters, {} classes, engine {}{device}, {threads} thread{}",
        grouped(parameters),
        topology.classes()?,
        engine.backend.name(),
        if threads == 1 { "" } else { "s" }
    );
    let rates = &recipe.optimisation.rates;
    let learning = format!(
        "{source}: {} epochs, batches of {}, {}, rate {} {}, seed {}",
        recipe.schedule().epochs,
        recipe.setup.batch_size,
        named(recipe.optimisation.equations.opt),
        rates.lr,
        named(rates.lr_scheduler),
        recipe.setup.seed
    );
    Ok([network, learning])
}
