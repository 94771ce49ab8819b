//! What each rank holds, computes and sends in a training step.

use alexnet::{
    Parallel,
    core::{alexnet::Variant, sum_order::Share, traffic, traffic::Work},
};
use anyhow::Result;

use crate::{
    columns::{grouped, print_table},
    parse,
};

/// The options of training on several processes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct RankOptions {
    /// Print what the first and the last rank hold, compute and send in a training step of this mode
    #[arg(long, value_name = "MODE", value_enum, conflicts_with_all = ["weights", "input_size", "format"])]
    pub parallel: Option<Parallel>,
    /// Number of ranks
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        value_parser = parse::between(2u16, 1024),
        requires = "parallel"
    )]
    ranks: u16,
    /// Number of images of the step
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32,
        value_parser = parse::between(1u32, 65536),
        requires = "parallel"
    )]
    batch_size: u32,
}

/// Prints the work of rank 0, and where it has other numbers that of the last rank.
///
/// # Errors
/// If the network cannot be divided in this way, or writing fails.
pub fn print(
    parallel: Parallel,
    options: RankOptions,
    variant: Variant,
    classes: usize,
) -> Result<()> {
    let (ranks, images) = (usize::from(options.ranks), options.batch_size as usize);
    let topology = variant.topology(classes);
    let division = match parallel {
        Parallel::Data => traffic::data,
        Parallel::Hybrid => traffic::hybrid,
        Parallel::Towers => traffic::towers,
    };
    let of = |rank| division(&topology, Share { rank, ranks }, images);
    let (first, last) = (of(0)?, of(ranks - 1)?);
    say!("{variant} with {classes} classes, {parallel}, {ranks} ranks, {images} images in a step")?;
    let mut table =
        vec![["layer", "rank 0", "parameters", "mult-adds", "bytes sent"].map(Into::into)];
    let other = format!("rank {}", ranks - 1);
    let mut push = |layer: &str, what: &str, first: Work, last: Work| {
        if first != Work::default() {
            table.push(row(layer, what, first));
        }
        if row(layer, "", first) != row(layer, "", last) {
            table.push(row("", &other, last));
        }
    };
    for ((row, first), last) in topology.summary()?.iter().zip(&first).zip(&last) {
        push(&row.name, &row.op, *first, *last);
    }
    push("total", "", first.iter().copied().sum(), last.iter().copied().sum());
    print_table(&table)?;
    say!("mult-adds: in the forward pass; the backward pass has about twice as many")
}

fn row(layer: &str, what: &str, work: Work) -> [String; 5] {
    let millions = match work.multiply_adds {
        0 => "–".to_owned(),
        n => format!("{}.{} M", grouped(n / 1_000_000), n / 100_000 % 10),
    };
    let count = |n: u64| if n == 0 { "–".to_owned() } else { grouped(n) };
    let [parameters, sent] = [work.parameters as u64, work.sent().bytes()].map(count);
    [layer.to_owned(), what.to_owned(), parameters, millions, sent]
}
