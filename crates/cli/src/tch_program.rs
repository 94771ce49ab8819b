//! The binary that is linked with libtorch, for a command that turns out to need the engine `tch`: its name stands in a file of
//! options, or in the run that goes on.

use std::{env, path::Path, process::Command};

use anyhow::{Context, Result};

const NAME: &str = "alexnet-tch";

/// Set for the program that is started: should it lack the engine too, it must not start itself again.
const STARTED: &str = "ALEXNET_TCH_STARTED";

/// Gives this process to `alexnet-tch` in the folder of this binary, with the same arguments. Returns if there is no such file, or
/// this process is what was started.
///
/// # Errors
/// When it is there and cannot be started.
pub fn exec_if_built() -> Result<()> {
    let program = env::current_exe()?.with_file_name(NAME).with_extension(env::consts::EXE_EXTENSION);
    if env::var_os(STARTED).is_some() || !program.is_file() {
        return Ok(());
    }
    exec(&program).with_context(|| format!("cannot start {}", program.display()))
}

#[cfg(unix)]
fn exec(program: &Path) -> Result<()> {
    Err(std::os::unix::process::CommandExt::exec(&mut again(program)).into())
}

#[cfg(not(unix))]
fn exec(program: &Path) -> Result<()> {
    std::process::exit(again(program).status()?.code().unwrap_or(1));
}

fn again(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1)).env(STARTED, "1");
    command
}
