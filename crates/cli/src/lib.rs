//! The command line of AlexNet in Rust. Two binaries use it: `alexnet`, and `alexnet-tch`, which is
//! linked with libtorch.
//!
//! [`main`] parses the arguments with clap. If a recipe or a file of options is named, its entries
//! are inserted before the typed arguments and the result is parsed again (module `config`). The
//! command then runs. Results go to stdout and messages to stderr (module `output`); notes and
//! errors of the library get the next step on the command line (module `console`).
#![forbid(unsafe_code)]

#[macro_use]
mod output;

mod columns;
mod commands;
mod config;
mod console;
mod evaluation_figures;
mod figures;
mod inputs;
mod options;
mod parse;
mod progress;
mod ranks;
mod run_options;
mod stop;
mod tch_program;
mod unused;
mod usage;
mod version;

use std::{panic, process::ExitCode};

use alexnet::data::guard::is_guarded;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

const FIRST_STEPS: &str = "\
First steps:
  alexnet train               train on data/flower_photos, else on drawn flowers
  alexnet predict rose.jpg    classify an image with the newest weights in runs/
  alexnet help train          show all options of a command";

#[derive(Parser)]
#[command(name = "alexnet", bin_name = "alexnet", about = "Train, evaluate and use AlexNet", after_help = FIRST_STEPS)]
#[command(version = version::short(), long_version = version::long())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<commands::train::Args>),
    LrFind(Box<commands::lr_find::Args>),
    Recipes(commands::recipes::Args),
    Runs(commands::runs::Args),
    Evaluate(commands::evaluate::Args),
    Predict(commands::predict::Args),
    Explain(commands::explain::Args),
    Features(commands::features::Args),
    Kernels(commands::kernels::Args),
    Serve(commands::serve::Args),
    #[command(visible_alias = "neighbors")]
    Neighbours(commands::neighbours::Args),
    #[command(subcommand)]
    Data(commands::data::Command),
    Summary(commands::summary::Args),
    Convert(commands::convert::Args),
    Export(commands::export::Args),
    Bench(commands::bench::Args),
    Doctor(commands::doctor::Args),
    Parity(commands::parity::Args),
    Schema(commands::schema::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

const FAILURE: u8 = 1;

/// The exit code of a Rust program that panicked.
const PANIC: u8 = 101;

/// The exit code that a shell reports for a process ended by SIGPIPE: 128 + 13.
const BROKEN_PIPE: u8 = 141;

impl Command {
    /// Returns `--recipe` and `--config` of a command that has these options.
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

/// Makes each option accept `-1` as a value, so that the value's own parser reports the error
/// instead of clap's "unexpected argument".
fn negative_numbers_are_values(command: clap::Command) -> clap::Command {
    let value = |arg: clap::Arg| match arg.get_action().takes_values() && !arg.is_positional() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    command.mut_args(value).mut_subcommands(negative_numbers_are_values)
}

/// Returns the matches of the innermost subcommand.
fn innermost(mut matches: &clap::ArgMatches) -> &clap::ArgMatches {
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    matches
}

/// Returns the innermost subcommand of `program` that was called. Its matches do not tell which
/// options it has: without debug assertions, clap does not check their ids.
fn innermost_command<'a>(
    program: &'a clap::Command,
    mut matches: &clap::ArgMatches,
) -> &'a clap::Command {
    let mut command = program;
    while let Some((name, inner)) = matches.subcommand()
        && let Some(subcommand) = command.find_subcommand(name)
    {
        (command, matches) = (subcommand, inner);
    }
    command
}

/// Parses the command line. Returns the command, with the options of its recipe or file, and the
/// matches of the typed arguments alone.
fn parse() -> anyhow::Result<(Cli, clap::ArgMatches)> {
    let typed: Vec<_> = std::env::args_os().collect();
    let program = negative_numbers_are_values(Cli::command());
    let matches = program
        .clone()
        .try_get_matches_from(&typed)
        .map_err(|error| usage::with_typed_conflicts(error, &typed))
        .unwrap_or_else(|error| output::usage(usage::with_tip(error, &program, &typed)));
    let cli = Cli::from_arg_matches(&matches)?;
    let Some(source) = cli.command.source() else { return Ok((cli, matches)) };
    let expanded = config::expand(&program, source, typed, &matches)?;
    let expanded =
        program.try_get_matches_from(expanded).unwrap_or_else(|error| output::usage(error));
    for sentence in unused::unused(innermost(&matches), innermost(&expanded)) {
        note!("note: {sentence}");
    }
    Ok((Cli::from_arg_matches(&expanded)?, matches))
}

/// Stops the panic hook from printing panics of image decoders: they are caught and reported as
/// errors that name the file. Another panic of one of several ranks ends all.
fn set_panic_hook() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_guarded() {
            print(panic);
            ranks::fail(PANIC);
        }
    }));
}

/// Parses the process's arguments, runs the command and returns its exit code. Both binaries call
/// it as their `main`.
pub fn main() -> ExitCode {
    set_panic_hook();
    match parse() {
        Ok((cli, matches)) => run_on_ranks(cli, &matches).unwrap_or_else(|error| {
            let program = Cli::command();
            let command = innermost_command(&program, &matches);
            report_failure(&error, |id| command.get_arguments().any(|option| option.get_id() == id))
        }),
        Err(error) => report_failure(&error, |_| false),
    }
}

