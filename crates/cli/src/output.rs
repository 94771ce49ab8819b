//! Words to the user. `println!` and `eprintln!` panic when nobody reads any more, as after `alexnet … | head`; these do not.

use std::{
    fmt::Arguments,
    io::{self, Write},
    path::Path,
};

use alexnet::{
    Error,
    core::{
        Error as CoreError, FileKind,
        text::{escape, escaped, is_control, shown_path},
    },
    data::Error as DataError,
};
use anyhow::{Context, Result};
use clap::{
    ValueEnum,
    error::{ContextKind, ContextValue},
};

use crate::{console::next_step, progress::beside};

/// How a report is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// A table for people
    Text,
    /// JSON for programs
    Json,
}

/// A line of results, to stdout: `say!(…)?`.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::result(format_args!($($text)*)) };
}

/// A line about the work, to stderr. It is lost when nobody reads it.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::remark(format_args!($($text)*)) };
}

/// More characters of a remark are not printed: whatever they are, nobody reads them.
const LONGEST: usize = 10_000;

/// A text that cannot lead a terminal, whatever is in it. Line feeds and tabulators stay; where one would not be ours, whoever
/// formats the text escapes it.
fn harmless(text: String) -> String {
    const KEPT: [char; 2] = ['\n', '\t'];
    if !text.contains(|character| is_control(character) && !KEPT.contains(&character)) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    // A text takes whatever is written.
    let _ = escape(&mut out, &text, &KEPT);
    out
}

/// JSON and the like, byte for byte: it has its own way to escape.
///
/// # Errors
/// When it cannot be written.
pub fn json(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("cannot write to standard output")
}

/// A message about arguments in which what was typed, or stood in a file, is escaped.
pub fn escaped_usage(mut error: clap::Error) -> clap::Error {
    let foreign = |(kind, value): (ContextKind, &ContextValue)| match value {
        ContextValue::String(text) if text.contains(is_control) => {
            Some((kind, ContextValue::String(escaped(text).to_string())))
        }
        _ => None,
    };
    for (kind, value) in error.context().filter_map(foreign).collect::<Vec<_>>() {
        error.insert(kind, value);
    }
    error
}

/// Says what is wrong with the command line, or what was asked about it, and leaves.
pub fn usage(error: clap::Error) -> ! {
    escaped_usage(error).exit()
}

/// What [`say!`] does.
///
/// # Errors
/// When it cannot be written.
pub fn result(line: Arguments) -> Result<()> {
    let line = harmless(line.to_string());
    beside(|| writeln!(io::stdout(), "{line}")).context("cannot write to standard output")
}

/// What [`note!`] does.
pub fn remark(line: Arguments) {
    let mut line = harmless(line.to_string());
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        let more = line.len() - end;
        line.truncate(end);
        line += &format!("… ({more} bytes more)");
    }
    // There is no further place to complain to.
    let _ = beside(|| writeln!(io::stderr(), "{line}"));
}

/// Prints that an image is left out, and why.
pub fn note_left_out(path: &Path, reason: &str) {
    note!("left out: {}: {}", shown_path(path), escaped(reason));
}

/// Whether the reader of our output left, which is no fault of ours.
pub fn nobody_reads(error: &anyhow::Error) -> bool {
    let is_broken_pipe = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_broken_pipe))
}

/// The error and its causes in one line. Some of ours print their cause already; it is not said twice. A field of a library's
/// configuration is named as its option.
pub fn explain(error: &anyhow::Error) -> String {
    let causes = error.chain().map(in_own_terms).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        text if text.contains(&cause) => said,
        text => format!("{text}: {cause}"),
    });
    let next = find(error, |error: &CoreError| match error {
        CoreError::Changed { path, .. } => {
            Some(format!("; `convert {} OUT --ignore-checksum` writes it with a new one", shown_path(path)))
        }
        // A table stands for itself.
        CoreError::Format { reason, .. } if reason.contains('\n') => None,
        CoreError::Missing { expected, .. } | CoreError::Format { expected, .. } => match expected {
            FileKind::Weights => Some("; train a network with `alexnet train`, or name another file".into()),
            FileKind::Checkpoint => Some("; start the run anew, or resume another".into()),
            FileKind::ClassNames => None,
        },
        _ => None,
    });
    causes + &next.unwrap_or_default()
}

