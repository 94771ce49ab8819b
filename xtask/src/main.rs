//! `cargo xtask`: the tasks of a developer and of a user, with nothing to install first.
//!
//! Commands of the command line `alexnet` are handed on to it, built in release with the features they need ([`wishes`]).
//! [`tasks`] runs cargo, [`libtorch`] brings what the engine `tch` is linked with.
#![forbid(unsafe_code)]

mod libtorch;
mod tasks;
mod wishes;

use std::{env, process::ExitCode};

use alexnet_libtorch::cache::Build;

const HELP: &str = "\
Tasks of this repository. Usage: cargo xtask TASK …

  train, recipes, lr-find, evaluate, predict, data, summary, convert, export,
  doctor, parity, bench
             build the command line `alexnet` in release and run this command
             of it with all ARGUMENTS (`cargo xtask train --help`)
  criterion  the benchmarks of all engines, with a report in HTML; ARGUMENTS go
             to `cargo bench`
  libtorch   fetch libtorch, for the engine `tch`, to your cache folder;
             `--cuda`: with NVIDIA's libraries
  torture    mutated files for every parser, failing disks and kills;
             `--minutes N`, `--help`
  test       all tests of the workspace; ARGUMENTS go to `cargo test`
  lint       formatting, lints, documentation
  check      what a change must pass: `lint` and `test`
  help       this text

Engines: `cpu` and `candle` need nothing. For `--backend tch`, and for `test`,
`lint` and `check`, libtorch is fetched unless it is here; a copy of your own
is used if LIBTORCH names its folder (such as an official archive of
pytorch.org, unpacked), or that of Python's PyTorch if LIBTORCH_USE_PYTORCH is
set. `cargo xtask doctor` says what is found.
";

const LIBTORCH_HELP: &str = "\
Fetches libtorch, which the engine `tch` is linked with, to your cache folder.
Usage: cargo xtask libtorch [--cuda]

It is taken from PyTorch's packages for Python, by `python3 -m pip`; nothing is
installed. If it is there already and whole, nothing is done. With `--cuda` it
comes with NVIDIA's libraries, and then serves processors and GPUs (Linux).

To use another, unpack an official archive of pytorch.org and set LIBTORCH to
its folder, or set LIBTORCH_USE_PYTORCH to use the PyTorch that Python has.
";

const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (task, rest) = arguments.split_first().unwrap_or((&"help", &[]));
    let result = match (*task, rest) {
        ("help" | "-h" | "--help", _) => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        ("libtorch", _) => fetch_libtorch(rest),
        ("test", _) => tasks::test(rest),
        ("torture", _) => tasks::torture(rest),
        ("lint", _) => tasks::lint(),
        ("check", _) => tasks::check(),
        ("criterion", _) => tasks::criterion(rest),
        (
            "train" | "recipes" | "lr-find" | "evaluate" | "predict" | "data" | "summary" | "convert"
            | "export" | "doctor" | "parity" | "bench",
            _,
        ) => tasks::command_line(task, rest),
        (unknown, _) => {
            eprintln!("error: there is no task `{unknown}`\n\n{HELP}");
            Ok(ExitCode::from(USAGE))
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn fetch_libtorch(arguments: &[&str]) -> Result<ExitCode, String> {
    let build = match arguments {
        [] => Build::Cpu,
        ["--cuda"] => Build::Cuda,
        ["-h" | "--help"] => {
            print!("{LIBTORCH_HELP}");
            return Ok(ExitCode::SUCCESS);
        }
        _ => {
            eprintln!("error: `cargo xtask libtorch` takes `--cuda` or nothing\n\n{LIBTORCH_HELP}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    libtorch::fetch(build)?;
    for name in ["LIBTORCH_USE_PYTORCH", "LIBTORCH"] {
        if libtorch::variable(name).is_some_and(|value| !value.is_empty()) {
            eprintln!("but {name} is set and goes first; unset it to use this one");
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        for line in [HELP, LIBTORCH_HELP].into_iter().flat_map(str::lines) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
