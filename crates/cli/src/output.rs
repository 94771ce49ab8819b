//! Output to the user: results to stdout with [`say!`], messages to stderr with [`note!`], and the
//! text of errors.
//!
//! The macros replace `println!` and `eprintln!`, which panic if the reader of a pipe has exited,
//! as in `alexnet … | head`. They also escape control characters, because file names and texts from
//! files are untrusted, and do not write into a drawn progress line.

use std::{
    fmt::Arguments,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use alexnet::{
    Error,
    core::{
        Error as CoreError, FileKind,
        text::{escape, escaped, is_control, shown_path},
    },
    data::Error as DataError,
};
use anyhow::{Context, Result, ensure};
use clap::{
    ValueEnum,
    error::{ContextKind, ContextValue},
};
use jiff::ZonedDateTime;

use crate::{console, progress::without_progress, ranks};

/// How a report is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// A table to read
    Text,
    /// JSON for other programs
    Json,
}

/// Prints a line of results to stdout: `say!(…)?`. Returns an error if it cannot be written.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::print_result(format_args!($($text)*)) };
}

/// Prints a message to stderr. If stderr is closed, the message is lost without an error.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::print_message(format_args!($($text)*)) };
}

/// The most characters of a message that are printed. A damaged file can cause a longer one.
const LONGEST: usize = 10_000;

/// Escapes all control characters but line feeds and tabs, so that no text can control the
/// terminal. Code that formats an untrusted text has to escape line feeds and tabs in it itself.
fn terminal_safe(text: String) -> String {
    const UNESCAPED: [char; 2] = ['\n', '\t'];
    if !text.contains(|character| is_control(character) && !UNESCAPED.contains(&character)) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    // Writing to a String cannot fail.
    let _ = escape(&mut out, &text, &UNESCAPED);
    out
}

/// Prints a JSON text to stdout without escaping: JSON has already escaped its control characters.
///
/// # Errors
/// If it cannot be written.
pub fn json(text: &str) -> Result<()> {
    log(text);
    writeln!(io::stdout(), "{text}").context("cannot write to standard output")
}

/// Escapes the parts of clap's message that come from the command line or from a file.
pub fn escaped_usage(mut error: clap::Error) -> clap::Error {
    let with_control_characters = |(kind, value): (ContextKind, &ContextValue)| match value {
        ContextValue::String(text) if text.contains(is_control) => {
            Some((kind, ContextValue::String(escaped(text).to_string())))
        }
        _ => None,
    };
    for (kind, value) in error.context().filter_map(with_control_characters).collect::<Vec<_>>() {
        error.insert(kind, value);
    }
    error
}

/// Prints clap's message (wrong usage, `--help` or `--version`) and exits with clap's exit code.
pub fn usage(error: clap::Error) -> ! {
    ranks::before_error();
    escaped_usage(error).exit()
}

/// The implementation of [`say!`].
///
/// # Errors
/// If it cannot be written.
pub fn print_result(line: Arguments) -> Result<()> {
    let line = terminal_safe(line.to_string());
    log(&line);
    without_progress(|| writeln!(io::stdout(), "{line}")).context("cannot write to standard output")
}

/// The implementation of [`note!`].
pub fn print_message(line: Arguments) {
    let mut line = terminal_safe(line.to_string());
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        let more = line.len() - end;
        line.truncate(end);
        line += &format!("… ({more} bytes more)");
    }
    log(&line);
    // An error of stderr cannot be reported anywhere.
    let _ = without_progress(|| writeln!(io::stderr(), "{line}"));
}

/// The file to which all output is also appended.
static LOG: Mutex<Option<(PathBuf, File)>> = Mutex::new(None);

/// Also appends all output of this process to a file from now on, with the time before each line.
///
/// # Errors
/// If the file cannot be opened, or is not a text file.
pub fn log_to(path: &Path) -> Result<()> {
    // A file that may only be appended to is not checked.
    if path.is_file()
        && let Ok(file) = File::open(path)
    {
        let mut start = Vec::new();
        file.take(1024).read_to_end(&mut start).map_err(CoreError::io("read", path))?;
        let is_text = !start.contains(&0);
        ensure!(is_text, "{} is not a text file; append to another file", shown_path(path));
    }
    let file = File::options().append(true).create(true).open(path);
    let file = file.map_err(CoreError::io("open", path))?;
    *LOG.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.to_owned(), file));
    Ok(())
}

/// Appends lines to the file of [`log_to`]. After an error, which is printed, nothing more is
/// appended.
fn log(lines: &str) {
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((path, file)) = &mut *log else { return };
    let now = ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
    let text: String = lines.lines().map(|line| format!("{now} {line}\n")).collect();
    if let Err(error) = file.write_all(text.as_bytes()) {
        let warning = format!("warning: {} was not written: {error}", shown_path(path));
        *log = None;
        drop(log);
        note!("{warning}");
    }
}

/// Prints that an image is left out, and why.
pub fn note_left_out(path: &Path, reason: &str) {
    note!("left out: {}: {}", shown_path(path), escaped(reason));
}

/// Returns whether the command failed because the reader of its output has exited. This is not
/// reported as an error.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken_pipe = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_broken_pipe))
}

