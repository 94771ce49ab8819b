//! `cargo xtask`: the tasks of a developer and of a user, with nothing to install first.
//!
//! Commands of the command line `alexnet` are handed on to it, built in release with the [`features`] that they need. [`tasks`] runs
//! cargo, [`libtorch`] fetches what the engine `tch` is linked with.
#![forbid(unsafe_code)]

mod features;
mod libtorch;
mod tasks;

use std::{
    env,
    ffi::{OsStr, OsString},
    process::ExitCode,
};

use alexnet_libtorch::cache::Build;
use clap::{CommandFactory, Parser, Subcommand};

/// The commands of `alexnet`. A name that is missing here is no task, rather than a reason to build it.
const COMMANDS: [&str; 12] = [
    "train", "recipes", "lr-find", "evaluate", "predict", "data", "summary", "convert", "export", "doctor",
    "parity", "bench",
];

const ENGINES: &str = "\
Engines: `cpu` and `candle` need nothing. For `--backend tch`, and for `test`, `lint` and `check`, libtorch is fetched unless it is \
here; a copy of your own is used if LIBTORCH names its folder (such as an official archive of pytorch.org, unpacked), or that of \
Python's PyTorch if LIBTORCH_USE_PYTORCH is set. `cargo xtask doctor` says what is found.";

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 80)]
#[command(override_usage = "cargo xtask TASK [ARGUMENTS]...", subcommand_help_heading = "Other tasks")]
#[command(disable_help_subcommand = true, about = about(), after_help = ENGINES)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// All tests of the workspace; ARGUMENTS go to `cargo test`
    #[command(disable_help_flag = true)]
    Test(HandedOn),
    /// Formatting, lints, documentation
    Lint,
    /// What a change must pass: `lint` and `test`
    Check,
    /// The benchmarks of all engines, with a report in HTML; ARGUMENTS go to `cargo bench`
    #[command(disable_help_flag = true)]
    Criterion(HandedOn),
    /// Mutated files for every parser, failing disks and kills; `--minutes N`, `--help`
    #[command(disable_help_flag = true)]
    Torture(HandedOn),
    /// Fetch libtorch, for the engine `tch`, to your cache folder; `--cuda`: with NVIDIA's libraries
    ///
    /// It is taken from PyTorch's packages for Python, by `python3 -m pip`; nothing is installed. If it is there already and whole,
    /// nothing is done.
    ///
    /// To use another, unpack an official archive of pytorch.org and set LIBTORCH to its folder, or set LIBTORCH_USE_PYTORCH to use
    /// the PyTorch that Python has.
    Libtorch {
        /// With NVIDIA's libraries; such a copy serves processors and GPUs (Linux)
        #[arg(long)]
        cuda: bool,
    },
    /// This text, or the help of a task
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
struct HandedOn {
    /// Handed on as they are
    #[arg(id = HANDED_ON, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

const HANDED_ON: &str = "handed-on";

fn about() -> String {
    format!(
        "Tasks of this repository. Each command of `alexnet` is one: this program is built in release and runs the command with all \
         ARGUMENTS (`cargo xtask train --help`).\n\n  {}",
        COMMANDS.join(", ")
    )
}

/// What was typed, with a `--` before arguments that are for another program: clap then leaves them alone, `--help` and another
/// `--` among them.
fn escaped(mut typed: Vec<OsString>) -> Vec<OsString> {
    let cli = Cli::command();
    let task = typed.get(1).and_then(|name| cli.find_subcommand(name));
    if task.is_some_and(|task| task.get_arguments().any(|argument| argument.get_id() == HANDED_ON)) {
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
        Task::Test(HandedOn { arguments }) => tasks::test(&arguments),
        Task::Lint => tasks::lint(),
        Task::Check => tasks::check(),
        Task::Criterion(HandedOn { arguments }) => tasks::criterion(&arguments),
        Task::Torture(HandedOn { arguments }) => tasks::torture(&arguments),
        Task::Libtorch { cuda } => fetch_libtorch(if cuda { Build::Cuda } else { Build::Cpu }),
        Task::Help { task: None } => Ok(help(&mut Cli::command())),
        Task::Help { task: Some(task) } => help_of(&task),
        Task::Alexnet(words) => match words.split_first() {
            Some((command, arguments)) if is_command(command) => tasks::command_line(command, arguments),
            unknown => Ok(no_task(unknown.map_or(OsStr::new(""), |(name, _)| name))),
        },
    }
}

fn help(command: &mut clap::Command) -> ExitCode {
    // Without a terminal there is nobody to tell.
    let _ = command.print_long_help();
    ExitCode::SUCCESS
}

/// The help of a task, from whoever knows it.
fn help_of(task: &OsStr) -> Result<ExitCode, String> {
    let mut cli = Cli::command();
    // Names each task in full.
    cli.build();
    match cli.find_subcommand_mut(task) {
        Some(known) => Ok(help(known)),
        None if is_command(task) => tasks::command_line(task, &["--help".into()]),
        None => Ok(no_task(task)),
    }
}

fn no_task(name: &OsStr) -> ExitCode {
    eprintln!("error: there is no task `{}`\n\n{}", name.display(), Cli::command().render_long_help());
    ExitCode::from(USAGE)
}

fn fetch_libtorch(build: Build) -> Result<ExitCode, String> {
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

    fn parse(line: &str) -> Task {
        let typed = ["xtask"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect();
        Cli::try_parse_from(escaped(typed)).unwrap().task.unwrap()
    }

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
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
    fn arguments_of_other_programs_are_handed_on_untouched() {
        for arguments in ["--help", "-- --nocapture", "-p a -- -- b", "--minutes -1 help", "--version -V", ""]
        {
            let words: Vec<_> = arguments.split_whitespace().map(OsString::from).collect();
            for task in ["test", "torture", "criterion"] {
                match parse(&format!("{task} {arguments}")) {
                    Task::Test(found) | Task::Torture(found) | Task::Criterion(found) => {
                        assert_eq!(found.arguments, words, "{task}");
                    }
                    _ => panic!("{task} {arguments}"),
                }
            }
            for command in COMMANDS {
                let Task::Alexnet(found) = parse(&format!("{command} {arguments}")) else {
                    panic!("{command} is a task of xtask")
                };
                assert_eq!((found[0].to_str(), &found[1..]), (Some(command), &words[..]));
            }
        }
    }

    #[test]
    fn tasks_without_arguments_take_none() {
        for line in ["lint all", "check --fast", "libtorch --rocm", "libtorch cuda"] {
            let typed = ["xtask"].into_iter().chain(line.split_whitespace());
            assert!(Cli::try_parse_from(typed).is_err(), "{line}");
        }
        assert!(matches!(parse("libtorch --cuda"), Task::Libtorch { cuda: true }));
    }
}
