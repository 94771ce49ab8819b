//! The command line of AlexNet in Rust.
#![forbid(unsafe_code)]

mod commands;
mod dataset;
mod engine;
mod parse;
mod pictures;
mod progress;
mod run_folder;
mod stop;
mod trained;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "alexnet", version, about = "AlexNet, from the photos to the answer")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(commands::train::Args),
    Evaluate(commands::evaluate::Args),
    Predict(commands::predict::Args),
    #[command(subcommand)]
    Data(commands::data::Command),
    Summary(commands::summary::Args),
    Bench(commands::bench::Args),
}

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Cli::parse().command {
        Command::Train(args) => commands::train::run(&args),
        Command::Evaluate(args) => commands::evaluate::run(&args).map(done),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Data(command) => commands::data::run(&command).map(done),
        Command::Summary(args) => commands::summary::run(&args).map(done),
        Command::Bench(args) => commands::bench::run(&args).map(done),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
