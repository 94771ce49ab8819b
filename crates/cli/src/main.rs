//! The command line of AlexNet in Rust.
#![forbid(unsafe_code)]

#[macro_use]
mod output;

mod classes;
mod commands;
mod config;
mod dataset;
mod engine;
mod exif;
mod parse;
mod pictures;
mod progress;
mod recipe;
mod report;
mod run_folder;
mod saved;
mod split_for;
mod start;
mod stop;
mod trained;
mod usage;

use std::{panic, process::ExitCode};

use alexnet_data::guard::is_guarded;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

const FIRST_STEPS: &str = "\
First steps:
  alexnet train               train on the photos in data/flower_photos, else on drawn flowers
  alexnet predict rose.jpg    ask the newest run what it sees
  alexnet help train          every option of a command";

#[derive(Parser)]
#[command(name = "alexnet", version, about = "AlexNet, from the photos to the answer", after_help = FIRST_STEPS)]
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

/// The command line, with the options of a file that it names.
fn parse() -> anyhow::Result<Cli> {
    let typed: Vec<_> = std::env::args_os().collect();
    let program = Cli::command();
    let found = program
        .clone()
        .try_get_matches_from(&typed)
        .unwrap_or_else(|error| output::usage(usage::with_tip(error, &program, &typed)));
    let cli = Cli::from_arg_matches(&found)?;
    let Some(source) = cli.command.source() else { return Ok(cli) };
    let expanded = config::expand(&program, source, typed, &found)?;
    Ok(Cli::try_parse_from(expanded).unwrap_or_else(|error| output::usage(error)))
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

fn main() -> ExitCode {
    silence_guarded_panics();
    parse().and_then(run).unwrap_or_else(|error| {
        if output::nobody_reads(&error) {
            return ExitCode::from(BROKEN_PIPE);
        }
        note!("error: {}", output::explain(&error));
        ExitCode::FAILURE
    })
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
