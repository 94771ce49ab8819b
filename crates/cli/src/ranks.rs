//! Training on several processes ("ranks"): started on this machine by `--ranks`, or by the launcher
//! of a cluster (`mpirun`, `srun`).
//!
//! `alexnet train --ranks 4` starts `mpirun`, which starts the same command four times
//! ([`launch`]). Each of these processes finds out from its environment that a launcher has started
//! it ([`launched`]), and joins the others ([`join`]). If one of them fails or panics, it ends all
//! ([`fail`]).

#[cfg(feature = "mpi")]
mod mpirun;

#[cfg(feature = "mpi")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, sync::Arc, thread, time::Duration};

use alexnet::core::{Alone, Collective, collective::gather};
use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

#[cfg(feature = "mpi")]
pub use mpirun::launch;

/// The order in which gradients are added over ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SumOrder {
    /// A fixed order: the same bits on 1, 2, 4, 8, … ranks
    Fixed,
    /// The order that the MPI library chooses (MPI_Allreduce)
    Any,
}

/// Whether this process has joined others, which it must end if it fails.
#[cfg(feature = "mpi")]
static JOINED: AtomicBool = AtomicBool::new(false);

/// Returns the value of the first of these environment variables that is set, as a number.
fn number(variables: [&str; 3]) -> Option<usize> {
    variables.iter().find_map(|name| env::var(name).ok()?.parse().ok())
}

/// Returns the number of processes that a launcher has started together with this one, if there are
/// several.
///
/// The variables are those of Open MPI's `mpirun`, of the interface PMI, which MPICH's `mpirun` and
/// SLURM's `srun` use, and of a step of `srun`. A batch script of SLURM is a step of one process.
pub fn launched() -> Option<usize> {
    number(["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"]).filter(|size| *size > 1)
}

/// Returns the number of this process among those that the launcher has started.
fn launched_rank() -> usize {
    let of_launcher = || number(["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"]);
    launched().and_then(|_| of_launcher()).unwrap_or(0)
}

/// Whether this process is the first of those that the launcher has started, or the only one.
pub fn is_first() -> bool {
    launched_rank() == 0
}

/// Refuses a command that does not run on several processes, if a launcher has started several.
///
/// # Errors
/// If it has.
pub fn refuse(command: &str) -> Result<()> {
    match launched() {
        Some(size) => bail!(
            "`{command}` runs as one process, but a launcher has started {size}; only `train` runs on several"
        ),
        None => Ok(()),
    }
}

/// Joins the other processes of the launcher, if there are any. `asked` is the value of `--ranks`.
///
/// # Errors
/// If the launcher has started another number of processes, this build has no MPI, the launcher is
/// not that of its MPI library, or the processes differ in `order`.
pub fn join(asked: Option<u16>, order: SumOrder) -> Result<Arc<dyn Collective>> {
    let Some(size) = launched() else { return Ok(Arc::new(Alone)) };
    if let Some(asked) = asked {
        ensure!(
            usize::from(asked) == size,
            "the launcher has started {size} processes, not {asked}; under a launcher, leave `--ranks` out"
        );
    }
    let ranks = joined(size, order)?;
    let name = |order: SumOrder| order.to_possible_value().map(|value| value.get_name().to_owned());
    let all = gather(ranks.as_ref(), &(ranks.name(), name(order).unwrap_or_default()))?;
    let (first, expected) = &all[0];
    if let Some((rank, found)) = all.iter().find(|(_, order)| order != expected) {
        // Dropping it would wait for the other ranks.
        std::mem::forget(ranks);
        bail!("{rank} differs from {first}: --sum-order is {found}, not {expected}");
    }
    Ok(ranks)
}

#[cfg(feature = "mpi")]
fn joined(size: usize, order: SumOrder) -> Result<Arc<dyn Collective>> {
    note_wrong_plugin();
    let mpi = alexnet_collective_mpi::Mpi::join(size, order == SumOrder::Any);
    JOINED.store(true, Ordering::Relaxed);
    Ok(Arc::new(mpi?))
}

/// Prints how to start Open MPI under `srun`, if it is not started so. If the library cannot join the
/// processes, it ends them itself, with a message that names other causes.
#[cfg(feature = "mpi")]
fn note_wrong_plugin() {
    let is_set = |name: &str| env::var_os(name).is_some();
    let is_under_srun = is_set("SLURM_STEP_NUM_TASKS") && !is_set("OMPI_COMM_WORLD_SIZE");
    let library = alexnet_collective_mpi::library();
    if is_under_srun && !is_set("PMIX_RANK") && launched_rank() == 0 && library.contains("Open MPI")
    {
        note!("note: `srun` was started without `--mpi=pmix`, which most builds of {library} need");
    }
}

#[cfg(not(feature = "mpi"))]
fn joined(size: usize, _: SumOrder) -> Result<Arc<dyn Collective>> {
    bail!(
        "a launcher has started {size} processes, but this build has no MPI; build it with `--features mpi`"
    )
}

/// Starts this command on several processes of this machine.
///
/// # Errors
/// Always: this build has no MPI.
#[cfg(not(feature = "mpi"))]
pub fn launch(_: u16) -> Result<std::process::ExitCode> {
    bail!(
        "this build has no MPI; build it with `--features mpi`, or use `cargo xtask train --ranks …`"
    )
}

/// Returns the number of threads of this process, so that the processes of a machine that may use
/// the same processors share them.
///
/// # Errors
/// If the processes cannot exchange messages.
pub fn threads(ranks: &dyn Collective) -> Result<usize> {
    let own = (host(), allowed_processors());
    let all = gather(ranks, &own)?;
    let sharing = all.iter().filter(|other| **other == own).count();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Ok((processors / sharing.max(1)).max(1))
}

fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Returns the list of processors that this process may use, from `/proc/self/status`; an empty text
/// where this file does not exist.
fn allowed_processors() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    allowed.unwrap_or_default().trim().to_owned()
}

/// Returns what precedes an error of this process: its rank and host if it is not the only process.
///
/// A process other than rank 0 waits before it reports an error: rank 0 may report the same error
/// and end all processes, for which `mpirun` takes up to two seconds.
pub fn before_error() -> String {
    if launched_rank() == 0 {
        return String::new();
    }
    thread::sleep(Duration::from_secs(3));
    format!("rank {} on {}: ", launched_rank(), host())
}

/// Ends all processes of the launcher after an error or a panic of this one.
#[cfg(feature = "mpi")]
pub fn fail(code: u8) {
    if JOINED.load(Ordering::Relaxed) {
        alexnet_collective_mpi::abort(code.into());
    }
}

/// Does nothing: this process has not joined others.
#[cfg(not(feature = "mpi"))]
pub fn fail(_: u8) {}
