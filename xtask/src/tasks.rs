//! The tasks that run cargo.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use alexnet_libtorch::{Libtorch, Problem, Source, cache::Build, find};

use crate::{
    features::{self, Engine},
    libtorch,
};

/// Builds the command line in release, linked with libtorch only if the command needs it, and gives this process to it.
///
/// # Errors
/// When the engine asked for cannot be had.
pub fn command_line(command: &OsStr, arguments: &[OsString]) -> Result<ExitCode, String> {
    let engine = Engine::of(&words(arguments));
    let libtorch = if engine.is_tch() {
        // Without a GPU the command will say so; gigabytes would not help.
        let cuda = engine.is_on_cuda() && has_nvidia_gpu();
        Some(libtorch::ensure(if cuda { Build::Cuda } else { Build::Cpu })?)
    } else if features::is_about_all_engines(command) {
        libtorch_if_here()
    } else {
        None
    };
    let mut features = engine.gpu_features();
    features.extend(libtorch.as_ref().map(|_| "tch"));
    let program = if libtorch.is_some() { "alexnet-tch" } else { "alexnet" };
    tell_first_build(program, &features);
    let mut cargo = cargo(libtorch.as_ref());
    cargo.args(["run", "--quiet", "--release", "--package", "alexnet-cli", "--bin", program]);
    if !features.is_empty() {
        cargo.arg("--features").arg(features.join(","));
    }
    cargo.arg("--").arg(command).args(arguments);
    exec(cargo)
}

/// The arguments that are text, each in its place.
fn words(arguments: &[OsString]) -> Vec<&str> {
    arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).collect()
}

/// All tests, or those of the packages that `arguments` name.
///
/// # Errors
/// When they need libtorch and it cannot be had.
pub fn test(arguments: &[OsString]) -> Result<ExitCode, String> {
    let words = words(arguments);
    let libtorch = if features::tests_need_libtorch(&words) { Some(ensure_for_tests()?) } else { None };
    let mut cargo = cargo(libtorch.as_ref());
    cargo.args(features::tests(&words)).args(arguments);
    exec(cargo)
}

/// Formatting, lints and documentation; stops at the first that fails.
///
/// # Errors
/// When libtorch cannot be had.
pub fn lint() -> Result<ExitCode, String> {
    let libtorch = ensure_for_tests()?;
    let all = ["--workspace", "--features", features::ALL_WITH_TCH];
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
pub fn torture(arguments: &[OsString]) -> Result<ExitCode, String> {
    tell_first_build("alexnet", &[]);
    let mut cargo = cargo(None);
    cargo.args(["build", "--quiet", "--release"]);
    cargo.args([
        "--package",
        "alexnet-cli",
        "--bin",
        "alexnet",
        "--package",
        "alexnet-torture",
        "--bin",
        "torture",
    ]);
    let code = run(cargo)?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let built = |name: &str| target().join("release").join(name).with_extension(env::consts::EXE_EXTENSION);
    let mut torture = Command::new(built("torture"));
    torture.arg("--program").arg(built("alexnet")).args(arguments);
    exec(torture)
}

/// The benchmarks, on all engines that can be had; says where their report is.
///
/// # Errors
/// When cargo cannot be run.
pub fn criterion(arguments: &[OsString]) -> Result<ExitCode, String> {
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

/// The libtorch to link for those who use every engine that is here. One that is broken is no reason to stop.
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

fn ensure_for_tests() -> Result<Libtorch, String> {
    libtorch::ensure(Build::Cpu)
        .map_err(|error| format!("{error}\n(`cargo test` runs all tests that do without libtorch)"))
}

/// Says what takes long: cargo is told to be quiet, and a first build would look like a command that hangs.
fn tell_first_build(program: &str, features: &[&str]) {
    let release = target().join("release");
    let built = |package: &str| {
        let folders = fs::read_dir(release.join("build")).into_iter().flatten().flatten();
        folders.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with(package))
    };
    let mut new = Vec::new();
    if !release.join(program).with_extension(env::consts::EXE_EXTENSION).exists() {
        new.push(program);
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
fn exec(mut command: Command) -> Result<ExitCode, String> {
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    Err(not_run(&command, &error))
}

#[cfg(not(unix))]
fn exec(command: Command) -> Result<ExitCode, String> {
    run(command)
}
