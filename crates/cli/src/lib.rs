//! The command line of AlexNet in Rust. Two binaries share it: `alexnet`, and `alexnet-tch`, which is linked with libtorch.
#![forbid(unsafe_code)]

#[macro_use]
mod output;

mod columns;
mod commands;
mod config;
mod console;
mod evaluation_figures;
mod figures;
mod options;
mod parse;
mod progress;
mod stop;
mod tch_program;
mod unused;
mod usage;

use std::{panic, process::ExitCode};

use alexnet::data::guard::is_guarded;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

const FIRST_STEPS: &str = "\
First steps:
  alexnet train               train on data/flower_photos, else on drawn flowers
  alexnet predict rose.jpg    ask the newest run what it sees
  alexnet help train          every option of a command";

#[derive(Parser)]
#[command(name = "alexnet", bin_name = "alexnet", version, about = "AlexNet, from the images to the answer", after_help = FIRST_STEPS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<commands::train::Args>),
    LrFind(Box<commands::lr_find::Args>),
    Recipes(commands::recipes::Args),
    Evaluate(commands::evaluate::Args),
    Predict(commands::predict::Args),
    #[command(subcommand)]
    Data(commands::data::Command),
    Summary(commands::summary::Args),
    Convert(commands::convert::Args),
    Export(commands::export::Args),
    Bench(commands::bench::Args),
    Doctor(commands::doctor::Args),
    Parity(commands::parity::Args),
}

/// What a shell calls the end of a command whose reader has left, 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 141;

impl Command {
    /// Where its options come from, if a file may hold them.
    fn source(&self) -> Option<&config::Source> {
        match self {
            Self::Train(args) => Some(&args.source),
            Self::LrFind(args) => Some(&args.source),
            Self::Parity(args) => Some(&args.source),
            Self::Data(commands::data::Command::Preview(args)) => Some(&args.source),
            _ => None,
        }
    }
}

/// The command without the guess that `-1` is an option: each value's own parser says what is wrong with it.
fn negative_numbers_are_values(command: clap::Command) -> clap::Command {
    let value = |arg: clap::Arg| match arg.get_action().takes_values() && !arg.is_positional() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    command.mut_args(value).mut_subcommands(negative_numbers_are_values)
}

/// What was found of the command itself.
fn innermost(mut found: &clap::ArgMatches) -> &clap::ArgMatches {
    while let Some((_, inner)) = found.subcommand() {
        found = inner;
    }
    found
}

/// The command line, with the options of a file that it names, and what was found of it before.
fn parse() -> anyhow::Result<(Cli, clap::ArgMatches)> {
    let typed: Vec<_> = std::env::args_os().collect();
    let program = negative_numbers_are_values(Cli::command());
    let found = program
        .clone()
        .try_get_matches_from(&typed)
        .unwrap_or_else(|error| output::usage(usage::with_tip(error, &program, &typed)));
    let cli = Cli::from_arg_matches(&found)?;
    let Some(source) = cli.command.source() else { return Ok((cli, found)) };
    let expanded = config::expand(&program, source, typed, &found)?;
    let expanded = program.try_get_matches_from(expanded).unwrap_or_else(|error| output::usage(error));
    for sentence in unused::unused(innermost(&found), innermost(&expanded)) {
        note!("note: {sentence}");
    }
    Ok((Cli::from_arg_matches(&expanded)?, found))
}

/// A panic in a decoder becomes an error that names the file; its own words would only be noise before that.
fn silence_guarded_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_guarded() {
            print(panic);
        }
    }));
}

/// Runs the command that the process's arguments name and returns its exit code: the `main` of both binaries.
pub fn main() -> ExitCode {
    silence_guarded_panics();
    match parse() {
        Ok((cli, found)) => run(cli).unwrap_or_else(|error| {
            failed(&error, |option| innermost(&found).try_contains_id(option).is_ok())
        }),
        Err(error) => failed(&error, |_| false),
    }
}

/// Says why a command failed; `takes` tells whether it has an option.
fn failed(error: &anyhow::Error, takes: impl Fn(&str) -> bool) -> ExitCode {
    if output::nobody_reads(error) {
        return ExitCode::from(BROKEN_PIPE);
    }
    note!("error: {}{}", output::explain(error), output::way_around(error, &takes));
    ExitCode::FAILURE
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match cli.command {
        Command::Train(args) => commands::train::run(&args),
        Command::LrFind(args) => commands::lr_find::run(&args),
        Command::Recipes(args) => commands::recipes::run(&args).map(done),
        Command::Evaluate(args) => commands::evaluate::run(&args).map(done),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Data(command) => commands::data::run(&command),
        Command::Summary(args) => commands::summary::run(&args).map(done),
        Command::Convert(args) => commands::convert::run(&args).map(done),
        Command::Export(args) => commands::export::run(&args).map(done),
        Command::Bench(args) => commands::bench::run(&args).map(done),
        Command::Parity(args) => commands::parity::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args).map(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::width;

    /// Each command with its path.
    fn commands() -> Vec<(String, clap::Command)> {
        fn below(path: &str, command: &clap::Command, all: &mut Vec<(String, clap::Command)>) {
            all.push((path.to_owned(), command.clone()));
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                below(&format!("{path} {}", inner.get_name()), inner, all);
            }
        }
        let mut program = Cli::command();
        program.build();
        let mut all = vec![];
        below("alexnet", &program, &mut all);
        all
    }

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        Cli::command().debug_assert();
        for (path, command) in commands() {
            for help in
                [command.clone().term_width(80).render_help(), command.term_width(80).render_long_help()]
            {
                for line in help.to_string().lines() {
                    assert!(width(line) <= 80, "{path}: {line}");
                }
            }
        }
    }

    #[test]
    fn every_option_says_what_it_takes_and_has_one_default() {
        for (path, command) in commands() {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let (name, help) = (arg.get_id().as_str(), arg.get_help().map(ToString::to_string));
                let help = help.unwrap_or_else(|| panic!("{path}: {name} has no help"));
                let values = arg.get_value_names().unwrap_or_default();
                let echo = name.to_uppercase();
                assert!(
                    !values.is_empty() && values.iter().all(|value| *value != echo.as_str()),
                    "{path}: {name}"
                );
                let defaults =
                    usize::from(!arg.get_default_values().is_empty()) + help.matches("[default").count();
                assert!(defaults <= 1, "{path}: {name}: {help}");
            }
        }
    }

    #[test]
    fn the_options_of_training_stand_in_groups() {
        for (path, command) in commands() {
            let headings = |name: &str| {
                command.get_arguments().filter(|arg| arg.get_help_heading() == Some(name)).count()
            };
            let groups = ["Data", "Model", "Optimisation", "Augmentation", "Run", "Engine"].map(headings);
            if path == "alexnet train" {
                let alone = |arg: &&clap::Arg| arg.get_help_heading().is_none() && arg.get_id() != "help";
                assert!(groups.iter().all(|options| *options > 2), "{groups:?}");
                assert_eq!(command.get_arguments().find(alone), None);
            }
            // A heading goes on until the next one, beyond the options that it is meant for.
            if path == "alexnet evaluate" {
                assert_eq!(groups, [0, 0, 0, 0, 0, 5], "{path}");
            }
        }
    }
}
