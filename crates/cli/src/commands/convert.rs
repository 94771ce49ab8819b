//! `alexnet convert`: the same weights in another format.

use std::path::{Path, PathBuf};

use alexnet_core::{alexnet::Variant, weights::Weights};
use alexnet_interchange::{Format, Loaded, class_indices, save};
use anyhow::{Result, ensure};

use crate::{
    parse,
    trained::{is_onnx, read},
};

/// Converts weights between PyTorch's `.pth` and `.safetensors`, by the extension of OUT.
///
/// Between files of this program nothing is lost: the way there and back gives the same bytes. What a file of another program
/// does not say is assumed, and each assumption is printed; the options say it instead.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Weights: a state dictionary of PyTorch, or safetensors
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where to write: .pth, .pt or .safetensors
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Network, where shapes leave a choice: original or original-norm-first
    #[arg(long, value_name = "NAME")]
    variant: Option<Variant>,
    /// The names of the classes, as the tutorial's class_indices.json or torchvision's class_to_idx
    #[arg(long, value_name = "FILE")]
    class_indices: Option<PathBuf>,
    /// Subtracted from pixels between 0 and 1, for red, green and blue
    #[arg(long, value_name = "R,G,B", value_parser = parse::colours, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// What they are divided by
    #[arg(long, value_name = "R,G,B", value_parser = parse::positive_colours)]
    std: Option<[f32; 3]>,
}

/// Runs the command.
///
/// # Errors
/// When IN cannot be read, is no AlexNet, or OUT cannot be written.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        !is_onnx(&args.output),
        "{}: `convert` writes .safetensors, .pth and .pt; `export --weights {} {0}` writes ONNX",
        args.output.display(),
        args.input.display()
    );
    Format::of(&args.output)?;
    let (path, Loaded { mut weights, .. }) = read(Some(&args.input))?;
    args.correct(&mut weights, &path)?;
    save(&weights, &args.output)?;
    let metadata = &weights.metadata;
    note!(
        "{}: `{}` with the classes {}",
        args.output.display(),
        metadata.variant,
        metadata.classes.join(", ")
    );
    Ok(())
}

impl Args {
    /// What the options say, instead of what the file does.
    fn correct(&self, weights: &mut Weights, path: &Path) -> Result<()> {
        let metadata = &mut weights.metadata;
        if let Some(file) = &self.class_indices {
            let names = class_indices(file)?;
            ensure!(
                names.len() == metadata.classes.len(),
                "{} names {} classes, but {} has {}",
                file.display(),
                names.len(),
                path.display(),
                metadata.classes.len()
            );
            metadata.classes = names;
        }
        if let Some(variant) = self.variant {
            let parameters = |variant: Variant| variant.topology(metadata.classes.len()).parameters();
            ensure!(
                parameters(variant)? == parameters(metadata.variant)?,
                "{} holds `{}`, whose parameters are not those of `{variant}`",
                path.display(),
                metadata.variant
            );
            metadata.variant = variant;
        }
        metadata.normalization.mean = self.mean.unwrap_or(metadata.normalization.mean);
        metadata.normalization.std = self.std.unwrap_or(metadata.normalization.std);
        Ok(())
    }
}
