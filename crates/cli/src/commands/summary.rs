//! `alexnet summary`: the layers of a variant, and what is in a weights file.

use std::path::{Path, PathBuf};

use alexnet_core::{
    Normalization,
    alexnet::Variant,
    text::shown_path,
    weights::{Metadata, Weights},
};
use alexnet_interchange::Loaded;
use anyhow::Result;

use crate::{classes::listed, trained::read};

/// Prints the layer table: output shape, parameters, multiply-adds; of a weights file also what else it says.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Network: tutorial, original, original-norm-first or torchvision
    #[arg(long, default_value_t)]
    variant: Variant,
    /// Classes [default: 5 for tutorial, 1000 for the others]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    classes: Option<u32>,
    /// A weights file, or the folder of a run: what is in it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["variant", "classes"])]
    weights: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the weights cannot be read.
pub fn run(args: &Args) -> Result<()> {
    if let Some(path) = &args.weights {
        let (path, Loaded { weights, .. }) = read(Some(path))?;
        print_content(&path, &weights)?;
        return print_layers(weights.metadata.variant, weights.metadata.classes.len());
    }
    let classes = args.classes.unwrap_or(if args.variant == Variant::Tutorial { 5 } else { 1000 });
    print_layers(args.variant, classes as usize)
}

/// What a weights file says beside its numbers, and what its numbers are.
fn print_content(path: &Path, weights: &Weights) -> Result<()> {
    let Metadata { classes, input_size, normalization: Normalization { mean, std }, .. } = &weights.metadata;
    let values = || weights.parameters.values().flat_map(|array| &array.values);
    say!("{}", shown_path(path))?;
    say!("classes: {}", listed(classes))?;
    say!("images: {input_size}×{input_size}, mean {mean:?}, std {std:?}")?;
    let odd = values().filter(|value| !value.is_finite()).count();
    let largest = values().fold(0f32, |largest, value| largest.max(value.abs()));
    match odd {
        0 => say!("numbers: all finite, the largest {largest}"),
        odd => say!("numbers: {odd} are not finite"),
    }
}

fn print_layers(variant: Variant, classes: usize) -> Result<()> {
    let topology = variant.topology(classes);
    let shape = |shape: &[usize]| match *shape {
        [c, h, w] => format!("{h}×{w}×{c}"),
        _ => shape.iter().map(ToString::to_string).collect(),
    };
    let rows = topology.summary()?;
    say!("{variant} with {classes} classes")?;
    say!(
        "{:<14} {:<38} {:>11} {:>12} {:>15}",
        "layer",
        "operation",
        "output",
        "parameters",
        "multiply-adds"
    )?;
    say!("{:<14} {:<38} {:>11}", "images", "height × width × channels", shape(&topology.input))?;
    for row in &rows {
        let count = |n: u64| if n == 0 { "–".to_owned() } else { grouped(n) };
        say!(
            "{:<14} {:<38} {:>11} {:>12} {:>15}",
            row.name,
            row.op,
            shape(&row.output),
            count(row.parameters as u64),
            count(row.multiply_adds)
        )?;
    }
    say!(
        "{:<14} {:<38} {:>11} {:>12} {:>15}",
        "total",
        "",
        "",
        grouped(rows.iter().map(|r| r.parameters as u64).sum()),
        grouped(rows.iter().map(|r| r.multiply_adds).sum())
    )?;
    let mut flow = vec![shape(&topology.input)];
    for (node, row) in topology.nodes.iter().zip(&rows) {
        use alexnet_core::Op::{Conv2d, Linear, MaxPool2d};
        if matches!(node.op, Conv2d { .. } | MaxPool2d { .. } | Linear { .. }) {
            flow.push(shape(&row.output));
        }
    }
    say!("{}", flow.join(" → "))?;
    Ok(())
}

/// `14,591,685`
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (14_591_685, "14,591,685")] {
            assert_eq!(grouped(n), text);
        }
    }
}