/// What an error says, with the option in place of the field that it names.
fn in_own_terms(error: &(dyn std::error::Error + 'static)) -> String {
    let said = error.to_string();
    let field = match core_error(error) {
        Some(CoreError::Invalid { field, .. }) => *field,
        _ => match data_error(error) {
            Some(DataError::Invalid { field, .. }) => *field,
            _ => return said,
        },
    };
    let option = match field {
        "frozen" | "module" => "`--freeze`".to_owned(),
        "path" => "the output file".to_owned(),
        field => format!("`--{}`", field.replace('_', "-")),
    };
    said.replacen(field, &option, 1)
}

fn core_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CoreError> {
    match error.downcast_ref() {
        Some(Error::Core(error) | Error::StoppedByImage { error, .. } | Error::NoPlace { error }) => {
            Some(error)
        }
        Some(Error::Data(DataError::Core(error))) => Some(error),
        _ => match error.downcast_ref() {
            Some(DataError::Core(error)) => Some(error),
            _ => error.downcast_ref(),
        },
    }
}

fn data_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a DataError> {
    match error.downcast_ref() {
        Some(Error::Data(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

fn find<T>(error: &anyhow::Error, of: impl Fn(&CoreError) -> Option<T>) -> Option<T> {
    error.chain().find_map(|cause| of(core_error(cause)?))
}

/// The next step after an error; `takes` says whether the command has an option, by its id.
pub fn way_around(error: &anyhow::Error, takes: &dyn Fn(&str) -> bool) -> String {
    let ours = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let next = ours.map(|error| next_step(error, takes)).unwrap_or_default();
    let is_image = |error: &CoreError| matches!(error, CoreError::Image(_)).then_some(());
    let none_validates = |cause| matches!(data_error(cause), Some(DataError::NoneValidates { .. }));
    if find(error, is_image).is_some() && takes("on_bad_image") {
        next + "; with `--on-bad-image skip` it would be left out"
    } else if error.chain().any(none_validates) {
        match takes("val_fraction") {
            true => "; add images, or raise `--val-fraction`".into(),
            false => "; add images".into(),
        }
    } else {
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> io::Error {
        io::ErrorKind::NotFound.into()
    }

    #[test]
    fn a_cause_is_said_once() {
        let error: anyhow::Error = alexnet::core::Error::io("open", "a.jpg")(missing()).into();
        assert_eq!(explain(&error), "cannot open a.jpg: entity not found");
        let error = anyhow::Error::new(missing()).context("no answer");
        assert_eq!(explain(&error), "no answer: entity not found");
    }

    #[test]
    fn a_file_of_no_use_comes_with_the_next_step() {
        let format = |expected, reason: &str| {
            explain(&CoreError::Format { path: "a".into(), expected, reason: reason.into() }.into())
        };
        let missing = CoreError::Missing { path: "a".into(), expected: FileKind::Weights }.into();
        for said in [explain(&missing), format(FileKind::Weights, "it is cut")] {
            assert!(said.ends_with("; train a network with `alexnet train`, or name another file"), "{said}");
        }
        assert!(
            format(FileKind::Checkpoint, "it is cut").ends_with("; start the run anew, or resume another")
        );
        assert_eq!(format(FileKind::ClassNames, "it is cut"), "a is not a file of class names: it is cut");
        assert_eq!(format(FileKind::Weights, "a\nb"), "a is not a weights file: a\nb");
    }

    #[test]
    fn the_way_around_a_bad_image_is_named() {
        let error = CoreError::Image("a.jpg is not a readable image: it is cut".into()).into();
        assert!(way_around(&error, &|id| id == "on_bad_image").contains("with `--on-bad-image skip` it"));
        assert_eq!(way_around(&error, &|_| false), "");
        let error = DataError::NoneValidates { path: "a".into(), fraction: 0.1 }.into();
        assert_eq!(way_around(&error, &|id| id == "val_fraction"), "; add images, or raise `--val-fraction`");
        assert_eq!(way_around(&error, &|_| false), "; add images");
    }

    #[test]
    fn nothing_leads_the_terminal() {
        let text = "a\tb\n雏菊".to_owned();
        assert_eq!(harmless(text.clone()), text);
        assert_eq!(harmless("\u{1b}[31m\r\u{202e}\n".into()), "\\u{1b}[31m\\r\\u{202e}\n");
    }

    #[test]
    fn a_broken_pipe_is_known_below_its_context() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(nobody_reads(&anyhow::Error::new(broken).context("cannot write")));
        assert!(!nobody_reads(&anyhow::Error::new(missing())));
    }
}
