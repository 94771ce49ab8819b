//! Printing of the answers of `predict`.

use std::{
    collections::BTreeMap,
    io::{Stdout, Write, stdout},
    path::{Path, PathBuf},
};

use alexnet::core::text::{escaped, shown_path};
use anyhow::Result;
use clap::ValueEnum;
use serde::{Serialize, Serializer};

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

/// The result for one input.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The most probable class, and the `--topk` most probable classes.
    Classes {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        class: String,
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
pub struct Printer {
    format: Format,
    /// For several images as text: the number of classes in the line of each image. `None` for one
    /// image: each class has its own line.
    in_line: Option<usize>,
    answers: usize,
    failed: usize,
    /// How often each class was the most probable.
    classes: BTreeMap<String, usize>,
    csv: csv::Writer<Stdout>,
}

/// The most classes in the line of totals.
const TOTALS: usize = 10;

impl Printer {
    /// Creates a printer and prints the header of CSV.
    pub fn new(format: Format, in_line: Option<usize>) -> Result<Self> {
        let mut csv = csv::Writer::from_writer(stdout());
        if format == Format::Csv {
            csv.write_record(["path", "rank", "class", "probability", "error"])?;
        }
        Ok(Self { format, in_line, answers: 0, failed: 0, classes: BTreeMap::new(), csv })
    }

    /// Prints one answer.
    pub fn print(&mut self, answer: &Answer) -> Result<()> {
        self.answers += 1;
        match answer {
            Answer::Classes { class, .. } => *self.classes.entry(class.clone()).or_default() += 1,
            Answer::Failed { .. } => self.failed += 1,
        }
        match self.format {
            Format::Json => {
                let separator = if self.answers == 1 { "[\n" } else { ",\n" };
                write!(stdout(), "{separator}{}", serde_json::to_string(answer)?)?;
            }
            Format::Jsonl => writeln!(stdout(), "{}", serde_json::to_string(answer)?)?,
            Format::Csv => self.print_csv(answer)?,
            Format::Text => self.print_text(answer)?,
        }
        Ok(())
    }

    fn print_text(&self, answer: &Answer) -> Result<()> {
        match (answer, self.in_line) {
            (Answer::Failed { path, error }, _) => note!("error: {}", with_path(path, error)),
            (Answer::Classes { top, .. }, None) => {
                let names: Vec<String> =
                    top.iter().map(|class| escaped(&class.class).to_string()).collect();
                // 10 columns as in the tutorial's predict.py, or more for a longer name.
                let columns = names.iter().map(|name| width(name)).fold(10, usize::max);
                for (name, Class { probability, .. }) in names.iter().zip(top) {
                    say!("class: {}   prob: {probability:.3}", padded(name, columns))?;
                }
            }
            (Answer::Classes { path, top, .. }, Some(most)) => {
                let classes = top.iter().take(most).map(|Class { class, probability }| {
                    format!("{} {probability:.3}", escaped(class))
                });
                say!("{}: {}", shown_path(path), classes.collect::<Vec<_>>().join(", "))?;
            }
        }
        Ok(())
    }

    fn print_csv(&mut self, answer: &Answer) -> Result<()> {
        match answer {
            Answer::Classes { path, top, .. } => {
                for (rank, Class { class, probability }) in (1..).zip(top) {
                    let (rank, probability) = (rank.to_string(), probability.to_string());
                    self.csv.write_record([
                        &path.to_string_lossy(),
                        rank.as_str(),
                        class,
                        &probability,
                        "",
                    ])?;
                }
            }
            Answer::Failed { path, error } => {
                self.csv.write_record([&path.to_string_lossy(), "", "", "", error.as_str()])?;
            }
        }
        Ok(self.csv.flush()?)
    }

    /// Prints the end of the output. Returns whether all inputs have an answer.
    pub fn finish(mut self) -> Result<bool> {
        match self.format {
            Format::Json if self.answers == 0 => say!("[]")?,
            Format::Json => say!("\n]")?,
            Format::Csv => self.csv.flush()?,
            Format::Text if self.in_line.is_some() => note!("{}", self.totals()),
            Format::Text | Format::Jsonl => {}
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
        if self.failed > 0 {
            shares.push(format!("{} without an answer", self.failed));
        }
        format!("{} images: {}", self.answers, shares.join(", "))
    }
}

/// Returns the error in one line, with the path before it unless the error contains the path.
fn with_path(path: &Path, error: &str) -> String {
    let (path, error) = (shown_path(path).to_string(), escaped(error).to_string());
    if error.contains(&path) { error } else { format!("{path}: {error}") }
}
