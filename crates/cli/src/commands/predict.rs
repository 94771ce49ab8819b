//! `alexnet predict`: the class of a photo, or of many.

mod inputs;
mod printer;

use std::{
    collections::BTreeSet,
    fs,
    io::{IsTerminal, stdin, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use alexnet_core::{Error, Images, files, metrics::top_k, text::shown_path};
use alexnet_data::{
    decode::{self, Decoded, decode, decode_reader},
    preprocess::evaluation_image,
};
use anyhow::{Context, Result, ensure};
use image::RgbImage;
use rayon::prelude::*;

use self::{
    inputs::{Failed, Found, Image, find, free_name},
    printer::{Answer, Class, Format, Printer},
};
use crate::{
    engine::EngineArgs,
    exif::OfWeights,
    output::{explain, note_damaged},
    parse, pictures,
    progress::Items,
    trained::Trained,
};

/// Photos that go through the network at once.
const BATCH: usize = 32;

/// Classes named where no other number is asked for.
const TOP: usize = 5;

/// Names the most probable classes of photos.
///
/// A photo that cannot be read does not stop the others; the exit code is 1 then.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Photos, folders (searched with all below them), patterns such as 'photos/*.jpg', or - for standard input
    #[arg(required = true, value_name = "IMAGE|DIR|GLOB|-")]
    inputs: Vec<PathBuf>,
    /// Weights [default: the best of the newest run]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Classes named for each image [default: 5; of several images as text, 1]
    #[arg(long, value_name = "N", value_parser = parse::at_least(1u32))]
    topk: Option<u32>,
    /// How the results are printed
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    format: Format,
    /// Also write each photo with its classes below it to this folder, those of a folder in the same folders below it
    #[arg(long, value_name = "DIR")]
    annotate: Option<PathBuf>,
    #[command(flatten)]
    orientation: OfWeights,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command. The exit code is 1 when a photo could not be read.
///
/// # Errors
/// When the weights cannot be read or the answers cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut trained = Trained::load(args.weights.as_deref(), &args.engine)?;
    if let Some(folder) = &args.annotate {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let options = decode::Options { orientation: args.orientation.or(trained.metadata.exif_orientation) };
    let found = find(&args.inputs);
    let topk = args.topk.map(|n| n as usize);
    let mut printer = Printer::new(args.format, (found.len() > 1).then_some(topk.unwrap_or(1)))?;
    let mut names = BTreeSet::new();
    // Answers on the terminal are progress enough.
    let bar = (found.len() > 1 && !stdout().is_terminal()).then(|| Items::new("predicting"));
    for (chunk, number) in found.chunks(BATCH).zip(0..) {
        if let Some(bar) = &bar {
            bar.at(number * BATCH, found.len());
        }
        let answers = answer(chunk, &mut trained, options, topk.unwrap_or(TOP))?;
        if let Some(folder) = &args.annotate {
            annotate(chunk, &answers, folder, options, &mut names)?;
        }
        for (answer, _) in &answers {
            printer.print(answer)?;
        }
    }
    drop(bar);
    Ok(if printer.finish()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Answers to a few photos, each with the photo itself if it cannot be read again.
fn answer(
    found: &[Found],
    trained: &mut Trained,
    options: decode::Options,
    topk: usize,
) -> Result<Vec<(Answer, Option<RgbImage>)>> {
    let size = trained.metadata.input_size;
    // Large photos are let go as soon as they are resized, so that memory does not grow with their number.
    let read: Vec<_> = found
        .par_iter()
        .map(|found| {
            let Image { path, .. } = found.as_ref().map_err(Clone::clone)?;
            let decoded = read_image(path, options)
                .map_err(|error| Failed { path: path.clone(), reason: explain(&error) })?;
            let pixels = evaluation_image(&decoded.image, size);
            let Decoded { image, notes, .. } = decoded;
            Ok::<_, Failed>((path, pixels, notes, is_stdin(path).then_some(image)))
        })
        .collect();
    let pixels: Vec<u8> = read.iter().flatten().flat_map(|(_, pixels, ..)| pixels).copied().collect();
    let images = Images { pixels, height: size, width: size, normalization: trained.metadata.normalization };
    let logits = if images.is_empty() { None } else { Some(trained.model.logits(&images)?) };
    let mut rows = logits.iter().flat_map(|logits| logits.rows());
    read.into_iter()
        .map(|result| {
            let (path, _, notes, picture) = match result {
                Ok(read) => read,
                Err(Failed { path, reason }) => return Ok((Answer::Failed { path, error: reason }, None)),
            };
            notes.iter().for_each(|what| note_damaged(path, what));
            let row = rows.next().context("the engine answered fewer photos than it was given")?;
            ensure!(
                row.iter().all(|x| x.is_finite()),
                "the weights give no finite answer: {}",
                shown_path(&trained.path)
            );
            let top: Vec<Class> = top_k(row, topk)
                .into_iter()
                .map(|(class, probability)| Class {
                    class: trained.metadata.classes[class].clone(),
                    probability,
                })
                .collect();
            let Class { class, probability } = top[0].clone();
            Ok((Answer::Classes { path: path.clone(), class, probability, top }, picture))
        })
        .collect()
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn read_image(path: &Path, options: decode::Options) -> Result<Decoded> {
    if is_stdin(path) {
        return Ok(decode_reader(path, stdin().lock(), options)?);
    }
    // A pipe would be waited for.
    files::open(path).map_err(Error::io("open", path))?;
    Ok(decode(path, options)?)
}

/// Writes photos with their classes below them. They are read once more, so that not all of them are in memory.
fn annotate(
    found: &[Found],
    answers: &[(Answer, Option<RgbImage>)],
    folder: &Path,
    options: decode::Options,
    names: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    let named: Vec<_> = found
        .iter()
        .zip(answers)
        .filter_map(|(found, answer)| match (found, answer) {
            (Ok(image), (Answer::Classes { top, .. }, picture)) => {
                Some((image, top, picture, folder.join(free_name(image, names))))
            }
            _ => None,
        })
        .collect();
    named.into_par_iter().try_for_each(|(image, top, picture, file)| {
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let top: Vec<_> = top.iter().map(|c| (c.class.as_str(), c.probability)).collect();
        let annotated = match picture {
            Some(picture) => pictures::annotate(picture, &top),
            None => pictures::annotate(&read_image(&image.path, options)?.image, &top),
        };
        pictures::save(&annotated, &file)
    })
}
