//! The content of a weights file.

use std::path::Path;

use alexnet::{
    RunSummary,
    classes::listed,
    core::{
        Array, Error, ExifOrientation, Normalization, Precision,
        alexnet::Variant,
        text::{escaped, shown_path},
        train::EpochRow,
        weights::Metadata,
    },
    interchange::{Loaded, load, load_changed},
    weights::{locate, note_assumed},
};
use anyhow::Result;
use serde::Serialize;

use crate::{
    columns::print_table,
    console::Console,
    output::explain,
    run_options::{changed, options},
};

/// A filter is dead if the norm of its weights is at most this share of the median of its layer.
const DEAD: f64 = 0.01;

/// The content of a weights file, as in the JSON output.
#[derive(Serialize)]
pub struct Content {
    path: String,
    pub variant: Variant,
    pub classes: Vec<String>,
    input_size: usize,
    resize_crop: Option<u32>,
    #[serde(flatten)]
    normalization: Normalization,
    exif_orientation: ExifOrientation,
    precision: Precision,
    /// `correct`, `none`, or what is wrong.
    checksum: String,
    /// The run that wrote the file, if the file is in its folder.
    training: Option<Training>,
    /// How many numbers are not finite.
    not_finite: usize,
    /// The largest magnitude of the finite numbers.
    largest: f32,
    tensors: Vec<Tensor>,
}

/// How weights in a run folder were trained.
#[derive(Serialize)]
struct Training {
    run: String,
    recipe: &'static str,
    /// The options that differ from the recipe.
    options: serde_json::Value,
    #[serde(skip)]
    text: String,
    epoch: u64,
    epochs: u64,
    /// On the validation images, if there were any.
    accuracy: Option<f64>,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    /// The L2 norm.
    norm: f64,
    /// The largest magnitude.
    largest: f32,
    /// Of weights: the outputs, which are filters or rows, with nearly no weights.
    dead: Option<usize>,
}

impl Content {
    /// Reads a weights file of any format, or the best weights of a run folder. A wrong checksum is
    /// returned beside the content.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(path: &Path) -> Result<(Self, Option<anyhow::Error>)> {
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
        let Metadata {
            variant,
            classes,
            input_size,
            resize_crop,
            normalization,
            exif_orientation,
            precision,
        } = weights.metadata;
        // In the order of the layers.
        let parameters = variant.topology(classes.len()).parameters()?;
        let tensors = parameters.iter().filter_map(|parameter| {
            let (name, array) = weights.parameters.get_key_value(&parameter.name)?;
            Some(tensor(name, array))
        });
        let tensors = tensors.collect();
        let values = || weights.parameters.values().flat_map(|array| &array.values);
        let content = Self {
            path: path.to_string_lossy().into_owned(),
            variant,
            classes,
            input_size,
            resize_crop,
            normalization,
            exif_orientation,
            precision,
            checksum,
            training: Training::of(&path),
            not_finite: values().filter(|value| !value.is_finite()).count(),
            largest: largest(values()),
            tensors,
        };
        Ok((content, changed))
    }

    /// Prints lines about the file, and a table of its tensors.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn print(&self) -> Result<()> {
        let Normalization { mean, std } = self.normalization;
        let size = self.input_size;
        say!("{}", shown_path(Path::new(&self.path)))?;
        say!("classes: {}", listed(&self.classes))?;
        say!("images: {size}×{size}, mean {mean:?}, std {std:?}")?;
        if let Some(side) = self.resize_crop {
            say!("resized: shorter side to {side}, then the center")?;
        }
        let (precision, orientation) = (self.precision, self.exif_orientation.name());
        say!("training: precision {precision}, EXIF orientation {orientation}")?;
        if let Some(Training { run, text, epoch, epochs, accuracy, .. }) = &self.training {
            let accuracy = accuracy.map(|accuracy| format!(", val_accuracy {accuracy:.3}"));
            let accuracy = accuracy.unwrap_or_default();
            say!("run: {}, epoch {epoch} of {epochs}{accuracy}", escaped(run))?;
            say!("options: {text}")?;
        }
        match self.not_finite {
            0 => say!("numbers: all finite, largest magnitude {}", self.largest)?,
            count => say!("numbers: {count} are not finite")?,
        }
        say!("checksum: {}", self.checksum)?;
        let mut table = vec![["tensor", "shape", "norm", "largest", "dead"].map(String::from)];
        table.extend(self.tensors.iter().map(|tensor| {
            let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
            [
                tensor.name.clone(),
                shape.join("×"),
                format!("{:.4}", tensor.norm),
                format!("{:.4}", tensor.largest),
                tensor.dead.map_or("–".into(), |dead| dead.to_string()),
            ]
        }));
        print_table(&table)
    }
}

impl Training {
    /// Returns how the best or last weights in a run folder were trained; `None` for other files.
    fn of(path: &Path) -> Option<Self> {
        let run = RunSummary::read(path.parent()?.parent()?).ok()?;
        let row: &EpochRow = match path.file_name()?.to_str()? {
            "best.safetensors" => run.progress.best()?,
            "last.safetensors" => run.progress.history.last()?,
            _ => return None,
        };
        Some(Self {
            run: run.folder.to_string_lossy().into_owned(),
            recipe: run.recipe.name(),
            options: changed(&run),
            text: options(&run),
            epoch: row.epoch,
            epochs: run.epochs,
            accuracy: row.accuracy(),
        })
    }
}

fn tensor(name: &str, array: &Array) -> Tensor {
    Tensor {
        name: name.to_owned(),
        shape: array.shape.clone(),
        norm: norm(&array.values),
        largest: largest(&array.values),
        dead: (array.shape.len() > 1).then(|| dead(array)),
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

fn largest<'a>(values: impl IntoIterator<Item = &'a f32>) -> f32 {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(0f32, |largest, value| largest.max(value.abs()))
}

/// Counts the outputs with nearly no weights.
fn dead(array: &Array) -> usize {
    let inputs: usize = array.shape[1..].iter().product();
    let norms: Vec<f64> = array.values.chunks(inputs.max(1)).map(norm).collect();
    let mut sorted = norms.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    norms.iter().filter(|norm| **norm <= DEAD * median).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_with_nearly_no_weights_are_dead() {
        let array =
            |values: &[f32]| Array { shape: vec![values.len() / 2, 2, 1], values: values.to_vec() };
        assert_eq!(dead(&array(&[1.0, 1.0, 0.01, 0.0, 1.0, -1.0])), 1);
        assert_eq!(dead(&array(&[1.0, 1.0, 0.1, 0.0, 1.0, -1.0])), 0);
        assert_eq!(dead(&array(&[0.0; 6])), 3);
        let tensor = tensor("a", &array(&[3.0, -4.0]));
        assert_eq!((tensor.norm, tensor.largest, tensor.dead), (5.0, 4.0, Some(0)));
    }
}
