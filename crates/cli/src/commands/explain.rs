//! `alexnet explain`: shows which regions of images raise the probability of a class.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use alexnet::{
    Classifier, Error, Explain, Explanation, Note, Observer,
    core::{
        self,
        files::{create_folders, write_atomically},
        text::shown,
    },
    explain::{ConvLayer, Map, Method},
    interchange::npy,
};
use anyhow::{Result, bail};
use clap::ValueEnum;
use serde_json::json;

use crate::{
    console::Console,
    figures,
    inputs::{Failed, Image, check_outside, find, free_name},
    options::ClassifierOptions,
    output::explain,
    parse,
};

/// Show which regions of images raise the probability of a class
///
/// Writes a figure and the raw map of each image to a folder. If an image cannot be read, the
/// others are still explained, and the exit code is 1.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Images, folders (searched with their subfolders) or patterns such as 'images/*.jpg'
    #[arg(required = true, value_name = "IMAGE|DIR|GLOB")]
    inputs: Vec<PathBuf>,
    /// Folder for the figures and maps
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Method of explanation
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    method: Method,
    /// Class to explain [default: the most probable class of each image]
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Convolutional layer of Grad-CAM
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    layer: ConvLayer,
    /// Opacity of the colors over the image
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = parse::probability)]
    alpha: f64,
    /// Output format
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    classifier: ClassifierOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line per image
    Text,
    /// A JSON array
    Json,
}

/// Runs the command. The exit code is 1 if an image could not be read.
///
/// # Errors
/// If the weights cannot be read, the class is unknown, or a file cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    check_outside(&args.out, &args.inputs)?;
    let mut console = Console::default();
    let mut classifier = args.classifier.load(&mut console)?;
    let class = args.class.as_deref().map(|name| index_of(name, &classifier)).transpose()?;
    let options = Explain { method: args.method, layer: args.layer, class };
    create_folders(&args.out)?;
    let (mut names, mut rows, mut failures) = (BTreeSet::new(), vec![], 0);
    for found in find(&args.inputs) {
        let (path, result) = match &found {
            Err(Failed { path, reason }) => (path, Err(reason.clone())),
            Ok(image) => {
                let explained = match classifier.explain(image.source(), &options) {
                    Err(error @ (Error::NotFinite | Error::Core(core::Error::Backend { .. }))) => {
                        return Err(error.into());
                    }
                    explained => explained.map_err(|error| explain(&error.into())),
                };
                (&image.path, explained.map(|explained| (image, explained)))
            }
        };
        match result {
            Err(reason) => {
                failures += 1;
                match args.format {
                    Format::Text => note!("{}", reason),
                    Format::Json => rows.push(json!({ "path": text(path), "error": reason })),
                }
            }
            Ok((image, explanation)) => {
                for what in &explanation.prediction.damage {
                    console.note(Note::Damaged { path: path.clone(), what: what.clone() });
                }
                let [figure, map] = files(image, &args.out, &mut names);
                save(&explanation, args.alpha as f32, &figure, &map)?;
                match args.format {
                    Format::Text => print(path, &explanation, &figure)?,
                    Format::Json => rows.push(row(path, &explanation, &figure, &map)),
                }
            }
        }
    }
    if args.format == Format::Json {
        say!("{}", serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the index of a class.
fn index_of(name: &str, classifier: &Classifier) -> Result<usize> {
    let classes = classifier.classes();
    match classes.iter().position(|class| class == name) {
        Some(index) => Ok(index),
        None => bail!(
            "`--class {}` is not a class of these weights; they have {}",
            shown(name),
            alexnet::classes::listed(classes)
        ),
    }
}

/// Returns the paths of the figure and the map of an image, in the same subfolders as the input.
fn files(image: &Image, out: &Path, names: &mut BTreeSet<PathBuf>) -> [PathBuf; 2] {
    let path = out.join(free_name(image, names));
    let name = path.file_name().unwrap_or_default().to_owned();
    ["png", "npy"].map(|extension| {
        let mut name = name.clone();
        name.push(".");
        name.push(extension);
        path.with_file_name(name)
    })
}

fn save(explanation: &Explanation, alpha: f32, figure: &Path, map: &Path) -> Result<()> {
    if let Some(parent) = figure.parent() {
        create_folders(parent)?;
    }
    figures::save(&figures::explanation(explanation, alpha), figure)?;
    let Map { channels, height, width, values } = &explanation.map;
    let bytes = npy::to_bytes(&[*channels, *height, *width], values);
    Ok(write_atomically(map, |file| std::io::Write::write_all(file, &bytes))?)
}

fn print(path: &Path, explanation: &Explanation, figure: &Path) -> Result<()> {
    let Explanation { class, map, .. } = explanation;
    let [path, figure] = [path, figure].map(core::text::shown_path);
    let evidence = if map.has_positive_evidence() {
        String::new()
    } else {
        format!("; {}", figures::NO_EVIDENCE)
    };
    say!("{path}: {} {:.3} in {figure}{evidence}", shown(&class.name), class.probability)
}

fn row(path: &Path, explanation: &Explanation, figure: &Path, map: &Path) -> serde_json::Value {
    let Explanation { class, method, layer, prediction, .. } = explanation;
    let uses_layer = matches!(method, Method::GradCam | Method::GuidedGradCam);
    json!({
        "path": text(path),
        "method": method.name(),
        "layer": uses_layer.then(|| layer.name()),
        "class": class.name,
        "probability": class.probability,
        "predicted": prediction.best().name,
        "positive_evidence": explanation.map.has_positive_evidence(),
        "max": explanation.map.max(),
        "shape": [explanation.map.channels, explanation.map.height, explanation.map.width],
        "figure": text(figure),
        "map": text(map),
    })
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
