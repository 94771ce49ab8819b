//! The command line of AlexNet in Rust.
#![forbid(unsafe_code)]

mod commands;
mod dataset;
mod engine;
mod parse;
mod pictures;
mod run_folder;
mod stop;

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
    Summary(commands::summary::Args),
    Bench(commands::bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Summary(args) => commands::summary::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
