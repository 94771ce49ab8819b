//! `alexnet predict`: predicts the classes of images.

mod printer;
mod sort;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, IsTerminal, stdin, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use alexnet::{
    Classifier, Error, ImageSource, Note, Observer, Prediction,
    core::{
        files::{create_folders, write_atomically},
        text::shown_path,
    },
    data::{
        augment::views::Views,
        decode::{Decoded, decode_reader},
    },
    image::DynamicImage,
};
use anyhow::{Context, Result};
use rayon::prelude::*;

use self::{
    printer::{Answer, Class, Format, Printer},
    sort::Sorter,
};
use crate::{
    console::Console,
    figures,
    inputs::{Failed, Found, Image, check_outside, find, free_name},
    options::{ClassifierOptions, Tta},
    output::explain,
    parse,
    progress::Items,
};

/// Images in a batch.
const BATCH: usize = 32;

/// The default of `--topk`.
const TOP: usize = 5;

/// The answer for an image whose highest probability is below `--threshold`.
const NONE: &str = "none of these";

/// Print the most probable classes of images
///
/// If an image cannot be read, the others are still classified, and the exit code is 1.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Images, folders (searched with their subfolders), patterns such as 'images/*.jpg', or - for
    /// standard input
    #[arg(required = true, value_name = "IMAGE|DIR|GLOB|-")]
    inputs: Vec<PathBuf>,
    /// Number of classes to print for each image [default: 5, or 1 for several images as text]
    #[arg(long, value_name = "N", value_parser = parse::at_least(1u32))]
    topk: Option<u32>,
    /// Answer "none of these" for an image if no class has at least this probability
    #[arg(long, value_name = "P", value_parser = parse::probability)]
    threshold: Option<f64>,
    /// Test-time augmentation: average the probabilities of several views of each image
    #[arg(long, value_name = "VIEWS", value_enum)]
    tta: Option<Tta>,
    /// Output format
    #[arg(long, value_name = "NAME", value_enum, default_value = "text", conflicts_with = "out")]
    format: Format,
    /// Write the answers to this file instead, as CSV, JSON or JSON lines by its extension: .csv,
    /// .json or .jsonl
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also copy each image to this folder, which must be new or empty, into a folder for each
    /// class
    #[arg(long, value_name = "DIR")]
    sort_into: Option<PathBuf>,
    /// For --sort-into: make links instead of copies
    #[arg(long, requires = "sort_into")]
    link: bool,
    /// Also write each image with its classes below it to this folder, in the same subfolders as
    /// the input
    #[arg(long, value_name = "DIR")]
    annotate: Option<PathBuf>,
    #[command(flatten)]
    classifier: ClassifierOptions,
}

/// Runs the command. The exit code is 1 if an image could not be read.
///
/// # Errors
/// If the weights cannot be read or the answers cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    for folder in [&args.sort_into, &args.annotate].into_iter().flatten() {
        check_outside(folder, &args.inputs)?;
    }
    let Some(path) = &args.out else { return answer_all(args, args.format, None) };
    let format = Format::of_file(path)?;
    let mut outcome = None;
    let written = write_atomically(path, |file| {
        let code = answer_all(args, format, Some((path, file)));
        let is_complete = code.is_ok();
        outcome = Some(code);
        // The file is not written after an error, which is returned below.
        if is_complete { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    });
    let code = outcome.transpose()?;
    written?;
    Ok(code.unwrap_or(ExitCode::FAILURE))
}

