//! One suite for every engine: [`run`] holds it to the f64 [`crate::reference`], and whole networks to PyTorch as well.
//!
//! ```ignore
//! #[test]
//! fn conforms() {
//!     let report = alexnet_core::conformance::run(&CpuBackend::default());
//!     println!("{report}");
//!     report.unwrap();
//! }
//! ```
//!
//! Single operations are reached through the byte boundary by a *probe*: a 1×1 convolution in front whose outputs are small
//! integers (or dyadic fractions), so that every product and every partial sum below it is exact in f32. The network's
//! logits are then the operation's output, its own parameters' gradients show its weight gradient, and the probe's
//! gradients are sums over its input gradient. How close is close enough stands beside each kind of case.

mod batches;
mod compare;
mod exact;
mod experiment;
mod freezing;
mod gathering;
mod material;
mod networks;
#[cfg(test)]
mod planted;
mod pytorch;
mod real;
mod refusals;
mod states;
mod training;

use std::{
    collections::BTreeSet,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::{Backend, Device, Model, Optimizer, Options, State, Topology};

/// What [`run`] found; no case is ever skipped.
#[derive(Clone, Debug)]
pub struct Report {
    /// The engine's name.
    pub backend: &'static str,
    /// How many cases were run.
    pub cases: usize,
    /// Those that failed, in the order of the suite.
    pub failures: Vec<Failure>,
}

/// A case that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The case's name.
    pub case: String,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures.len();
        write!(f, "{}: {} cases, {failed} failed, 0 skipped", self.backend, self.cases)?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n  {}: {}", failure.case, failure.message))
    }
}

impl Report {
    /// Asserts that every case passed.
    ///
    /// # Panics
    /// With the report, when one did not.
    #[track_caller]
    pub fn unwrap(&self) {
        assert!(self.failures.is_empty(), "{self}");
    }
}

/// Runs the whole suite on the engine's CPU.
pub fn run(backend: &dyn Backend) -> Report {
    run_on(backend, Device::Cpu)
}

/// Runs the whole suite on one of the engine's devices.
pub fn run_on(backend: &dyn Backend, device: Device) -> Report {
    // The heaviest first, so that no thread is left alone with them at the end.
    run_cases(backend, device, whole_size_cases().into_iter().chain(small_cases()).collect())
}

/// Runs all but the cases at the networks' true sizes on the engine's CPU, for a second way to compute.
pub fn run_small(backend: &dyn Backend) -> Report {
    run_cases(backend, Device::Cpu, small_cases())
}

/// The cases at the networks' true sizes.
fn whole_size_cases() -> Vec<Case> {
    [pytorch::cases(), networks::whole_size_cases(), exact::whole_size_cases(), real::whole_size_cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// All other cases, quick even with f64 arithmetic.
fn small_cases() -> Vec<Case> {
    [
        exact::cases(),
        real::cases(),
        training::cases(),
        states::cases(),
        freezing::cases(),
        gathering::cases(),
        batches::cases(),
        refusals::cases(),
        networks::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

type Check = Box<dyn Fn(&Engine) -> Outcome + Send + Sync>;

struct Case {
    name: String,
    check: Check,
}

impl Case {
    fn new(name: impl Into<String>, check: impl Fn(&Engine) -> Outcome + Send + Sync + 'static) -> Self {
        Self { name: name.into(), check: Box::new(check) }
    }

    fn run(&self, engine: &Engine) -> Result<(), Failure> {
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.check)(engine)));
        let message = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".into(),
        };
        Err(Failure { case: self.name.clone(), message })
    }
}

/// The engine under test, on one device.
#[derive(Clone, Copy)]
struct Engine<'a> {
    backend: &'a dyn Backend,
    device: Device,
}

impl Engine<'_> {
    fn compile(
        &self,
        topology: &Topology,
        state: &State,
        optimizer: Optimizer,
    ) -> crate::Result<Box<dyn Model>> {
        self.compile_frozen(topology, state, optimizer, &BTreeSet::new())
    }

    fn compile_frozen(
        &self,
        topology: &Topology,
        state: &State,
        optimizer: Optimizer,
        frozen: &BTreeSet<String>,
    ) -> crate::Result<Box<dyn Model>> {
        let options = Options { device: self.device, optimizer, frozen: frozen.clone() };
        self.backend.compile(topology, state, &options)
    }
}

fn run_cases(backend: &dyn Backend, device: Device, cases: Vec<Case>) -> Report {
    // Each of the largest cases holds gigabytes of f64.
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    let next = AtomicUsize::new(0);
    let work = || {
        let engine = Engine { backend, device };
        let mut failures = Vec::new();
        while let Some((index, case)) = take(&next, &cases) {
            failures.extend(case.run(&engine).err().map(|failure| (index, failure)));
        }
        failures
    };
    let mut failures: Vec<(usize, Failure)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        // A worker cannot panic: its cases are caught.
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    failures.sort_by_key(|(index, _)| *index);
    Report {
        backend: backend.name(),
        cases: cases.len(),
        failures: failures.into_iter().map(|(_, failure)| failure).collect(),
    }
}

fn take<'a, T>(next: &AtomicUsize, items: &'a [T]) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    items.get(index).map(|item| (index, item))
}
