//! How answers are printed.

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

/// How the answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Format {
    /// Lines for people
    Text,
    /// One list
    Json,
    /// One object a line
    Jsonl,
    /// path,rank,class,probability,error
    Csv,
}

/// What came of an input.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The most probable class, and as many as were asked for.
    Classes {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        class: String,
        probability: f64,
        top: Vec<Class>,
    },
    /// Why there is no answer.
    Failed {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        error: String,
    },
}

/// A path need not be text; JSON is.
fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// A class and its probability.
#[derive(Clone, Serialize)]
pub struct Class {
    pub class: String,
    pub probability: f64,
}

/// Prints answers as they come.
pub struct Printer {
    format: Format,
    /// Classes in a line for an image, where there are several images; without it each class has a line.
    in_line: Option<usize>,
    answers: usize,
    failed: usize,
    /// How often each class was the most probable.
    classes: BTreeMap<String, usize>,
    csv: csv::Writer<Stdout>,
}

/// Classes in the line of totals.
const TOTALS: usize = 10;

impl Printer {
    /// Begins.
    pub fn new(format: Format, in_line: Option<usize>) -> Result<Self> {
        let mut csv = csv::Writer::from_writer(stdout());
        if format == Format::Csv {
            csv.write_record(["path", "rank", "class", "probability", "error"])?;
        }
        Ok(Self { format, in_line, answers: 0, failed: 0, classes: BTreeMap::new(), csv })
    }

    /// Prints one.
    pub fn print(&mut self, answer: &Answer) -> Result<()> {
        self.answers += 1;
        match answer {
            Answer::Classes { class, .. } => *self.classes.entry(class.clone()).or_default() += 1,
            Answer::Failed { .. } => self.failed += 1,
        }
        match self.format {
            Format::Json => {
                let begin = if self.answers == 1 { "[\n" } else { ",\n" };
                write!(stdout(), "{begin}{}", serde_json::to_string(answer)?)?;
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
                let names: Vec<String> = top.iter().map(|class| escaped(&class.class).to_string()).collect();
                // The tutorial's column, unless a name is longer.
                let columns = names.iter().map(|name| width(name)).fold(10, usize::max);
                for (name, Class { probability, .. }) in names.iter().zip(top) {
                    say!("class: {}   prob: {probability:.3}", padded(name, columns))?;
                }
            }
            (Answer::Classes { path, top, .. }, Some(most)) => {
                let classes = top
                    .iter()
                    .take(most)
                    .map(|Class { class, probability }| format!("{} {probability:.3}", escaped(class)));
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

    /// Ends; whether all were answered.
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

    /// `5 images: 3 roses, 1 tulips; 1 has no answer`
    fn totals(&self) -> String {
        let mut classes: Vec<(&String, &usize)> = self.classes.iter().collect();
        classes.sort_by(|a, b| b.1.cmp(a.1));
        let mut shares: Vec<String> =
            classes.iter().take(TOTALS).map(|(class, count)| format!("{count} {}", escaped(class))).collect();
        if classes.len() > TOTALS {
            shares.push(format!("{} more classes", classes.len() - TOTALS));
        }
        if self.failed > 0 {
            shares.push(format!("{} without an answer", self.failed));
        }
        format!("{} images: {}", self.answers, shares.join(", "))
    }
}

/// The error in one line, with the path before it unless it names it itself.
fn with_path(path: &Path, error: &str) -> String {
    let (path, error) = (shown_path(path).to_string(), escaped(error).to_string());
    if error.contains(&path) { error } else { format!("{path}: {error}") }
}
