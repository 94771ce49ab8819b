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
    libtorch, mpi,
};

/// Builds `alexnet` in release mode, linked with libtorch and MPI only if the command needs them,
/// and replaces this process by it.
///
/// # Errors
/// If MPI is needed but missing, libtorch is needed but cannot be found or downloaded, or cargo
/// cannot be run.
pub fn command_line(command: &OsStr, arguments: &[OsString]) -> Result<ExitCode, String> {
    let texts = texts(arguments);
    let has_mpi = if features::starts_ranks(&texts) {
        mpi::find().map_err(|problem| format!("`--ranks` needs MPI; {problem}"))?;
        true
    } else {
        features::reports_mpi(command) && mpi::find().is_ok()
    };
    let engine = Engine::of(&texts);
    let libtorch = if engine.is_tch() {
        // Without a GPU the command reports an error, and the large download for GPUs is not
        // needed.
        let cuda = engine.is_on_cuda() && has_nvidia_gpu();
        Some(libtorch::ensure(if cuda { Build::Cuda } else { Build::Cpu })?)
    } else if features::uses_all_engines(command) {
        libtorch_if_available()
    } else {
        None
    };
    let mut features = engine.gpu_features();
    features.extend(libtorch.as_ref().map(|_| "tch"));
    features.extend(has_mpi.then_some("mpi"));
    let program = if libtorch.is_some() { "alexnet-tch" } else { "alexnet" };
    note_first_build(program, &features);
    let mut cargo = cargo(libtorch.as_ref());
    cargo.args(["run", "--quiet", "--release", "--package", "alexnet-cli", "--bin", program]);
    if !features.is_empty() {
        cargo.arg("--features").arg(features.join(","));
    }
    cargo.arg("--").arg(command).args(arguments);
    exec(cargo)
}

/// Returns the arguments as text. An argument that is not UTF-8 becomes an empty text.
fn texts(arguments: &[OsString]) -> Vec<&str> {
    arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).collect()
}

/// Runs all tests, or those of the packages that `arguments` name.
///
/// # Errors
/// If libtorch is needed but cannot be found or downloaded, MPI is required but missing, or cargo
/// cannot be run.
pub fn test(arguments: &[OsString]) -> Result<ExitCode, String> {
    let texts = texts(arguments);
    let has_mpi = features::tests_use_mpi(&texts)
        && mpi::is_usable_in_tests(features::tests_need_mpi(&texts))?;
    let libtorch =
        if features::tests_need_libtorch(&texts) { Some(ensure_for_tests()?) } else { None };
    let mut cargo = cargo(libtorch.as_ref());
    cargo.args(features::tests(&texts, has_mpi)).args(arguments);
    exec(cargo)
}

/// Checks formatting, lints and documentation. Stops at the first that fails.
///
/// # Errors
/// If libtorch cannot be found or downloaded, MPI is required but missing, or cargo cannot be run.
pub fn lint() -> Result<ExitCode, String> {
    let has_mpi = mpi::is_usable_in_tests(false)?;
    let libtorch = ensure_for_tests()?;
    let all = features::all_packages(has_mpi);
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

/// Runs [`lint`] and [`test()`].
///
/// # Errors
/// Those of [`lint`] and [`test()`].
pub fn check() -> Result<ExitCode, String> {
    match lint()? {
        code if code != ExitCode::SUCCESS => Ok(code),
        _ => test(&[]),
    }
}

/// Tests every parser with mutated files, and runs with disk errors and kills, in release mode.
///
/// # Errors
/// If cargo cannot be run.
pub fn torture(arguments: &[OsString]) -> Result<ExitCode, String> {
    note_first_build("alexnet", &[]);
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
    let built =
        |name: &str| target().join("release").join(name).with_extension(env::consts::EXE_EXTENSION);
    let mut torture = Command::new(built("torture"));
    torture.arg("--program").arg(built("alexnet")).args(arguments);
    exec(torture)
}

/// Runs the benchmarks on all available engines and prints the path of the report.
///
/// # Errors
/// If cargo cannot be run.
pub fn criterion(arguments: &[OsString]) -> Result<ExitCode, String> {
    let libtorch = libtorch_if_available();
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
        eprintln!("the report is in {}", report.display());
    }
    Ok(code)
}

/// Returns the available libtorch, for tasks that use all available engines. If it is broken,
/// prints why and returns `None`.
fn libtorch_if_available() -> Option<Libtorch> {
    match find(&libtorch::variable) {
        Ok(found) => Some(found),
        Err(Problem::NotFound { .. }) => None,
        Err(problem) => {
            eprintln!("building without the engine `tch`: {problem}");
            None
        }
    }
}

/// Returns whether there is an NVIDIA GPU, by running `nvidia-smi`, which is part of the driver.
fn has_nvidia_gpu() -> bool {
    Command::new("nvidia-smi")
        .arg("--list-gpus")
        .output()
        .is_ok_and(|output| output.status.success())
}

fn ensure_for_tests() -> Result<Libtorch, String> {
    libtorch::ensure(Build::Cpu).map_err(|error| {
        format!("{error}\n(`cargo test` runs all tests that do not need libtorch)")
    })
}

/// Prints what is built for the first time. Cargo runs with `--quiet`, so without this message a
/// long build would look like a hang.
fn note_first_build(program: &str, features: &[&str]) {
    let release = target().join("release");
    let built = |package: &str| {
        let folders = fs::read_dir(release.join("build")).into_iter().flatten().flatten();
        folders
            .map(|entry| entry.file_name())
            .any(|name| name.to_string_lossy().starts_with(package))
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
    if features.contains(&"mpi") && !built("mpi-sys-") {
        new.push("the bindings to MPI");
    }
    if let Some((last, others)) = new.split_last() {
        let and = if others.is_empty() { "" } else { " and " };
        let others = others.join(", ");
        eprintln!("building {others}{and}{last}, which takes a few minutes the first time");
    }
}

/// Returns cargo's target folder. The path of this program is `TARGET/debug/xtask`.
pub fn target() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    program.ancestors().nth(2).unwrap_or(Path::new("target")).to_owned()
}

/// Returns a command for the cargo that runs this program, with LIBTORCH set to the folder of
/// libtorch. The path must be the same each time, because torch-sys is recompiled when it changes.
fn cargo(libtorch: Option<&Libtorch>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if let Some(libtorch) = libtorch {
        command.env("LIBTORCH", &libtorch.folder);
        if let Source::Cache(_) = libtorch.source {
            // These variables would replace parts of the cached copy.
            command.env_remove("LIBTORCH_INCLUDE").env_remove("LIBTORCH_LIB");
        }
    }
    command
}

/// Runs a program and returns its exit code.
fn run(mut command: Command) -> Result<ExitCode, String> {
    let status = command.status().map_err(|error| cannot_run(&command, &error))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn cannot_run(command: &Command, error: &std::io::Error) -> String {
    format!("cannot run {}: {error}", command.get_program().display())
}

/// Replaces this process by a program, so that only the program receives Ctrl-C, and its exit code
/// is that of this process.
#[cfg(unix)]
fn exec(mut command: Command) -> Result<ExitCode, String> {
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    Err(cannot_run(&command, &error))
}

#[cfg(not(unix))]
fn exec(command: Command) -> Result<ExitCode, String> {
    run(command)
}
