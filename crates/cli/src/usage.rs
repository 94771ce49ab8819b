//! Additions to clap's message about wrong usage.

use std::ffi::OsString;

use alexnet::core::text::escaped;
use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Adds a tip that images are named with `--data` if a path was given without it, as in `train
/// images`.
pub fn with_tip(mut error: clap::Error, program: &Command, typed: &[OsString]) -> clap::Error {
    let mut command = program;
    for word in typed.iter().skip(1) {
        command = match command.find_subcommand(word) {
            Some(command) => command,
            None => break,
        };
    }
    let takes_images = command.get_arguments().any(|option| option.get_long() == Some("data"));
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(word)), true) =
        (error.kind(), error.get(ContextKind::InvalidArg), takes_images)
        && !word.starts_with('-')
    {
        let tip = format!("images are named with `--data`: `--data {}`", escaped(word));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}
