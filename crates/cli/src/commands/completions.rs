//! `alexnet completions`: prints a script that completes commands and options in a shell.

use std::io::{Write, stdout};

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::{Shell, generate};

/// Print a script that completes commands and options in a shell
///
/// For bash: alexnet completions bash > ~/.local/share/bash-completion/completions/alexnet
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_name = "NAME", value_enum)]
    shell: Shell,
}

/// Runs the command. `program` has all commands and options.
///
/// # Errors
/// If the output cannot be written.
pub fn run(args: &Args, mut program: Command) -> Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut program, "alexnet", &mut script);
    stdout().write_all(&script).context("cannot write to standard output")
}
