//! `alexnet predict`: the class of a photo, or of many.

use std::{
    collections::BTreeSet,
    fs,
    io::{IsTerminal, Write, stdin, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use alexnet_core::{Images, metrics::top_k};
use alexnet_data::{
    decode::{self, Decoded, decode, decode_reader},
    folder::is_photo,
    loader::evaluation_picture,
};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use glob::MatchOptions;
use image::RgbImage;
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    columns::padded,
    engine::EngineArgs,
    exif::OfWeights,
    output::{explain, note_damaged},
    parse, pictures,
    progress::Items,
    trained::Trained,
};

/// Photos that go through the network at once.
const BATCH: usize = 32;

/// Names the most probable classes of photos.
///
/// A photo that cannot be read does not stop the others; the exit code is 1 then.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Photos, folders (searched with all below them), patterns such as 'photos/*.jpg', or - for standard input
    #[arg(required = true, value_name = "IMAGE|DIR|GLOB|-")]
    inputs: Vec<String>,
    /// Weights [default: the best of the newest run]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Classes named for each image
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = parse::at_least(1u32))]
    topk: u32,
    /// How the results are printed
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    format: Format,
    /// Also write each photo with its classes below it to this folder
    #[arg(long, value_name = "DIR")]
    annotate: Option<PathBuf>,
    #[command(flatten)]
    orientation: OfWeights,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    /// Lines for people
    Text,
    /// One list
    Json,
    /// One object a line
    Jsonl,
    /// path,rank,class,probability,error
    Csv,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Classes { path: String, class: String, probability: f64, top: Vec<Class> },
    Failed { path: String, error: String },
}

#[derive(Clone, Serialize)]
struct Class {
    class: String,
    probability: f64,
}

/// Runs the command. The exit code is 1 when a photo could not be read.
///
/// # Errors
/// When the weights cannot be read or the answers cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut trained = Trained::load(args.weights.as_deref(), &args.engine)?;
    if let Some(folder) = &args.annotate {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let options = decode::Options { orientation: args.orientation.or(trained.metadata.exif_orientation) };
    let photos = find(&args.inputs);
    let several = photos.len() > 1;
    let mut printer = Printer::new(args.format, several)?;
    let mut names = BTreeSet::new();
    let mut failed = false;
    // Answers on the terminal are progress enough.
    let bar = (several && !stdout().is_terminal()).then(|| Items::new("predicting"));
    for (chunk, number) in photos.chunks(BATCH).zip(0..) {
        if let Some(bar) = &bar {
            bar.at(number * BATCH, photos.len());
        }
        for (answer, picture) in answer(chunk, &mut trained, args, options)? {
            if let (Some(folder), Answer::Classes { path, top, .. }, Some(picture)) =
                (&args.annotate, &answer, picture)
            {
                let top: Vec<_> = top.iter().map(|c| (c.class.as_str(), c.probability)).collect();
                let file = folder.join(free_name(path, &mut names));
                pictures::save(&pictures::annotate(&picture, &top), &file)?;
            }
            failed |= matches!(answer, Answer::Failed { .. });
            printer.print(&answer)?;
        }
    }
    drop(bar);
    printer.finish()?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A photo to answer, or why there is none.
type Found = Result<PathBuf, (String, String)>;

/// What the inputs name, in order; what is not there stays in its place as an error.
fn find(inputs: &[String]) -> Vec<Found> {
    let mut found = Vec::new();
    for input in inputs {
        let fail = |reason: String| Err((input.clone(), reason));
        let path = Path::new(input);
        if path.is_dir() {
            found.extend(photos_under(path));
        } else if input == "-" || path.exists() || !input.contains(['*', '?', '[']) {
            found.push(Ok(path.to_owned()));
        } else {
            // As in a shell, `*` leaves out hidden files.
            let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::default() };
            match glob::glob_with(input, options) {
                Err(error) => found.push(fail(format!("the pattern is not valid: {error}"))),
                Ok(matches) => {
                    let before = found.len();
                    for path in matches {
                        match path {
                            Ok(path) if path.is_dir() => found.extend(photos_under(&path)),
                            Ok(path) => found.push(Ok(path)),
                            Err(error) => {
                                found.push(Err((error.path().display().to_string(), error.to_string())));
                            }
                        }
                    }
                    if found.len() == before {
                        found.push(fail("the pattern matches no file".into()));
                    }
                }
            }
        }
    }
    found
}

/// Answers to a few photos, each with the photo itself when it is to be annotated.
fn answer(
    photos: &[Found],
    trained: &mut Trained,
    args: &Args,
    options: decode::Options,
) -> Result<Vec<(Answer, Option<RgbImage>)>> {
    let size = trained.metadata.input_size;
    // Large photos are let go as soon as they are resized, so that memory does not grow with their number.
    let read: Vec<_> = photos
        .par_iter()
        .map(|found| {
            let path = found.as_ref().map_err(Clone::clone)?;
            let read = read_image(path, options).map_err(|e| (path.display().to_string(), explain(&e)))?;
            read.notes.iter().for_each(|what| note_damaged(path, what));
            let pixels = evaluation_picture(&read.image, size);
            Ok::<_, (String, String)>((path, pixels, args.annotate.is_some().then_some(read.image)))
        })
        .collect();
    let pixels: Vec<u8> = read.iter().flatten().flat_map(|(_, pixels, _)| pixels).copied().collect();
    let images = Images { pixels, height: size, width: size, normalization: trained.metadata.normalization };
    let logits = if images.is_empty() { None } else { Some(trained.model.logits(&images)?) };
    let mut rows = logits.iter().flat_map(|logits| logits.rows());
    read.into_iter()
        .map(|result| {
            let (path, _, picture) = match result {
                Ok(read) => read,
                Err((path, error)) => return Ok((Answer::Failed { path, error }, None)),
            };
            let row = rows.next().context("the engine answered fewer photos than it was given")?;
            ensure!(
                row.iter().all(|x| x.is_finite()),
                "the weights give no finite answer: {}",
                trained.path.display()
            );
            let top: Vec<Class> = top_k(row, args.topk as usize)
                .into_iter()
                .map(|(class, probability)| Class {
                    class: trained.metadata.classes[class].clone(),
                    probability,
                })
                .collect();
            let Class { class, probability } = top[0].clone();
            Ok((Answer::Classes { path: path.display().to_string(), class, probability, top }, picture))
        })
        .collect()
}