/// Classifies all images, and prints the answers to standard output or to a file.
fn answer_all(args: &Args, format: Format, file: Option<(&Path, &mut File)>) -> Result<ExitCode> {
    let mut console = Console::default();
    let views = args.tta.map(Views::from).unwrap_or_default();
    let mut classifier = args.classifier.load_for(views, &mut console)?;
    if let Some(folder) = &args.annotate {
        create_folders(folder)?;
    }
    let found = find(&args.inputs);
    let mut sorter = match &args.sort_into {
        Some(folder) => Some(Sorter::new(folder, args.link, &found)?),
        None => None,
    };
    let topk = args.topk.map(|n| n as usize);
    let several = found.len() > 1;
    // On a terminal the printed answers show the progress.
    let is_shown = several && (file.is_some() || !stdout().is_terminal());
    let totals = file.is_some() || (several && format == Format::Text);
    let threshold = args.threshold.unwrap_or(0.0);
    let in_line = several.then_some(topk.unwrap_or(1));
    let mut printer = Printer::new(format, file, in_line, threshold)?;
    let mut names = BTreeSet::new();
    let bar = is_shown.then(|| Items::new("predicting"));
    for (chunk, number) in found.chunks(BATCH).zip(0..) {
        if let Some(bar) = &bar {
            bar.at(number * BATCH, found.len());
        }
        let (answers, stdin) =
            classify(chunk, &mut classifier, (topk.unwrap_or(TOP), threshold), &mut console)?;
        if let Some(folder) = &args.annotate {
            annotate(chunk, &answers, folder, (&classifier, &stdin), &mut names)?;
        }
        for (found, answer) in chunk.iter().zip(&answers) {
            if let (Some(sorter), Ok(image), Answer::Classes { class, .. }) =
                (&mut sorter, found, answer)
            {
                sorter.add(image, class.as_deref())?;
            }
            printer.print(answer)?;
        }
    }
    drop(bar);
    Ok(if printer.finish(totals)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An image from standard input, which is stored because it cannot be read again, and the damage
/// found in it.
type Stdin = Option<Result<(DynamicImage, Vec<String>)>>;

/// Returns the answers to the images of a batch, and the image from standard input if it is one of
/// them.
fn classify(
    found: &[Found],
    classifier: &mut Classifier,
    (topk, threshold): (usize, f64),
    console: &mut Console,
) -> Result<(Vec<Answer>, Stdin)> {
    let has_stdin = found.iter().flatten().any(|image| is_stdin(&image.path));
    let mut stdin = has_stdin.then(|| read_stdin(classifier));
    let source = |image: &Image| match &stdin {
        Some(Ok((pixels, _))) if is_stdin(&image.path) => ImageSource::Image(pixels),
        _ => image.source(),
    };
    let sources: Vec<ImageSource> = found
        .iter()
        .flatten()
        .filter(|image| !(is_stdin(&image.path) && matches!(stdin, Some(Err(_)))))
        .map(source)
        .collect();
    let mut predictions = classifier.predict_batch(sources)?.into_iter();
    let mut answers = Vec::with_capacity(found.len());
    for found in found {
        let path = match found {
            Ok(Image { path, .. }) => path.clone(),
            Err(Failed { path, reason }) => {
                answers.push(Answer::Failed { path: path.clone(), error: reason.clone() });
                continue;
            }
        };
        if let Some(Err(error)) = &stdin
            && is_stdin(&path)
        {
            answers.push(Answer::Failed { error: explain(error), path });
            continue;
        }
        answers.push(
            match predictions.next().context("the engine returned fewer predictions than images")? {
                Err(error @ Error::NotFinite) => {
                    return Err(error).with_context(|| shown_path(classifier.path()).to_string());
                }
                Err(error) => Answer::Failed { path, error: explain(&error.into()) },
                Ok(prediction) => {
                    let of_stdin = match &mut stdin {
                        Some(Ok((_, damage))) if is_stdin(&path) => std::mem::take(damage),
                        _ => vec![],
                    };
                    for what in prediction.damage.iter().cloned().chain(of_stdin) {
                        console.note(Note::Damaged { path: path.clone(), what });
                    }
                    classes_of(path, &prediction, topk, threshold)
                }
            },
        );
    }
    Ok((answers, stdin))
}

fn read_stdin(classifier: &Classifier) -> Result<(DynamicImage, Vec<String>)> {
    let Decoded { image, notes, .. } = decode_reader("-", stdin().lock(), classifier.decoding())?;
    Ok((image.into(), notes))
}

fn classes_of(path: PathBuf, prediction: &Prediction, topk: usize, threshold: f64) -> Answer {
    let class = |class: &alexnet::ClassProbability| Class {
        class: class.name.clone(),
        probability: class.probability,
    };
    let Class { class: best, probability } = class(prediction.best());
    Answer::Classes {
        path,
        class: (probability >= threshold).then_some(best),
        probability,
        top: prediction.top(topk).iter().map(class).collect(),
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Returns a path in `folder` for an annotated image, at which there is no file. The folder can be
/// that of the images themselves.
fn free_file(folder: &Path, image: &Image, names: &mut BTreeSet<PathBuf>) -> PathBuf {
    loop {
        let file = folder.join(free_name(image, names));
        if fs::symlink_metadata(&file).is_err() {
            return file;
        }
    }
}

/// Writes images with their classes below them. The files are read again, so that no more than a
/// batch has to be in memory.
fn annotate(
    found: &[Found],
    answers: &[Answer],
    folder: &Path,
    (classifier, stdin): (&Classifier, &Stdin),
    names: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    let annotated: Vec<_> = found
        .iter()
        .zip(answers)
        .filter_map(|(found, answer)| match (found, answer) {
            (Ok(image), Answer::Classes { top, .. }) => {
                Some((image, top, free_file(folder, image, names)))
            }
            _ => None,
        })
        .collect();
    let decoding = classifier.decoding();
    annotated.into_par_iter().try_for_each(|(image, top, file)| {
        if let Some(parent) = file.parent() {
            create_folders(parent)?;
        }
        let top: Vec<_> = top.iter().map(|c| (c.class.as_str(), c.probability)).collect();
        let figure = match stdin {
            Some(Ok((DynamicImage::ImageRgb8(pixels), _))) if is_stdin(&image.path) => {
                figures::annotate(pixels, &top)
            }
            _ => figures::annotate(&image.decode(decoding)?.image, &top),
        };
        figures::save(&figure, &file)
    })
}
