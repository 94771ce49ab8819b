//! A case of the suite, and the engine that it tests.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use alexnet_core::{Backend, Device, Model, Optimizer, Options, State, StepReport, Topology};

use crate::{compare, reference::Network};

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
    /// How its products are computed.
    pub products: Products,
}

/// How an engine computes products.
///
/// bf16 has a precision of 8 bits, so rounding a factor changes it by at most u = 2⁻⁹ of its value,
/// and the product of two rounded factors by 2u + u². The reference rounds the same factors. A single
/// operation whose factors are the same numbers therefore satisfies the bounds for f32. In a network,
/// the factors differ by the rounding errors of earlier sums, and some of them are rounded to
/// neighboring numbers. Each of at most eight layers with products then adds up to 2u, so results of
/// whole networks are compared with a tolerance of 16u ≈ 0.03 of the largest number
/// ([`Engine::of_network`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Products {
    /// In f32.
    #[default]
    F32,
    /// Factors are rounded to bf16, as in [`Network::rounding_products`].
    Bf16,
    /// Factors are rounded to bf16, in convolutions after a transform. The error of a convolution is
    /// compared with that of its reference by the triangle inequality: 2·(2u + u²)·Σ|aᵢbᵢ| in addition
    /// to the bound for f32. (The transforms enlarge the rounding errors a few times, but these have
    /// random signs, so that their sum is far below this bound.)
    Bf16Transformed,
}

/// The largest relative change of a number that is rounded to bf16.
const BF16: f64 = 1.0 / 512.0;

impl Products {
    /// Returns what the products of transformed factors add to the error bound of a convolution,
    /// relative to Σ|aᵢbᵢ|.
    pub fn transform_bound(self) -> f64 {
        match self {
            Self::F32 | Self::Bf16 => 0.0,
            Self::Bf16Transformed => 2.0 * (2.0 * BF16 + BF16 * BF16),
        }
    }
}

impl Engine<'_> {
    /// Returns the reference for this engine.
    pub fn reference(
        &self,
        topology: &Topology,
        state: &State,
        optimizer: Optimizer,
    ) -> alexnet_core::Result<Network> {
        let network = Network::new(topology, state, optimizer)?;
        Ok(network.rounding_products(self.products != Products::F32))
    }

    /// Returns the relative tolerance for a result of several layers, which is `in_f32` for an engine
    /// in f32.
    pub fn of_network(&self, in_f32: f64) -> f64 {
        match self.products {
            Products::F32 => in_f32,
            Products::Bf16 | Products::Bf16Transformed => in_f32.max(16.0 * BF16),
        }
    }

    /// Returns the relative tolerance for a gradient of several layers, which is `in_f32` for an
    /// engine in f32. Errors of outputs change which ReLUs are active and which inputs are maxima, so
    /// gradients that are rounded to bf16 differ by much more than outputs do: by up to 0.37 in the largest networks.
    pub fn of_gradients(&self, in_f32: f64) -> f64 {
        match self.products {
            Products::F32 => in_f32,
            Products::Bf16 | Products::Bf16Transformed => 0.4,
        }
    }

    /// Compares the loss and the gradient norm of step `number`. In bf16, only the first two: later
    /// steps depend on the gradients of earlier ones.
    pub fn same_step(&self, number: u64, found: &StepReport, truth: &StepReport) -> Outcome {
        if self.products != Products::F32 && number > 2 {
            return Ok(());
        }
        compare::step(number, found, truth, self.of_network(compare::loss_tolerance(number)))
    }

    /// Compares results of a network: logits or the outputs of nodes.
    pub fn same_outputs(&self, what: &str, found: &[f32], truth: &[f64]) -> Outcome {
        let largest = truth.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        let of_largest = match self.products {
            Products::F32 => 1e-5,
            Products::Bf16 | Products::Bf16Transformed => 16.0 * BF16,
        };
        compare::within(what, found, truth, |i| 1e-4 * truth[i].abs() + of_largest * largest)
    }

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
        self.backend.compile(topology, state.clone(), &options)
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
        self.backend.compile(topology, state.clone(), &options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;

    #[test]
    fn a_panic_fails_the_case() {
        let engine = Engine { backend: &Reference, device: Device::Cpu, products: Products::F32 };
        let case = Case::new("panics", |_| panic!("in layer {}", 1));
        assert_eq!(case.run(&engine), Err("it panicked: in layer 1".into()));
    }
}
