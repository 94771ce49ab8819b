//! Replaces this process by `alexnet-tch`, the binary that is linked with libtorch, when a command
//! needs the engine `tch`.
//!
//! The binary `alexnet` is built without libtorch, because loading libtorch takes 0.2 s. Which
//! engine a command needs is known only after its options are read: `--backend tch` can be typed,
//! be in a file of options, or be a setting of the run that is resumed. [`exec_if_built`] then
//! starts `alexnet-tch` from the same folder with the same arguments.

use std::{env, path::Path, process::Command};

use anyhow::{Context, Result};

const NAME: &str = "alexnet-tch";

/// An environment variable, set for the started program. If that program lacks the engine too, it
/// must not start itself again.
const STARTED: &str = "ALEXNET_TCH_STARTED";

/// Replaces this process by `alexnet-tch` from the folder of this binary, with the same arguments.
/// Returns without doing so if that file does not exist, or if this process was itself started by
/// this function.
///
/// # Errors
/// If the file exists but cannot be started.
pub fn exec_if_built() -> Result<()> {
    let program =
        env::current_exe()?.with_file_name(NAME).with_extension(env::consts::EXE_EXTENSION);
    if env::var_os(STARTED).is_some() || !program.is_file() {
        return Ok(());
    }
    exec(&program).with_context(|| format!("cannot start {}", program.display()))
}

#[cfg(unix)]
fn exec(program: &Path) -> Result<()> {
    Err(std::os::unix::process::CommandExt::exec(&mut with_same_arguments(program)).into())
}

#[cfg(not(unix))]
fn exec(program: &Path) -> Result<()> {
    std::process::exit(with_same_arguments(program).status()?.code().unwrap_or(1));
}

fn with_same_arguments(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1)).env(STARTED, "1");
    command
}
