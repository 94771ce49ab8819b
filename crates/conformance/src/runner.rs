//! Runs the suite as the tests of an engine's crate.

use std::{process::ExitCode, sync::Arc, thread};

use alexnet_core::{Backend, Device};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    case::{Case, Engine},
    cases,
};

/// An engine that is held to the suite, with one of its ways to compute and one of its devices.
pub struct Subject {
    name: String,
    backend: Arc<dyn Backend>,
    device: Device,
    whole_size: bool,
}

impl Subject {
    /// Takes the whole suite on the engine's CPU, under the engine's name.
    pub fn new(backend: impl Backend + 'static) -> Self {
        Self {
            name: backend.name().into(),
            backend: Arc::new(backend),
            device: Device::Cpu,
            whole_size: true,
        }
    }

    /// Begins the names of its cases with `name`, which tells apart several ways to compute.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Computes on another device.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// Leaves out the cases at the networks' true sizes: for a way to compute that is seldom chosen.
    #[must_use]
    pub fn small(self) -> Self {
        Self { whole_size: false, ..self }
    }

    fn trial(&self, case: &Arc<Case>) -> Trial {
        let (backend, device, case) = (self.backend.clone(), self.device, case.clone());
        Trial::test(format!("{}::{}", self.name, case.name), move || {
            case.run(&Engine { backend: &*backend, device }).map_err(Failed::from)
        })
    }
}

/// Runs the suite on all `subjects`, with the arguments of this process, which are those of Rust's own tests: a part of the
/// names of the cases to run, `--list`, `--exact`, `--skip`, `--test-threads` and so on.
pub fn main(subjects: impl IntoIterator<Item = Subject>) -> ExitCode {
    let subjects: Vec<Subject> = subjects.into_iter().collect();
    let mut arguments = Arguments::from_args();
    let whole_size = subjects.iter().filter(|subject| subject.whole_size).count();
    // Each of the largest cases holds gigabytes of f64.
    let most = 4 * whole_size.max(1);
    let threads = || thread::available_parallelism().map_or(1, usize::from).min(most);
    arguments.test_threads.get_or_insert_with(threads);
    libtest_mimic::run(&arguments, trials(&subjects)).exit_code()
}

/// The heaviest first, so that no thread is left alone with them at the end.
fn trials(subjects: &[Subject]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in cases::whole_size().into_iter().map(Arc::new) {
        trials
            .extend(subjects.iter().filter(|subject| subject.whole_size).map(|subject| subject.trial(&case)));
    }
    for case in cases::small().into_iter().map(Arc::new) {
        trials.extend(subjects.iter().map(|subject| subject.trial(&case)));
    }
    trials
}