/// Prints why a command failed and returns its exit code. `takes` returns whether the command has
/// the option with a given id.
fn report_failure(error: &anyhow::Error, takes: impl Fn(&str) -> bool) -> ExitCode {
    if output::is_broken_pipe(error) {
        return ExitCode::from(BROKEN_PIPE);
    }
    let rank = ranks::before_error();
    // Each rank prints its own errors.
    if rank.is_empty() || !output::is_of_other_rank(error) {
        note!("{rank}error: {}{}", output::explain(error), output::next_step(error, &takes));
    }
    ranks::fail(FAILURE);
    ExitCode::from(FAILURE)
}

/// Runs a command. Only `train` can run on several ranks.
fn run_on_ranks(cli: Cli, matches: &clap::ArgMatches) -> anyhow::Result<ExitCode> {
    if !matches!(cli.command, Command::Train(_)) {
        ranks::refuse(matches.subcommand_name().unwrap_or_default())?;
    }
    run(cli)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match cli.command {
        Command::Train(args) => commands::train::run(&args),
        Command::LrFind(args) => commands::lr_find::run(&args),
        Command::Recipes(args) => commands::recipes::run(&args).map(done),
        Command::Runs(args) => commands::runs::run(&args).map(done),
        Command::Evaluate(args) => commands::evaluate::run(&args).map(done),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Features(args) => commands::features::run(&args).map(done),
        Command::Kernels(args) => commands::kernels::run(&args).map(done),
        Command::Serve(args) => commands::serve::run(&args).map(done),
        Command::Neighbours(args) => commands::neighbours::run(&args).map(done),
        Command::Data(command) => commands::data::run(&command),
        Command::Summary(args) => commands::summary::run(&args).map(done),
        Command::Convert(args) => commands::convert::run(&args).map(done),
        Command::Export(args) => commands::export::run(&args).map(done),
        Command::Bench(args) => commands::bench::run(&args).map(done),
        Command::Parity(args) => commands::parity::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args).map(done),
        Command::Schema(_) => commands::schema::run().map(done),
        Command::Completions(args) => commands::completions::run(&args, Cli::command()).map(done),
        Command::Man(args) => commands::man::run(&args, Cli::command()).map(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::width;

    /// Returns each command with its path, such as `alexnet data check`.
    fn commands() -> Vec<(String, clap::Command)> {
        fn collect(path: &str, command: &clap::Command, all: &mut Vec<(String, clap::Command)>) {
            all.push((path.to_owned(), command.clone()));
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                collect(&format!("{path} {}", inner.get_name()), inner, all);
            }
        }
        let mut program = Cli::command();
        program.build();
        let mut all = vec![];
        collect("alexnet", &program, &mut all);
        all
    }

    #[test]
    fn help_fits_80_columns() {
        Cli::command().debug_assert();
        for (path, command) in commands() {
            for help in [
                command.clone().term_width(80).render_help(),
                command.term_width(80).render_long_help(),
            ] {
                for line in help.to_string().lines() {
                    assert!(width(line) <= 80, "{path}: {line}");
                }
            }
        }
    }

    #[test]
    fn each_option_has_help_a_value_name_and_at_most_one_default() {
        for (path, command) in commands() {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let (name, help) = (arg.get_id().as_str(), arg.get_help().map(ToString::to_string));
                let help = help.unwrap_or_else(|| panic!("{path}: {name} has no help"));
                let values = arg.get_value_names().unwrap_or_default();
                // clap's default value name, which says nothing about the value.
                let generated = name.to_uppercase();
                assert!(
                    !values.is_empty() && values.iter().all(|value| *value != generated.as_str()),
                    "{path}: {name}"
                );
                let defaults = usize::from(!arg.get_default_values().is_empty())
                    + help.matches("[default").count();
                assert!(defaults <= 1, "{path}: {name}: {help}");
            }
        }
    }

    /// The group of a structure that flattens others is empty, so its options are listed one by one.
    #[test]
    fn an_option_that_a_resumed_run_does_not_use_is_refused() {
        let train = Cli::command().find_subcommand("train").unwrap().clone();
        let resume = train.get_arguments().find(|arg| arg.get_id() == "resume").unwrap();
        let refused = train.get_arg_conflicts_with(resume);
        let options = options::TrainOptions::command();
        let accepted: Vec<&str> = options
            .get_arguments()
            .filter(|option| refused.iter().all(|other| other.get_id() != option.get_id()))
            .map(|option| option.get_id().as_str())
            .collect();
        let expected = [
            "data",
            "on_bad_image",
            "epochs",
            "patience",
            "backend",
            "device",
            "isa",
            "convolution",
            "precision",
            "workers",
            "checkpoint_every",
        ];
        assert_eq!(accepted, expected);
    }

    #[test]
    fn the_options_of_training_are_grouped() {
        for (path, command) in commands() {
            let headings = |name: &str| {
                command.get_arguments().filter(|arg| arg.get_help_heading() == Some(name)).count()
            };
            let groups =
                ["Data", "Model", "Optimization", "Augmentation", "Run", "Engine"].map(headings);
            if path == "alexnet train" {
                let ungrouped =
                    |arg: &&clap::Arg| arg.get_help_heading().is_none() && arg.get_id() != "help";
                assert!(groups.iter().all(|options| *options > 2), "{groups:?}");
                assert_eq!(command.get_arguments().find(ungrouped), None);
            }
            // In clap a heading applies to all options up to the next heading, also to those of the
            // command that flattens a group.
            if path == "alexnet evaluate" {
                assert_eq!(groups, [0, 0, 0, 0, 0, 6], "{path}");
            }
        }
    }
}
