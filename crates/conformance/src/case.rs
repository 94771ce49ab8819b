//! A case of the suite, and the engine that it tests.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use alexnet_core::{Backend, Device, Model, Optimizer, Options, State, Topology};

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

type Check = Box<dyn Fn(&Engine) -> Outcome + Send + Sync>;

/// A named check of an engine.
pub struct Case {
    /// The operation or subject, the kind of check and further settings:
    /// `conv2d::exact::out8_kernel3_…`.
    pub name: String,
    check: Check,
}

impl Case {
    pub fn new(
        name: impl Into<String>,
        check: impl Fn(&Engine) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), check: Box::new(check) }
    }

    /// Runs the check. A panic is also a failure.
    ///
    /// # Errors
    /// A message with the expected and the actual result.
    pub fn run(&self, engine: &Engine) -> Result<(), String> {
        match catch_unwind(AssertUnwindSafe(|| (self.check)(engine))) {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(panic) => {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                let message = message.or(panic.downcast_ref::<&str>().copied());
                Err(format!("it panicked: {}", message.unwrap_or("without a message")))
            }
        }
    }
}

/// The engine under test, on one device.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    pub backend: &'a dyn Backend,
    pub device: Device,
}

impl Engine<'_> {
    pub fn compile(
        &self,
        topology: &Topology,
        state: &State,
        optimizer: Optimizer,
    ) -> alexnet_core::Result<Box<dyn Model>> {
        self.compile_frozen(topology, state, optimizer, &BTreeSet::new())
    }

    pub fn compile_frozen(
        &self,
        topology: &Topology,
        state: &State,
        optimizer: Optimizer,
        frozen: &BTreeSet<String>,
    ) -> alexnet_core::Result<Box<dyn Model>> {
        let (device, frozen) = (self.device, frozen.clone());
        let options = Options { device, optimizer, frozen, ..Options::default() };
        self.backend.compile(topology, state, &options)
    }

    /// Compiles with observed nodes and all parameters frozen, as explanations do.
    pub fn compile_observed(
        &self,
        topology: &Topology,
        state: &State,
        observed: &BTreeSet<String>,
    ) -> alexnet_core::Result<Box<dyn Model>> {
        let options = Options {
            device: self.device,
            frozen: state.parameters.keys().cloned().collect(),
            observed: observed.clone(),
            ..Options::default()
        };
        self.backend.compile(topology, state, &options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;

    #[test]
    fn a_panic_fails_the_case() {
        let engine = Engine { backend: &Reference, device: Device::Cpu };
        let case = Case::new("panics", |_| panic!("in layer {}", 1));
        assert_eq!(case.run(&engine), Err("it panicked: in layer 1".into()));
    }
}
