//! Printing of the answers of `predict`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write, stdout},
    path::{Path, PathBuf},
};

use alexnet::core::text::{escaped, shown_path};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Serialize, Serializer};

use super::NONE;
use crate::columns::{padded, width};

/// Output formats of `predict`.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Format {
    /// Lines to read
    Text,
    /// One JSON array
    Json,
    /// One JSON object per line
    Jsonl,
    /// Columns path,rank,class,probability,error
    Csv,
}

impl Format {
    /// Returns the format that the extension of a file names.
    ///
    /// # Errors
    /// If it names none.
    pub fn of_file(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "json" => Ok(Self::Json),
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            _ => bail!("the name of {} must end in .csv, .json or .jsonl", shown_path(path)),
        }
    }
}

/// The result for one input.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The most probable class, or `None` if its probability is below `--threshold`, and the
    /// `--topk` most probable classes.
    Classes {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        class: Option<String>,
        probability: f64,
        top: Vec<Class>,
    },
    /// The reason why there is no answer.
    Failed {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        error: String,
    },
}

/// Serializes a path as text. Parts that are not UTF-8 are replaced, because JSON cannot represent
/// them.
fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// A class and its probability.
#[derive(Clone, Serialize)]
pub struct Class {
    pub class: String,
    pub probability: f64,
}

/// Prints answers one by one.
pub struct Printer<'a> {
    format: Format,
    /// Standard output or the file of `--out`.
    out: Box<dyn Write + 'a>,
    /// What an error of `out` means.
    failure: String,
    /// For several images as text: the number of classes in the line of each image. `None` for one
    /// image: each class has its own line.
    in_line: Option<usize>,
    /// The lowest probability of a class in a row of CSV.
    threshold: f64,
    answers: usize,
    failed: usize,
    /// How often each class was the most probable.
    classes: BTreeMap<String, usize>,
    /// The number of images without a class.
    none: usize,
}

/// The most classes in the line of totals.
const TOTALS: usize = 10;

impl<'a> Printer<'a> {
    /// Creates a printer and prints the header of CSV. It prints to standard output, or to a file
    /// with this name.
    ///
    /// # Errors
    /// If the header cannot be written.
    pub fn new(
        format: Format,
        file: Option<(&Path, &'a mut File)>,
        in_line: Option<usize>,
        threshold: f64,
    ) -> Result<Self> {
        let (out, failure): (Box<dyn Write + 'a>, _) = match file {
            Some((path, file)) => {
                (Box::new(BufWriter::new(file)), format!("cannot write {}", shown_path(path)))
            }
            None => (Box::new(stdout()), "cannot write to standard output".into()),
        };
        let (classes, none) = (BTreeMap::new(), 0);
        let mut printer =
            Self { format, out, failure, in_line, threshold, answers: 0, failed: 0, classes, none };
        if format == Format::Csv {
            printer.print_record(["path", "rank", "class", "probability", "error"])?;
        }
        Ok(printer)
    }

    /// Prints one answer.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print(&mut self, answer: &Answer) -> Result<()> {
        self.answers += 1;
        match answer {
            Answer::Classes { class: Some(class), .. } => {
                *self.classes.entry(class.clone()).or_default() += 1;
            }
            Answer::Classes { class: None, .. } => self.none += 1,
            Answer::Failed { .. } => self.failed += 1,
        }
        match self.format {
            Format::Json => {
                let separator = if self.answers == 1 { "[\n" } else { ",\n" };
                self.write(&format!("{separator}{}", serde_json::to_string(answer)?))
            }
            Format::Jsonl => self.write(&format!("{}\n", serde_json::to_string(answer)?)),
            Format::Csv => self.print_csv(answer),
            Format::Text => self.print_text(answer),
        }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.out.write_all(text.as_bytes()).with_context(|| self.failure.clone())
    }

    fn print_text(&self, answer: &Answer) -> Result<()> {
        match (answer, self.in_line) {
            (Answer::Failed { path, error }, _) => note!("error: {}", with_path(path, error)),
            (Answer::Classes { class, top, .. }, None) => {
                if class.is_none() {
                    say!("{NONE}: no class has a probability of {}", self.threshold)?;
                }
                let names: Vec<String> =
                    top.iter().map(|class| escaped(&class.class).to_string()).collect();
                // 10 columns as in the tutorial's predict.py, or more for a longer name.
                let columns = names.iter().map(|name| width(name)).fold(10, usize::max);
                for (name, Class { probability, .. }) in names.iter().zip(top) {
                    say!("class: {}   prob: {probability:.3}", padded(name, columns))?;
                }
            }
            (Answer::Classes { path, class, top, .. }, Some(most)) => {
                let classes = top.iter().take(most).map(|Class { class, probability }| {
                    format!("{} {probability:.3}", escaped(class))
                });
                let classes = classes.collect::<Vec<_>>().join(", ");
                match class {
                    Some(_) => say!("{}: {classes}", shown_path(path))?,
                    None => say!("{}: {NONE} ({classes})", shown_path(path))?,
                }
            }
        }
        Ok(())
    }

    fn print_csv(&mut self, answer: &Answer) -> Result<()> {
        match answer {
            Answer::Classes { path, class, probability, top } => {
                let path = path.to_string_lossy();
                if class.is_none() {
                    return self.print_record([&path, "", NONE, &probability.to_string(), ""]);
                }
                for (rank, Class { class, probability }) in (1..).zip(top) {
                    if *probability >= self.threshold {
                        let (rank, probability) = (rank.to_string(), probability.to_string());
                        self.print_record([&path, &rank, class, &probability, ""])?;
                    }
                }
                Ok(())
            }
            Answer::Failed { path, error } => {
                self.print_record([&path.to_string_lossy(), "", "", "", error])
            }
        }
    }

    fn print_record(&mut self, fields: [&str; 5]) -> Result<()> {
        let mut record = csv::Writer::from_writer(&mut self.out);
        record.write_record(fields)?;
        record.flush().with_context(|| self.failure.clone())
    }

    /// Prints the end of the output, and the totals if there are several images or the answers are
    /// in a file. Returns whether all inputs have an answer.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self, totals: bool) -> Result<bool> {
        match (self.format, self.answers) {
            (Format::Json, 0) => self.write("[]\n")?,
            (Format::Json, _) => self.write("\n]\n")?,
            _ => {}
        }
        self.out.flush().with_context(|| self.failure.clone())?;
        if totals {
            note!("{}", self.totals());
        }
        Ok(self.failed == 0)
    }

    /// Returns for example `5 images: 3 roses, 1 tulips, 1 without an answer`.
    fn totals(&self) -> String {
        let mut classes: Vec<(&String, &usize)> = self.classes.iter().collect();
        classes.sort_by(|a, b| b.1.cmp(a.1));
        let mut shares: Vec<String> = classes
            .iter()
            .take(TOTALS)
            .map(|(class, count)| format!("{count} {}", escaped(class)))
            .collect();
        if classes.len() > TOTALS {
            shares.push(format!("{} more classes", classes.len() - TOTALS));
        }
        if self.none > 0 {
            shares.push(format!("{} {NONE}", self.none));
        }
        if self.failed > 0 {
            shares.push(format!("{} without an answer", self.failed));
        }
        let plural = if self.answers == 1 { "" } else { "s" };
        format!("{} image{plural}: {}", self.answers, shares.join(", "))
    }
}

/// Returns the error in one line, with the path before it unless the error contains the path.
fn with_path(path: &Path, error: &str) -> String {
    let (path, error) = (shown_path(path).to_string(), escaped(error).to_string());
    if error.contains(&path) { error } else { format!("{path}: {error}") }
}
