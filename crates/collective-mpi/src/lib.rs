//! Ranks that are processes of an MPI job, started by `mpirun`, `srun` or another launcher. The crate
//! is linked with the MPI library of this machine through `mpi` (rsmpi).
#![forbid(unsafe_code)]

use std::{thread, time::Duration};

use alexnet_core::{
    Collective, Error as CoreError, Result as CoreResult, collective::balanced_sum,
};
use mpi::{
    Threading,
    collective::SystemOperation,
    datatype::PartitionMut,
    environment::Universe,
    request::{self, Request, Scope},
    topology::SimpleCommunicator,
    traits::{Communicator, CommunicatorCollectives, Destination, Source},
};

/// Why this process cannot take part in an MPI job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The MPI library cannot be used by several threads of a process.
    #[error("the MPI library ({library}) does not support calls from several threads")]
    Threads {
        /// The library and its version.
        library: String,
    },
    /// The launcher belongs to another MPI library.
    #[error(
        "the launcher has started {launched} processes, but MPI sees {size}: the launcher belongs to another MPI library than this \
         program, which is linked with {library}; use the launcher of that library"
    )]
    OtherLauncher {
        /// The number of processes according to the launcher.
        launched: usize,
        /// The number of processes according to the library.
        size: usize,
        /// The library and its version.
        library: String,
    },
}

/// This process as a rank of an MPI job. Dropping it waits for all ranks (`MPI_Finalize`).
pub struct Mpi {
    _universe: Universe,
    rank: usize,
    size: usize,
    host: String,
    /// Whether the MPI library chooses the order of sums.
    any_order: bool,
}

impl Mpi {
    /// Joins the job: of the launcher that started `launched` processes, or a job of one process.
    /// Must be called once, before other threads use MPI. With `any_order` the MPI library chooses
    /// the order of sums (`MPI_Allreduce`), so that results depend on the number of ranks.
    ///
    /// # Errors
    /// [`enum@Error`]. The caller must end the process with [`abort`], because dropping the job
    /// would wait for the other ranks.
    ///
    /// # Panics
    /// When the process has joined before.
    pub fn join(launched: usize, any_order: bool) -> Result<Self, Error> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
            .expect("a process joins an MPI job once");
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        let host = mpi::environment::processor_name().unwrap_or_default();
        let joined = Self { _universe: universe, rank, size, host, any_order };
        let error = if threading < Threading::Serialized {
            Error::Threads { library: library() }
        } else if size != launched {
            Error::OtherLauncher { launched, size, library: library() }
        } else {
            return Ok(joined);
        };
        std::mem::forget(joined);
        Err(error)
    }
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn name(&self) -> String {
        format!("rank {} on {}", self.rank, self.host)
    }

    fn exchange(&self, with: usize, send: &[f32], receive: &mut [f32]) -> CoreResult<()> {
        let world = SimpleCommunicator::world();
        let peer = world.process_at_rank(with as i32);
        request::scope(|scope| {
            let received = peer.immediate_receive_into(scope, receive);
            let sent = peer.immediate_send(scope, send);
            wait(received);
            wait(sent);
        });
        Ok(())
    }

    fn sum(&self, values: &mut [f32]) -> CoreResult<()> {
        if !self.any_order {
            return balanced_sum(self, values);
        }
        let own = values.to_vec();
        let world = SimpleCommunicator::world();
        let sum = SystemOperation::sum();
        request::scope(|scope| {
            wait(world.immediate_all_reduce_into(scope, &own[..], values, sum));
        });
        Ok(())
    }

    fn gather_bytes(&self, message: &[u8]) -> CoreResult<Vec<Vec<u8>>> {
        let world = SimpleCommunicator::world();
        let (len, mut lens) = (message.len() as u64, vec![0u64; self.size]);
        request::scope(|scope| {
            wait(world.immediate_all_gather_into(scope, &len, &mut lens[..]));
        });
        // MPI counts in i32. All ranks know the lengths, so all return the error.
        let total: u64 = lens.iter().sum();
        if i32::try_from(total).is_err() {
            return Err(CoreError::Ranks(format!(
                "the messages of all ranks have {total} bytes, more than MPI can gather at once"
            )));
        }
        let lens: Vec<i32> = lens.into_iter().map(|len| len as i32).collect();
        let starts: Vec<i32> = lens
            .iter()
            .scan(0, |end, len| {
                *end += len;
                Some(*end - len)
            })
            .collect();
        let mut all = vec![0u8; total as usize];
        let mut parts = PartitionMut::new(&mut all[..], &lens[..], &starts[..]);
        request::scope(|scope| {
            wait(world.immediate_all_gather_varcount_into(scope, message, &mut parts));
        });
        let message = |(start, len): (&i32, &i32)| all[*start as usize..][..*len as usize].to_vec();
        Ok(starts.iter().zip(&lens).map(message).collect())
    }
}

/// The number of times that a request is tested before the thread sleeps between two tests.
const TESTS_WITHOUT_SLEEP: usize = 50;

/// The time between two tests. The system may add some 50 µs.
const INTERVAL: Duration = Duration::from_micros(20);

/// Waits for a request. MPI's own functions keep a core busy while they wait, which the engine's
/// threads need.
fn wait<'a, D: ?Sized, S: Scope<'a>>(mut request: Request<'a, D, S>) {
    for tests in 0.. {
        match request.test() {
            Ok(_) => return,
            Err(unfinished) => request = unfinished,
        }
        match tests < TESTS_WITHOUT_SLEEP {
            true => thread::yield_now(),
            false => thread::sleep(INTERVAL),
        }
    }
}

/// Ends all processes of the job with this exit code, as `MPI_Abort` does.
pub fn abort(code: i32) -> ! {
    SimpleCommunicator::world().abort(code)
}

/// Returns the name and the version of the MPI library, such as `Open MPI v4.1.4`.
pub fn library() -> String {
    let text = mpi::environment::library_version().unwrap_or_default();
    let end = text.find([',', '\n']).unwrap_or(text.len());
    text[..end].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_has_a_name() {
        assert!(!library().is_empty());
    }
}