/// Returns an error and its causes in one line. A cause whose text is already part of the line is
/// not repeated: some errors of the library print their cause themselves. A setting of the library
/// is named by its option.
pub fn explain(error: &anyhow::Error) -> String {
    let causes = error.chain().map(with_option_name).fold(String::new(), |text, cause| match text
        .as_str()
    {
        "" => cause,
        line if line.contains(&cause) => text,
        line => format!("{line}: {cause}"),
    });
    let next = find(error, |error: &CoreError| match error {
        CoreError::Changed { path, .. } => Some(format!(
            "; `convert {} OUT --ignore-checksum` writes a copy with a new checksum",
            shown_path(path)
        )),
        // A reason of several lines is a table of shapes, which needs no next step.
        CoreError::Format { reason, .. } if reason.contains('\n') => None,
        CoreError::Missing { expected, .. } | CoreError::Format { expected, .. } => {
            match expected {
                FileKind::Weights => {
                    Some("; train a network with `alexnet train`, or name another file".into())
                }
                FileKind::Checkpoint => Some("; start a new run, or resume another".into()),
                FileKind::ClassNames | FileKind::NeighborIndex | FileKind::Events => None,
            }
        }
        _ => None,
    });
    causes + &next.unwrap_or_default()
}

/// Returns the text of an error. If it names a setting of the library, the name is replaced by that
/// of the option.
fn with_option_name(error: &(dyn std::error::Error + 'static)) -> String {
    let text = error.to_string();
    let field = match core_error(error) {
        Some(CoreError::Invalid { field, .. }) => *field,
        _ => match data_error(error) {
            Some(DataError::Invalid { field, .. }) => *field,
            _ => return text,
        },
    };
    let option = match field {
        "frozen" | "module" => "`--freeze`".to_owned(),
        "path" => "the output file".to_owned(),
        "allowed_hosts" => "`--allow-host`".to_owned(),
        field => format!("`--{}`", field.replace('_', "-")),
    };
    text.replacen(field, &option, 1)
}

/// Returns the error of the crate `alexnet-core` that an error is or contains.
fn core_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CoreError> {
    match error.downcast_ref() {
        Some(
            Error::Core(error) | Error::StoppedByImage { error, .. } | Error::NoPlace { error },
        ) => Some(error),
        Some(Error::Data(DataError::Core(error))) => Some(error),
        _ => match error.downcast_ref() {
            Some(DataError::Core(error)) => Some(error),
            _ => error.downcast_ref(),
        },
    }
}

/// Returns the error of the crate `alexnet-data` that an error is or contains.
fn data_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a DataError> {
    match error.downcast_ref() {
        Some(Error::Data(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

/// Returns the first result of `of` among the core errors in the chain of causes.
fn find<T>(error: &anyhow::Error, of: impl Fn(&CoreError) -> Option<T>) -> Option<T> {
    error.chain().find_map(|cause| of(core_error(cause)?))
}

/// Returns whether the error is that of another rank.
pub fn is_of_other_rank(error: &anyhow::Error) -> bool {
    find(error, |error| matches!(error, CoreError::OtherRank(_)).then_some(())).is_some()
}

/// Returns the next step after an error, as the end of its sentence. `takes` returns whether the
/// command has the option with a given id.
pub fn next_step(error: &anyhow::Error, takes: &dyn Fn(&str) -> bool) -> String {
    let of_library = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let next = of_library.map(|error| console::next_step(error, takes)).unwrap_or_default();
    let is_image = |error: &CoreError| matches!(error, CoreError::Image(_)).then_some(());
    let none_validates = |cause| matches!(data_error(cause), Some(DataError::NoneValidates { .. }));
    if find(error, is_image).is_some() && takes("on_bad_image") {
        next + "; `--on-bad-image skip` leaves it out"
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
    fn a_cause_is_not_repeated() {
        let error: anyhow::Error = alexnet::core::Error::io("open", "a.jpg")(missing()).into();
        assert_eq!(explain(&error), "cannot open a.jpg: entity not found");
        let error = anyhow::Error::new(missing()).context("no answer");
        assert_eq!(explain(&error), "no answer: entity not found");
    }

    #[test]
    fn an_error_about_a_file_names_the_next_step() {
        let format = |expected, reason: &str| {
            explain(&CoreError::Format { path: "a".into(), expected, reason: reason.into() }.into())
        };
        let missing = CoreError::Missing { path: "a".into(), expected: FileKind::Weights }.into();
        for text in [explain(&missing), format(FileKind::Weights, "it is truncated")] {
            assert!(
                text.ends_with("; train a network with `alexnet train`, or name another file"),
                "{text}"
            );
        }
        assert!(
            format(FileKind::Checkpoint, "it is truncated")
                .ends_with("; start a new run, or resume another")
        );
        assert_eq!(
            format(FileKind::ClassNames, "it is truncated"),
            "a is not a file of class names: it is truncated"
        );
        assert_eq!(format(FileKind::Weights, "a\nb"), "a is not a weights file: a\nb");
    }

    #[test]
    fn the_next_step_is_an_option_that_the_command_has() {
        let error =
            CoreError::Image("a.jpg is not a readable image: it is truncated".into()).into();
        assert!(
            next_step(&error, &|id| id == "on_bad_image")
                .contains("; `--on-bad-image skip` leaves it")
        );
        assert_eq!(next_step(&error, &|_| false), "");
        let error = DataError::NoneValidates { path: "a".into(), fraction: 0.1 }.into();
        assert_eq!(
            next_step(&error, &|id| id == "val_fraction"),
            "; add images, or raise `--val-fraction`"
        );
        assert_eq!(next_step(&error, &|_| false), "; add images");
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = "a\tb\n雏菊".to_owned();
        assert_eq!(terminal_safe(text.clone()), text);
        assert_eq!(terminal_safe("\u{1b}[31m\r\u{202e}\n".into()), "\\u{1b}[31m\\r\\u{202e}\n");
    }

    #[test]
    fn a_broken_pipe_is_detected_among_the_causes() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::new(broken).context("cannot write")));
        assert!(!is_broken_pipe(&anyhow::Error::new(missing())));
    }
}
