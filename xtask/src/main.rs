//! `cargo xtask`: tasks for developers and users, which need nothing but cargo.
//!
//! A command of `alexnet` is a task too: `alexnet` is built in release mode with the [`features`]
//! that the command needs, and runs it. [`tasks`] runs cargo; [`libtorch`] downloads libtorch for
//! the engine `tch`; [`browser`] installs what the test of the server's page needs, [`mpi`] what
//! training on several processes needs.
#![forbid(unsafe_code)]

mod browser;
mod features;
mod libtorch;
mod mpi;
mod system;
mod tasks;

use std::{
    env,
    ffi::{OsStr, OsString},
    process::ExitCode,
};

use alexnet_libtorch::cache::Build;
use clap::{CommandFactory, Parser, Subcommand};

/// The commands of `alexnet`. They are listed here so that an unknown task is reported without
/// building `alexnet`.
const COMMANDS: [&str; 22] = [
    "train",
    "recipes",
    "runs",
    "lr-find",
    "evaluate",
    "predict",
    "explain",
    "features",
    "kernels",
    "neighbours",
    "neighbors",
    "serve",
    "data",
    "summary",
    "convert",
    "export",
    "doctor",
    "parity",
    "bench",
    "schema",
    "completions",
    "man",
];

const ENGINES: &str = "\
Engines: `cpu` and `candle` need no other software. For `--backend tch`, and for `test`, `lint` and `check`, libtorch is downloaded if \
it is missing. To use your own copy, set LIBTORCH to its folder (such as an unpacked official archive from pytorch.org), or set \
LIBTORCH_USE_PYTORCH to use that of Python's PyTorch. `cargo xtask doctor` shows which is used.";

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 80)]
#[command(
    override_usage = "cargo xtask TASK [ARGUMENTS]...",
    subcommand_help_heading = "Other tasks"
)]
#[command(disable_help_subcommand = true, about = about(), after_help = ENGINES)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Run all tests of the workspace; ARGUMENTS are passed to `cargo test`
    #[command(disable_help_flag = true)]
    Test(Forwarded),
    /// Check formatting, lints and documentation
    Lint,
    /// Run `lint` and `test`, which every change must pass
    Check,
    /// Run the benchmarks of all engines and write an HTML report; ARGUMENTS are passed to `cargo
    /// bench`
    #[command(disable_help_flag = true)]
    Criterion(Forwarded),
    /// Test every parser with mutated files, and runs with disk errors and kills; for options see
    /// `--help`
    #[command(disable_help_flag = true)]
    Torture(Forwarded),
    /// Download libtorch for the engine `tch` to your cache folder; with NVIDIA's libraries if
    /// `--cuda` is given
    ///
    /// It is extracted from PyTorch's packages for Python, which `python3 -m pip` downloads; no
    /// package is installed. If the cache has a complete copy, nothing is downloaded.
    ///
    /// To use another copy, unpack an official archive from pytorch.org and set LIBTORCH to its
    /// folder, or set LIBTORCH_USE_PYTORCH to use Python's PyTorch.
    Libtorch {
        /// Include NVIDIA's libraries; such a copy works on CPUs and GPUs (Linux)
        #[arg(long)]
        cuda: bool,
    },
    /// Install what the test of the server's page needs: Chromium, Node.js and packages for it
    ///
    /// Chromium and Node.js are installed with `apt-get` if they are missing, which needs root. To
    /// use another Chromium, set ALEXNET_CHROMIUM to its path. The packages for Node.js are
    /// installed in the target folder.
    Browser,
    /// Install what training on several processes needs: Open MPI and libclang
    ///
    /// They are installed with `apt-get` if they are missing, which needs root. Another MPI library
    /// with `mpicc` and `mpirun` works too. To use another compiler wrapper, set MPICC to its path;
    /// to use another libclang, set LIBCLANG_PATH to its folder.
    Mpi,
    /// Print this help, or the help of a task
    Help {
        /// The task
        #[arg(value_name = "TASK")]
        task: Option<OsString>,
    },
    #[command(external_subcommand)]
    Alexnet(Vec<OsString>),
}

