//! Additions to clap's message about wrong usage.

use std::ffi::OsString;

use alexnet::core::text::escaped;
use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Adds a tip if a path was given without its option, as in `train images` or `runs folder`.
pub fn with_tip(mut error: clap::Error, program: &Command, typed: &[OsString]) -> clap::Error {
    let mut command = program;
    for word in typed.iter().skip(1) {
        command = match command.find_subcommand(word) {
            Some(command) => command,
            None => break,
        };
    }
    let takes = |name| command.get_arguments().any(|option| option.get_long() == Some(name));
    let (place, what, option) = match error.kind() {
        ErrorKind::UnknownArgument if takes("data") => {
            (ContextKind::InvalidArg, "images are", "--data")
        }
        // A word that is like a subcommand has a tip already.
        ErrorKind::InvalidSubcommand
            if takes("folder") && error.get(ContextKind::SuggestedSubcommand).is_none() =>
        {
            (ContextKind::InvalidSubcommand, "the folder of the runs is", "--folder")
        }
        _ => return error,
    };
    if let Some(ContextValue::String(word)) = error.get(place)
        && !word.starts_with('-')
    {
        let tip = format!("{what} named with `{option}`: `{option} {}`", escaped(word));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}
