//! `alexnet summary`: prints the layers of a network, the content of a weights file, and what the
//! ranks of a training do.

mod content;
mod layers;
mod ranks;

use std::path::PathBuf;

use alexnet::core::alexnet::Variant;
use anyhow::Result;
use serde::Serialize;

use self::{content::Content, layers::Layers, ranks::RankOptions};
use crate::{
    output::{self, Format},
    parse,
};

/// Print the layers of a network with output shapes, parameters and multiply-adds
///
/// For a weights file, its training, classes, normalization, checksum and tensors are also printed.
/// The exit code is 1 if its checksum is wrong.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Network: tutorial, original, original-norm-first or torchvision
    #[arg(long, value_name = "NAME", default_value_t)]
    variant: Variant,
    /// Number of classes [default: 5 for tutorial, 1000 for the others]
    #[arg(long, value_name = "N", value_parser = parse::at_least(2u32))]
    classes: Option<u32>,
    /// Width and height of the images in pixels [default: those that the network is trained on]
    #[arg(long, value_name = "N", value_parser = parse::between(1u16, 4096))]
    input_size: Option<u16>,
    /// Weights file or run folder whose content is printed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["variant", "classes", "input_size"])]
    weights: Option<PathBuf>,
    /// Output format
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    ranks: RankOptions,
}

/// Runs the command.
///
/// # Errors
/// If the weights cannot be read, or no image of this size fits. If only the checksum of the weights
/// is wrong, the error is returned after their content is printed.
pub fn run(args: &Args) -> Result<()> {
    if let Some(path) = &args.weights {
        let (content, changed) = Content::read(path)?;
        let layers = Layers::new(content.variant, content.classes.len(), None)?;
        match args.format {
            Format::Json => print_json(&layers, Some(&content))?,
            Format::Text => {
                content.print()?;
                layers.print()?;
            }
        }
        return changed.map_or(Ok(()), Err);
    }
    let classes = args.classes.unwrap_or(if args.variant == Variant::Tutorial { 5 } else { 1000 });
    if let Some(parallel) = args.ranks.parallel {
        return ranks::print(parallel, args.ranks, args.variant, classes as usize);
    }
    let layers = Layers::new(args.variant, classes as usize, args.input_size.map(usize::from))?;
    match args.format {
        Format::Json => print_json(&layers, None),
        Format::Text => layers.print(),
    }
}

/// The JSON output.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    layers: &'a Layers,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<&'a Content>,
}

fn print_json(layers: &Layers, weights: Option<&Content>) -> Result<()> {
    output::json(&serde_json::to_string_pretty(&Summary { layers, weights })?)
}
