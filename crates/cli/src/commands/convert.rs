//! `alexnet convert`: the same weights in another format.

use std::path::{Path, PathBuf};

use alexnet::{
    classes::{Alignment, align, listed},
    core::{alexnet::Variant, text::shown_path, weights::Weights},
    interchange::{Format, Loaded, class_indices, load, load_changed, save},
    weights::{is_onnx, locate, note_assumed},
};
use anyhow::{Result, ensure};

use crate::{console::Console, parse};

/// Converts weights between PyTorch's `.pth` and `.safetensors`, by the extension of OUT.
///
/// Between files of this program nothing is lost: the way there and back gives the same bytes. What a file of another program
/// does not say is assumed, and printed; the options say it. A class_indices.json, which the tutorial's predict.py reads, is written
/// beside a .pth file.
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
    /// Take IN though its checksum is not that of its content, as after another program changed it
    #[arg(long)]
    ignore_checksum: bool,
}

/// Runs the command.
///
/// # Errors
/// When IN cannot be read, is no AlexNet, or OUT cannot be written.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        !is_onnx(&args.input),
        "{} cannot be converted: ONNX is written, but not read; convert the .pth or .safetensors file that it was made from",
        shown_path(&args.input)
    );
    ensure!(
        !is_onnx(&args.output),
        "{} is not written by `convert`; `export --weights {} {0}` does it",
        shown_path(&args.output),
        shown_path(&args.input)
    );
    let format = Format::of(&args.output)?;
    let path = locate(Some(&args.input), &mut Console::default())?;
    let loaded = if args.ignore_checksum { load_changed(&path) } else { load(&path) }?;
    note_assumed(&path, &loaded, &mut Console::default());
    let Loaded { mut weights, named, .. } = loaded;
    args.correct(&mut weights, &path)?;
    save(&weights, &args.output)?;
    let metadata = &weights.metadata;
    note!(
        "{}: `{}` with the classes {}",
        shown_path(&args.output),
        metadata.variant,
        listed(&metadata.classes)
    );
    if format == Format::Pth && (named || args.class_indices.is_some()) {
        name_classes(&args.output, &metadata.classes)?;
    }
    Ok(())
}

/// Writes the names of the classes beside weights, for programs that look for them there, unless there are others.
fn name_classes(weights: &Path, classes: &[String]) -> Result<()> {
    let file = weights.with_file_name(class_indices::NAME);
    if !file.exists() {
        class_indices::write(&file, classes)?;
        note!("{}: the names of the classes, which the tutorial's predict.py reads", shown_path(&file));
        return Ok(());
    }
    let same = class_indices::read(&file).is_ok_and(|names| align(&names, classes) == Alignment::Same);
    if !same {
        note!(
            "warning: {} has other classes, and is left as it is; the tutorial's predict.py would read them for {}: convert to \
             another folder",
            shown_path(&file),
            shown_path(weights)
        );
    }
    Ok(())
}

impl Args {
    /// What the options say, instead of what the file does.
    fn correct(&self, weights: &mut Weights, path: &Path) -> Result<()> {
        let metadata = &mut weights.metadata;
        if let Some(file) = &self.class_indices {
            let names = class_indices::read(file)?;
            ensure!(
                names.len() == metadata.classes.len(),
                "{} names {} classes, but {} has {}",
                shown_path(file),
                names.len(),
                shown_path(path),
                metadata.classes.len()
            );
            metadata.classes = names;
        }
        if let Some(variant) = self.variant {
            let parameters = |variant: Variant| variant.topology(metadata.classes.len()).parameters();
            ensure!(
                parameters(variant)? == parameters(metadata.variant)?,
                "{} holds `{}`, whose parameters are not those of `{variant}`",
                shown_path(path),
                metadata.variant
            );
            metadata.variant = variant;
        }
        metadata.normalization.mean = self.mean.unwrap_or(metadata.normalization.mean);
        metadata.normalization.std = self.std.unwrap_or(metadata.normalization.std);
        Ok(())
    }
}
