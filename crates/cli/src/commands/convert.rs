//! `alexnet convert`: writes weights in another format.

use std::path::{Path, PathBuf};

use alexnet::{
    classes::{Alignment, align, listed},
    core::{alexnet::Variant, text::shown_path, weights::Weights},
    interchange::{Format, Loaded, class_indices, load, load_changed, save},
    weights::{is_onnx, locate, note_assumed},
};
use anyhow::{Result, ensure};

use crate::{console::Console, parse};

/// Convert weights between PyTorch's .pth and .safetensors; the extension of OUT sets the format
///
/// Converting a file of this program to the other format and back gives the same bytes. Metadata
/// that is missing in a file of another program is replaced by defaults, which are printed; options
/// of this command set other values. Next to a .pth file, class_indices.json is written, which the
/// tutorial's predict.py reads.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Weights file: a PyTorch state dictionary (.pth, .pt) or .safetensors
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write: .pth, .pt or .safetensors
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Network of the weights, if its shapes fit more than one: original or original-norm-first
    #[arg(long, value_name = "NAME")]
    variant: Option<Variant>,
    /// JSON file with the names of the classes, like the tutorial's class_indices.json or
    /// torchvision's class_to_idx
    #[arg(long, value_name = "FILE")]
    class_indices: Option<PathBuf>,
    /// Mean to subtract from pixels, which are between 0 and 1, when the weights are used
    #[arg(long, value_name = "R,G,B", value_parser = parse::colors, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// Standard deviation to divide pixels by when the weights are used
    #[arg(long, value_name = "R,G,B", value_parser = parse::positive_colors)]
    std: Option<[f32; 3]>,
    /// When the weights are used, resize the shorter side of images to N pixels and crop the center;
    /// 0: resize the whole image
    #[arg(long, value_name = "N", value_parser = parse::at_least(0u32))]
    val_resize_crop: Option<u32>,
    /// Read IN even if its checksum is wrong, for example because another program changed it
    #[arg(long)]
    ignore_checksum: bool,
}

/// Runs the command.
///
/// # Errors
/// If IN cannot be read or is not an AlexNet, or OUT cannot be written.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        !is_onnx(&args.input),
        "{} cannot be converted: ONNX is written, but not read; convert the .pth or .safetensors file that it was exported from",
        shown_path(&args.input)
    );
    ensure!(
        !is_onnx(&args.output),
        "`convert` cannot write {}; use `export --weights {} {0}`",
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

/// Writes `class_indices.json` next to a weights file. If that file exists with other classes,
/// prints a warning instead.
fn name_classes(weights: &Path, classes: &[String]) -> Result<()> {
    let file = weights.with_file_name(class_indices::NAME);
    if !file.exists() {
        class_indices::write(&file, classes)?;
        note!("{}: names of the classes, for the tutorial's predict.py", shown_path(&file));
        return Ok(());
    }
    let same =
        class_indices::read(&file).is_ok_and(|names| align(&names, classes) == Alignment::Same);
    if !same {
        note!(
            "warning: {} has other classes and was not changed; the tutorial's predict.py would use them for {}: convert to another \
             folder",
            shown_path(&file),
            shown_path(weights)
        );
    }
    Ok(())
}

impl Args {
    /// Replaces metadata of the file by that of the options.
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
            let parameters =
                |variant: Variant| variant.topology(metadata.classes.len()).parameters();
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
        if let Some(side) = self.val_resize_crop {
            let least = metadata.input_size;
            ensure!(
                side == 0 || side as usize >= least,
                "`--val-resize-crop {side}` is smaller than the network's input: use 0, or at least {least}"
            );
            metadata.resize_crop = (side > 0).then_some(side);
        }
        Ok(())
    }
}
