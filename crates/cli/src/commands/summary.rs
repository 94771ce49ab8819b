//! `alexnet summary`: prints the layers of a network, the content of a weights file, and what the ranks
//! of a training do.

mod ranks;

use std::path::{Path, PathBuf};

use alexnet::core::{
    Error, Normalization,
    alexnet::Variant,
    text::shown_path,
    topology::SummaryRow,
    weights::{Metadata, Weights},
};
use alexnet::interchange::{Loaded, load, load_changed};
use alexnet::{
    classes::listed,
    weights::{locate, note_assumed},
};
use anyhow::Result;

use self::ranks::RankOptions;
use crate::{
    columns::{TERMINAL, grouped, print_table, width},
    console::Console,
    output::explain,
    parse,
};

/// Print the layers of a network with output shapes, parameters and multiply-adds
///
/// For a weights file, classes, normalization and checksum are also printed. The exit code is 1 if
/// its checksum is wrong.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Network: tutorial, original, original-norm-first or torchvision
    #[arg(long, value_name = "NAME", default_value_t)]
    variant: Variant,
    /// Number of classes [default: 5 for tutorial, 1000 for the others]
    #[arg(long, value_name = "N", value_parser = parse::at_least(2u32))]
    classes: Option<u32>,
    /// Weights file or run folder whose content is printed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["variant", "classes"])]
    weights: Option<PathBuf>,
    #[command(flatten)]
    ranks: RankOptions,
}

/// Runs the command.
///
/// # Errors
/// If the weights cannot be read. If only their checksum is wrong, the error is returned after
/// their content is printed.
pub fn run(args: &Args) -> Result<()> {
    if let Some(path) = &args.weights {
        let path = locate(Some(path), &mut Console::default())?;
        let (loaded, changed) = match load(&path) {
            Ok(loaded) => (loaded, None),
            Err(error @ Error::Changed { .. }) => {
                (load_changed(&path)?, Some(anyhow::Error::new(error)))
            }
            Err(error) => return Err(error.into()),
        };
        let checksum = match &changed {
            Some(error) => explain(error),
            None if loaded.has_checksum => "correct".to_owned(),
            None => "none".to_owned(),
        };
        note_assumed(&path, &loaded, &mut Console::default());
        let Loaded { weights, .. } = loaded;
        print_content(&path, &weights)?;
        say!("checksum: {checksum}")?;
        print_layers(weights.metadata.variant, weights.metadata.classes.len())?;
        return changed.map_or(Ok(()), Err);
    }
    let classes = args.classes.unwrap_or(if args.variant == Variant::Tutorial { 5 } else { 1000 });
    match args.ranks.parallel {
        Some(parallel) => ranks::print(parallel, args.ranks, args.variant, classes as usize),
        None => print_layers(args.variant, classes as usize),
    }
}

/// Prints the metadata of a weights file, and the largest of its numbers or how many are not
/// finite.
fn print_content(path: &Path, weights: &Weights) -> Result<()> {
    let Metadata { classes, input_size, normalization: Normalization { mean, std }, .. } =
        &weights.metadata;
    let values = || weights.parameters.values().flat_map(|array| &array.values);
    say!("{}", shown_path(path))?;
    say!("classes: {}", listed(classes))?;
    say!("images: {input_size}×{input_size}, mean {mean:?}, std {std:?}")?;
    let not_finite = values().filter(|value| !value.is_finite()).count();
    let largest = values().fold(0f32, |largest, value| largest.max(value.abs()));
    match not_finite {
        0 => say!("numbers: all finite, largest magnitude {largest}"),
        count => say!("numbers: {count} are not finite"),
    }
}

fn print_layers(variant: Variant, classes: usize) -> Result<()> {
    let topology = variant.topology(classes);
    let shape = |shape: &[usize]| match *shape {
        [c, h, w] => format!("{h}×{w}×{c}"),
        _ => shape.iter().map(ToString::to_string).collect(),
    };
    let rows = topology.summary()?;
    let count = |n: u64| if n == 0 { "–".to_owned() } else { grouped(n) };
    let mut table = vec![
        ["layer", "operation", "output", "parameters", "mult-adds"].map(String::from),
        [
            "images".into(),
            "height × width × channels".into(),
            shape(&topology.input),
            String::new(),
            String::new(),
        ],
    ];
    table.extend(rows.iter().map(|row| {
        let SummaryRow { name, op, output, parameters, multiply_adds } = row;
        [name.clone(), op.clone(), shape(output), count(*parameters as u64), count(*multiply_adds)]
    }));
    let parameters = rows.iter().map(|row| row.parameters as u64).sum();
    let multiply_adds = rows.iter().map(|row| row.multiply_adds).sum();
    table.push([
        "total".into(),
        String::new(),
        String::new(),
        grouped(parameters),
        grouped(multiply_adds),
    ]);

    say!("{} with {classes} classes", variant)?;
    print_table(&table)?;
    let mut flow = vec![shape(&topology.input)];
    for (node, row) in topology.nodes.iter().zip(&rows) {
        use alexnet::core::Op::{Conv2d, Linear, MaxPool2d};
        if matches!(node.op, Conv2d { .. } | MaxPool2d { .. } | Linear { .. }) {
            flow.push(shape(&row.output));
        }
    }
    let mut line = String::new();
    for (place, shape) in flow.into_iter().enumerate() {
        let step = if place == 0 { shape } else { format!(" → {shape}") };
        if width(&line) + width(&step) > TERMINAL {
            say!("{line}")?;
            line = String::from(" ");
        }
        line += &step;
    }
    say!("{line}")
}
