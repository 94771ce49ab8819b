//! `alexnet summary`: the layers of a variant.

use alexnet_core::alexnet::Variant;
use anyhow::Result;

/// Prints the layer table: output shape, parameters, multiply-adds.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Network: tutorial, original, original-norm-first or torchvision
    #[arg(long, default_value_t)]
    variant: Variant,
    /// Classes [default: 5 for tutorial, 1000 for the others]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    classes: Option<u32>,
}

/// Runs the command.
///
/// # Errors
/// None in practice: the variants are valid.
pub fn run(args: &Args) -> Result<()> {
    let classes = args.classes.unwrap_or(if args.variant == Variant::Tutorial { 5 } else { 1000 });
    let topology = args.variant.topology(classes as usize);
    let shape = |shape: &[usize]| match *shape {
        [c, h, w] => format!("{h}×{w}×{c}"),
        _ => shape.iter().map(ToString::to_string).collect(),
    };
    let rows = topology.summary()?;
    say!("{} with {classes} classes", args.variant)?;
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