/// Arguments for another program.
#[derive(clap::Args)]
struct Forwarded {
    /// Passed on without changes
    #[arg(id = FORWARDED, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

const FORWARDED: &str = "forwarded";

fn about() -> String {
    format!(
        "Tasks of this repository. Each command of `alexnet` is a task too: `alexnet` is built in release mode and runs the command with \
         ARGUMENTS (for help: `cargo xtask train --help`).\n\n  {}",
        COMMANDS.join(", ")
    )
}

/// Inserts `--` before arguments for another program, so that clap does not interpret them, not
/// even `--help` or another `--`.
fn escaped(mut typed: Vec<OsString>) -> Vec<OsString> {
    let cli = Cli::command();
    let task = typed.get(1).and_then(|name| cli.find_subcommand(name));
    if task.is_some_and(|task| task.get_arguments().any(|argument| argument.get_id() == FORWARDED))
    {
        typed.insert(2, "--".into());
    }
    typed
}

fn is_command(name: &OsStr) -> bool {
    COMMANDS.iter().any(|command| *command == name)
}

const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse_from(escaped(env::args_os().collect()));
    run(cli.task.unwrap_or(Task::Help { task: None })).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode, String> {
    match task {
        Task::Test(Forwarded { arguments }) => tasks::test(&arguments),
        Task::Lint => tasks::lint(),
        Task::Check => tasks::check(),
        Task::Criterion(Forwarded { arguments }) => tasks::criterion(&arguments),
        Task::Torture(Forwarded { arguments }) => tasks::torture(&arguments),
        Task::Libtorch { cuda } => fetch_libtorch(if cuda { Build::Cuda } else { Build::Cpu }),
        Task::Browser => {
            browser::install(&tasks::target())?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Mpi => {
            mpi::install()?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Help { task: None } => Ok(help(&mut Cli::command())),
        Task::Help { task: Some(task) } => help_of(&task),
        Task::Alexnet(arguments) => match arguments.split_first() {
            Some((command, arguments)) if is_command(command) => {
                tasks::command_line(command, arguments)
            }
            unknown => Ok(unknown_task(unknown.map_or(OsStr::new(""), |(name, _)| name))),
        },
    }
}

fn help(command: &mut clap::Command) -> ExitCode {
    // An error of stdout cannot be reported.
    let _ = command.print_long_help();
    ExitCode::SUCCESS
}

/// Prints the help of a task, or of a command of `alexnet`.
fn help_of(task: &OsStr) -> Result<ExitCode, String> {
    let mut cli = Cli::command();
    // Adds `cargo xtask` to the names of tasks in their help.
    cli.build();
    match cli.find_subcommand_mut(task) {
        Some(known) => Ok(help(known)),
        None if is_command(task) => tasks::command_line(task, &["--help".into()]),
        None => Ok(unknown_task(task)),
    }
}

fn unknown_task(name: &OsStr) -> ExitCode {
    eprintln!(
        "error: there is no task `{}`\n\n{}",
        name.display(),
        Cli::command().render_long_help()
    );
    ExitCode::from(USAGE)
}

fn fetch_libtorch(build: Build) -> Result<ExitCode, String> {
    libtorch::fetch(build)?;
    for name in ["LIBTORCH_USE_PYTORCH", "LIBTORCH"] {
        if libtorch::variable(name).is_some_and(|value| !value.is_empty()) {
            eprintln!("note: {name} is set and has precedence; unset it to use this copy");
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Task {
        let typed =
            ["xtask"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect();
        Cli::try_parse_from(escaped(typed)).unwrap().task.unwrap()
    }

    #[test]
    fn help_fits_80_columns() {
        Cli::command().debug_assert();
        let mut cli = Cli::command();
        cli.build();
        let tasks = cli.get_subcommands().cloned().collect::<Vec<_>>();
        for command in [vec![cli], tasks].concat() {
            for help in [command.clone().render_help(), command.term_width(80).render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{line}");
                }
            }
        }
    }

    #[test]
    fn arguments_of_other_programs_are_passed_on_unchanged() {
        for arguments in
            ["--help", "-- --nocapture", "-p a -- -- b", "--minutes -1 help", "--version -V", ""]
        {
            let expected: Vec<_> = arguments.split_whitespace().map(OsString::from).collect();
            for task in ["test", "torture", "criterion"] {
                match parse(&format!("{task} {arguments}")) {
                    Task::Test(found) | Task::Torture(found) | Task::Criterion(found) => {
                        assert_eq!(found.arguments, expected, "{task}");
                    }
                    _ => panic!("{task} {arguments}"),
                }
            }
            for command in COMMANDS {
                let Task::Alexnet(found) = parse(&format!("{command} {arguments}")) else {
                    panic!("{command} is a task of xtask")
                };
                assert_eq!((found[0].to_str(), &found[1..]), (Some(command), &expected[..]));
            }
        }
    }

    #[test]
    fn each_command_of_alexnet_is_a_task() {
        // Each command has one file or folder.
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/cli/src/commands");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            path.file_stem().unwrap().to_str().unwrap().replace('_', "-")
        };
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(name).collect();
        files.retain(|name| name != "mod");
        // Another spelling of `neighbours`.
        files.push("neighbors".into());
        files.sort();
        files.dedup();
        let mut commands = COMMANDS;
        commands.sort_unstable();
        assert_eq!(files, commands);
    }

    #[test]
    fn tasks_without_arguments_refuse_them() {
        for line in
            ["lint all", "check --fast", "libtorch --rocm", "libtorch cuda", "browser now", "mpi 4"]
        {
            let typed = ["xtask"].into_iter().chain(line.split_whitespace());
            assert!(Cli::try_parse_from(typed).is_err(), "{line}");
        }
        assert!(matches!(parse("libtorch --cuda"), Task::Libtorch { cuda: true }));
    }
}
