//! Additions to clap's message about wrong usage.

use std::ffi::OsString;

use alexnet::core::text::escaped;
use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Names only those options that were typed, if they cannot be used together: clap names all options
/// of their group.
pub fn with_typed_conflicts(mut error: clap::Error, typed: &[OsString]) -> clap::Error {
    if error.kind() == ErrorKind::ArgumentConflict
        && let Some(ContextValue::Strings(options)) = error.get(ContextKind::PriorArg)
    {
        // `--lr <RATE>` is typed as `--lr` or `--lr=1`.
        let is_typed = |option: &&String| {
            let option = option.split([' ', '=', '[']).next().unwrap_or_default();
            typed.iter().filter_map(|word| word.to_str()).any(|word| {
                word.strip_prefix(option).is_some_and(|end| end.is_empty() || end.starts_with('='))
            })
        };
        let options: Vec<String> = options.iter().filter(is_typed).cloned().collect();
        let named = match options.as_slice() {
            // They were typed by their short names.
            [] => return error,
            [option] => ContextValue::String(option.clone()),
            _ => ContextValue::Strings(options),
        };
        error.insert(ContextKind::PriorArg, named);
    }
    error
}

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
