//! Starts `mpirun` for `--ranks`.

use std::{
    env, io,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};

use crate::stop::Stop;

/// Settings of Open MPI, as environment variables, which other launchers ignore.
const SETTINGS: [(&str, &str); 7] = [
    // The processes report their errors.
    ("OMPI_MCA_orte_execute_quiet", "1"),
    // More processes than cores are slow, but allowed.
    ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
    // Each process has several threads. By default each would run on one core.
    ("OMPI_MCA_hwloc_base_binding_policy", "none"),
    // A waiting process yields its core to those that compute.
    ("OMPI_MCA_mpi_yield_when_idle", "1"),
    // Containers often forbid to read the memory of another process.
    ("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),
    // Containers often run as root, which `mpirun` refuses without these two.
    ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
    ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
];

/// How often the end of `mpirun` and signals are looked for.
const INTERVAL: Duration = Duration::from_millis(50);

/// Starts this command on `ranks` processes of this machine and returns their exit code, or that for
/// the signal that has stopped them.
///
/// # Errors
/// If `mpirun` cannot be started.
pub fn launch(ranks: u16) -> Result<ExitCode> {
    let stop = Stop::default();
    stop.listen_to_all()?;
    let mut mpirun = Command::new("mpirun");
    mpirun
        .args(["-n", &ranks.to_string()])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .envs(SETTINGS)
        .stdin(Stdio::null());
    // `mpirun` ends its processes at once when it receives Ctrl-C from the terminal.
    std::os::unix::process::CommandExt::process_group(&mut mpirun, 0);
    let mut mpirun = mpirun.spawn().map_err(not_started)?;
    wait(&mut mpirun, &stop)
}

fn not_started(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => anyhow!(
            "cannot start mpirun: it is not in PATH; install an MPI library, on Debian with `apt-get install openmpi-bin`"
        ),
        _ => anyhow::Error::new(error).context("cannot start mpirun"),
    }
}

/// Waits for `mpirun`. The first signal is sent to it as SIGUSR1, which it passes on to its processes;
/// they stop after a step. The second signal ends them at once.
fn wait(mpirun: &mut Child, stop: &Stop) -> Result<ExitCode> {
    let pid = Pid::from_child(mpirun);
    let mut stopped = None;
    loop {
        if let Some(status) = mpirun.try_wait().context("cannot wait for mpirun")? {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Ok(ExitCode::from(stopped.filter(|_| code != 0).unwrap_or(code)));
        }
        if let Some(code) = stop.take() {
            let signal = if stopped.is_none() { Signal::USR1 } else { Signal::TERM };
            kill_process(pid, signal).context("cannot stop mpirun")?;
            stopped = Some(code);
        }
        thread::sleep(INTERVAL);
    }
}
