//! The tasks that run cargo.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use alexnet_libtorch::{Libtorch, Problem, Source, cache::Build, find};

use crate::{libtorch, wishes};

/// Builds the command line in release, with the engines that can be had, and gives this process to it.
///
/// # Errors
/// When the engine asked for cannot be had.
pub fn command_line(task: &str, arguments: &[&str]) -> Result<ExitCode, String> {
    let libtorch = if wishes::tch(arguments) {
        // Without a GPU the command will say so; gigabytes would not help.
        let cuda = wishes::cuda(arguments) && has_nvidia_gpu();
        Some(libtorch::bring(if cuda { Build::Cuda } else { Build::Cpu })?)
    } else {
        libtorch_if_here()
    };
    let features = wishes::features(arguments, libtorch.is_some());
    tell_first_build(&features);
    let mut cargo = cargo(libtorch.as_ref());
    cargo.args(["run", "--quiet", "--release", "--package", "alexnet-cli"]);
    if !features.is_empty() {
        cargo.arg("--features").arg(features.join(","));
    }
    cargo.args(["--", task]).args(arguments);
    become_it(cargo)
}

/// All tests, or those of the packages that `arguments` name.
///
/// # Errors
/// When they need libtorch and it cannot be had.
pub fn test(arguments: &[&str]) -> Result<ExitCode, String> {
    let libtorch = if wishes::tests_need_libtorch(arguments) { Some(bring_for_tests()?) } else { None };
    let mut cargo = cargo(libtorch.as_ref());
    cargo.args(wishes::tests(arguments)).args(arguments);
    become_it(cargo)
}

/// Formatting, lints and documentation; stops at the first that fails.
///
/// # Errors
/// When libtorch cannot be had.
pub fn lint() -> Result<ExitCode, String> {
    let libtorch = bring_for_tests()?;
    let all = ["--workspace", "--features", wishes::ALL_WITH_TCH];
    let steps: [&[&str]; 3] = [
        &["fmt", "--all", "--check"],
        &[&["clippy"], &all[..], &["--all-targets", "--", "--deny", "warnings"]].concat(),
        &[&["doc"], &all[..], &["--no-deps"]].concat(),
    ];
    for arguments in steps {
        eprintln!("cargo {}", arguments.join(" "));
        let mut cargo = cargo(Some(&libtorch));
        cargo.args(arguments).env("RUSTDOCFLAGS", "-D warnings");
        let code = run(cargo)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a change must pass.
///
/// # Errors
/// When libtorch cannot be had.
pub fn check() -> Result<ExitCode, String> {
    match lint()? {
        code if code != ExitCode::SUCCESS => Ok(code),
        _ => test(&[]),
    }
}

/// Mutated files for every parser, failing disks and kills, in release.
///
/// # Errors
/// When cargo cannot be run.
pub fn torture(arguments: &[&str]) -> Result<ExitCode, String> {
    let libtorch = libtorch_if_here();
    // As for other tasks, so that nothing is built twice.
    let features = wishes::features(&[], libtorch.is_some());
    tell_first_build(&features);
    let mut cargo = cargo(libtorch.as_ref());
    cargo.args(["build", "--quiet", "--release", "--package", "alexnet-cli", "--package", "alexnet-torture"]);
    for feature in features {
        cargo.arg("--features").arg(format!("alexnet-cli/{feature}"));
    }
    let code = run(cargo)?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let built = |name: &str| target().join("release").join(name).with_extension(env::consts::EXE_EXTENSION);
    let mut torture = Command::new(built("torture"));
    torture.arg("--program").arg(built("alexnet")).args(arguments);
    become_it(torture)
}

/// The benchmarks, on all engines that can be had; says where their report is.
///
/// # Errors
/// When cargo cannot be run.
pub fn criterion(arguments: &[&str]) -> Result<ExitCode, String> {
    let libtorch = libtorch_if_here();
    let mut cargo = cargo(libtorch.as_ref());
    cargo.args(["bench", "--package", "alexnet-benches"]);
    if libtorch.is_some() {
        cargo.args(["--features", "alexnet-benches/tch"]);
    }
    eprintln!("building the benchmarks, which takes a few minutes the first time");
    cargo.args(arguments);
    let code = run(cargo)?;
    let report = target().join("criterion").join("report").join("index.html");
    if code == ExitCode::SUCCESS && report.exists() {
        eprintln!("the report is {}", report.display());
    }
    Ok(code)
}

/// The libtorch to link although nobody asks for it. One that is broken is no reason to stop.
fn libtorch_if_here() -> Option<Libtorch> {
    match find(&libtorch::variable) {
        Ok(found) => Some(found),
        Err(Problem::NotFound { .. }) => None,
        Err(problem) => {
            eprintln!("building without the engine `tch`: {problem}");
            None
        }
    }
}

/// NVIDIA's driver comes with this program.
fn has_nvidia_gpu() -> bool {
    Command::new("nvidia-smi").arg("--list-gpus").output().is_ok_and(|output| output.status.success())
}

fn bring_for_tests() -> Result<Libtorch, String> {
    libtorch::bring(Build::Cpu)
        .map_err(|error| format!("{error}\n(`cargo test` runs all tests that do without libtorch)"))
}

/// Says what takes long: cargo is told to be quiet, and a first build would look like a command that hangs.
fn tell_first_build(features: &[&str]) {
    let release = target().join("release");
    let built = |package: &str| {
        let folders = fs::read_dir(release.join("build")).into_iter().flatten().flatten();
        folders.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with(package))
    };
    let mut new = Vec::new();
    if !release.join("alexnet").with_extension(env::consts::EXE_EXTENSION).exists() {
        new.push("alexnet");
    }
    if features.contains(&"tch") && !built("torch-sys-") {
        new.push("the engine `tch`");
    }
    if features.contains(&"cuda") && !built("candle-kernels-") {
        new.push("candle's kernels for NVIDIA GPUs (with nvcc, which has to be installed)");
    }
    if !new.is_empty() {
        eprintln!("building {}, which takes a few minutes the first time", new.join(" and "));
    }
}

/// The folder that cargo builds to: ours is `TARGET/debug/xtask`.
fn target() -> PathBuf {
    let own = env::current_exe().unwrap_or_default();
    own.ancestors().nth(2).unwrap_or(Path::new("target")).to_owned()
}

/// The cargo that runs us, told where libtorch is. The path is always the same for the same libtorch: torch-sys compiles
/// again when it changes.
fn cargo(libtorch: Option<&Libtorch>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if let Some(libtorch) = libtorch {
        command.env("LIBTORCH", &libtorch.folder);
        if let Source::Cache(_) = libtorch.source {
            // Those would replace half of it.
            command.env_remove("LIBTORCH_INCLUDE").env_remove("LIBTORCH_LIB");
        }
    }
    command
}

/// Runs a program and hands its exit code on.
fn run(mut command: Command) -> Result<ExitCode, String> {
    let status = command.status().map_err(|error| not_run(&command, &error))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn not_run(command: &Command, error: &std::io::Error) -> String {
    format!("cannot run {}: {error}", command.get_program().display())
}

/// Gives this process to a program, so that Ctrl-C reaches the command alone and its exit code is ours.
#[cfg(unix)]
fn become_it(mut command: Command) -> Result<ExitCode, String> {
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    Err(not_run(&command, &error))
}

#[cfg(not(unix))]
fn become_it(command: Command) -> Result<ExitCode, String> {
    run(command)
}