/// All photos of a folder and those below it, sorted; what cannot be looked into is an error among them.
fn photos_under(folder: &Path) -> Vec<Found> {
    let entries = walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    let mut found: Vec<Found> = entries
        .map(|entry| match entry {
            Ok(entry) => Ok(entry.into_path()),
            Err(error) => {
                let path = error.path().unwrap_or(folder).display().to_string();
                Err((path, error.to_string()))
            }
        })
        .filter(|found| found.as_ref().map_or(true, |path| path.is_file() && is_photo(path)))
        .collect();
    if found.is_empty() {
        found.push(Err((folder.display().to_string(), "the folder holds no photo".into())));
    }
    found
}

fn read_image(path: &Path, options: decode::Options) -> Result<Decoded> {
    let stdin_named = path == Path::new("-");
    Ok(if stdin_named { decode_reader(path, stdin().lock(), options)? } else { decode(path, options)? })
}

/// The photo's name as a JPEG file; numbered when it is taken.
fn free_name(path: &str, taken: &mut BTreeSet<String>) -> String {
    let stem = match Path::new(path).file_stem() {
        Some(stem) if path != "-" => stem.to_string_lossy().into_owned(),
        _ => "stdin".into(),
    };
    let mut name = format!("{stem}.jpg");
    let mut n = 1;
    while !taken.insert(name.clone()) {
        n += 1;
        name = format!("{stem}-{n}.jpg");
    }
    name
}

/// Prints answers as they come.
struct Printer {
    format: Format,
    several: bool,
    answers: usize,
    csv: csv::Writer<std::io::Stdout>,
}

impl Printer {
    fn new(format: Format, several: bool) -> Result<Self> {
        let mut csv = csv::Writer::from_writer(stdout());
        if format == Format::Csv {
            csv.write_record(["path", "rank", "class", "probability", "error"])?;
        }
        Ok(Self { format, several, answers: 0, csv })
    }

    fn print(&mut self, answer: &Answer) -> Result<()> {
        self.answers += 1;
        let mut out = stdout().lock();
        match self.format {
            Format::Json => {
                let begin = if self.answers == 1 { "[\n" } else { ",\n" };
                write!(out, "{begin}{}", serde_json::to_string(answer)?)?;
            }
            Format::Jsonl => writeln!(out, "{}", serde_json::to_string(answer)?)?,
            Format::Csv => {
                drop(out);
                self.print_csv(answer)?;
            }
            Format::Text => match answer {
                Answer::Classes { path, top, .. } => {
                    if self.several {
                        writeln!(out, "{path}")?;
                    }
                    for Class { class, probability } in top {
                        writeln!(out, "class: {}   prob: {probability:.3}", padded(class, 10))?;
                    }
                }
                Answer::Failed { path, error } => {
                    drop(out);
                    note!("error: {}", with_path(path, error));
                }
            },
        }
        Ok(())
    }

    fn print_csv(&mut self, answer: &Answer) -> Result<()> {
        match answer {
            Answer::Classes { path, top, .. } => {
                for (rank, Class { class, probability }) in (1..).zip(top) {
                    self.csv.write_record([path, &rank.to_string(), class, &probability.to_string(), ""])?;
                }
            }
            Answer::Failed { path, error } => self.csv.write_record([path, "", "", "", error])?,
        }
        Ok(self.csv.flush()?)
    }

    fn finish(mut self) -> Result<()> {
        match self.format {
            Format::Json if self.answers == 0 => say!("[]")?,
            Format::Json => say!("\n]")?,
            Format::Csv => self.csv.flush()?,
            Format::Text | Format::Jsonl => {}
        }
        Ok(())
    }
}

/// The error, with the path before it unless it names it itself.
fn with_path(path: &str, error: &str) -> String {
    if error.contains(path) { error.to_owned() } else { format!("{path}: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_keeps_its_place() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("empty")).unwrap();
        for name in ["b.jpg", "a.jpg", "notes.txt"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let at = |name: &str| folder.path().join(name).display().to_string();
        let found = find(&[at("none.jpg"), at("*.jpg"), at("*.png"), at("empty"), at("["), "-".into()]);
        let ok = |name: &str| Ok(folder.path().join(name));
        assert_eq!(found[0], ok("none.jpg"));
        assert_eq!(found[1..3], [ok("a.jpg"), ok("b.jpg")]);
        for (index, reason) in [(3, "matches no file"), (4, "holds no photo"), (5, "not valid")] {
            assert!(found[index].as_ref().unwrap_err().1.contains(reason), "{found:?}");
        }
        assert_eq!(found[6], Ok("-".into()));
    }

    #[test]
    fn annotated_photos_of_one_name_do_not_meet() {
        let mut taken = BTreeSet::new();
        let names = ["x/a.png", "y/a.jpg", "-"].map(|path| free_name(path, &mut taken));
        assert_eq!(names, ["a.jpg", "a-2.jpg", "stdin.jpg"]);
    }
}
