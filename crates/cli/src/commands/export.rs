//! `alexnet export`: writes a network with its weights for other programs that run networks.

use std::path::PathBuf;

use alexnet::core::text::shown_path;
use alexnet::interchange::onnx;
use alexnet::{WeightsFile, weights::is_onnx};
use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::console::Console;

/// Write a network with its weights in a format that other programs can run
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// File to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Weights file [default: the best weights of the newest run]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// File format
    #[arg(long, value_name = "NAME", value_enum, default_value = "onnx")]
    format: Format,
    /// Output probabilities instead of logits
    #[arg(long)]
    softmax: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// ONNX, for any batch size; the metadata has classes, mean and std
    Onnx,
}

/// Runs the command.
///
/// # Errors
/// If the weights cannot be read or the file cannot be written.
pub fn run(args: &Args) -> Result<()> {
    // Prevents overwriting the weights if the two files are given in the wrong order.
    ensure!(
        is_onnx(&args.output),
        "the output file cannot be {}: its extension must be .onnx",
        shown_path(&args.output)
    );
    let WeightsFile { loaded, .. } =
        WeightsFile::read(args.weights.as_deref(), &mut Console::default())?;
    match args.format {
        Format::Onnx => onnx::save(&loaded.weights, &args.output, args.softmax)?,
    }
    let answer = if args.softmax { "probabilities" } else { "logits" };
    note!(
        "{}: input `images` [batch, 3, {1}, {1}], output `{answer}`",
        shown_path(&args.output),
        loaded.weights.metadata.input_size
    );
    Ok(())
}
