//! `cargo xtask`: the tasks of a developer and of a user, with nothing to install first.
//!
//! Everything that is not a task of its own goes to the command line `alexnet`, built in release.
#![forbid(unsafe_code)]

use std::{
    env,
    process::{Command, ExitCode},
};

const HELP: &str = "\
Tasks of this repository. Usage: cargo xtask TASK …

  train, evaluate, predict, data, summary, bench …
             build the command line `alexnet` in release and run it (`cargo xtask train --help`)
  test       all tests of the workspace; ARGUMENTS go to `cargo test`
  check      what a change must pass: formatting, lints, documentation, tests
  criterion  the benchmarks; ARGUMENTS go to `cargo bench`
  help       this text
";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let task = arguments.next().unwrap_or_else(|| "help".into());
    let rest: Vec<String> = arguments.collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match task.as_str() {
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        "test" => become_cargo(&[&["test", "--workspace"], &rest[..]].concat()),
        "check" => check(),
        "criterion" => become_cargo(&[&["bench", "--package", "alexnet-benches"], &rest[..]].concat()),
        "train" | "evaluate" | "predict" | "data" | "summary" | "bench" => {
            let run: &[&str] = &["run", "--quiet", "--release", "--package", "alexnet-cli", "--"];
            let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/alexnet");
            if !std::path::Path::new(built).with_extension(env::consts::EXE_EXTENSION).exists() {
                eprintln!("building alexnet, which takes a few minutes the first time");
            }
            become_cargo(&[run, &[task.as_str()], &rest[..]].concat())
        }
        unknown => {
            eprintln!("error: there is no task `{unknown}`\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// What a change must pass; stops at the first that fails.
fn check() -> ExitCode {
    let steps: [&[&str]; 4] = [
        &["fmt", "--all", "--check"],
        &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"],
        &["doc", "--workspace", "--no-deps"],
        &["test", "--workspace"],
    ];
    for arguments in steps {
        eprintln!("cargo {}", arguments.join(" "));
        let mut command = cargo(arguments);
        command.env("RUSTDOCFLAGS", "-D warnings");
        let code = run(command);
        if code != ExitCode::SUCCESS {
            return code;
        }
    }
    ExitCode::SUCCESS
}

/// The cargo that runs us.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Runs cargo and hands its exit code on.
fn run(mut command: Command) -> ExitCode {
    match command.status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => failed_to_run(&error),
    }
}

/// Gives this process to cargo, so that Ctrl-C reaches the command alone and its exit code is ours.
#[cfg(unix)]
fn become_cargo(arguments: &[&str]) -> ExitCode {
    failed_to_run(&std::os::unix::process::CommandExt::exec(&mut cargo(arguments)))
}

#[cfg(not(unix))]
fn become_cargo(arguments: &[&str]) -> ExitCode {
    run(cargo(arguments))
}

fn failed_to_run(error: &std::io::Error) -> ExitCode {
    eprintln!("error: cannot run cargo: {error}");
    ExitCode::FAILURE
}
