//! Runs the suite as tests of an engine's crate.

use std::{process::ExitCode, sync::Arc, thread};

use alexnet_core::{Backend, Device};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    case::{Case, Engine, Products},
    cases,
};

/// An engine to test, with one of its kernels and devices.
pub struct Subject {
    name: String,
    backend: Arc<dyn Backend>,
    device: Device,
    full_size: bool,
    products: Products,
}

impl Subject {
    /// Tests the engine with all cases on the CPU, under the engine's name.
    pub fn new(backend: impl Backend + 'static) -> Self {
        Self {
            name: backend.name().into(),
            backend: Arc::new(backend),
            device: Device::Cpu,
            full_size: true,
            products: Products::F32,
        }
    }

    /// Starts the names of its cases with `name`, for example to distinguish several kernels.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Tests the engine on another device.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// Omits the cases with full-size networks, for kernels that are rarely used.
    #[must_use]
    pub fn small(self) -> Self {
        Self { full_size: false, ..self }
    }

    /// Compares the engine with products whose factors are rounded to bf16.
    #[must_use]
    pub fn with_products(self, products: Products) -> Self {
        Self { products, ..self }
    }

    fn trial(&self, case: &Arc<Case>) -> Trial {
        let (backend, device, case) = (self.backend.clone(), self.device, case.clone());
        let products = self.products;
        Trial::test(format!("{}::{}", self.name, case.name), move || {
            case.run(&Engine { backend: &*backend, device, products }).map_err(Failed::from)
        })
    }
}

/// Runs the suite on all `subjects`. The arguments of this process are those of Rust's tests: a
/// part of the names of the cases to run, `--list`, `--exact`, `--skip`, `--test-threads` and so
/// on.
pub fn main(subjects: impl IntoIterator<Item = Subject>) -> ExitCode {
    let subjects: Vec<Subject> = subjects.into_iter().collect();
    let mut arguments = Arguments::from_args();
    let full_size = subjects.iter().filter(|subject| subject.full_size).count();
    // Each of the largest cases needs gigabytes of memory for f64 numbers.
    let max_threads = 4 * full_size.max(1);
    let threads = || thread::available_parallelism().map_or(1, usize::from).min(max_threads);
    arguments.test_threads.get_or_insert_with(threads);
    libtest_mimic::run(&arguments, trials(&subjects)).exit_code()
}

/// Returns the tests, the slowest first, so that they do not run alone at the end.
fn trials(subjects: &[Subject]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in cases::full_size().into_iter().map(Arc::new) {
        trials.extend(
            subjects.iter().filter(|subject| subject.full_size).map(|subject| subject.trial(&case)),
        );
    }
    for case in cases::small().into_iter().map(Arc::new) {
        trials.extend(subjects.iter().map(|subject| subject.trial(&case)));
    }
    trials
}
