//! Tests of a few operations: builds a network of them, optionally after a probe, and runs it on
//! the engine and on the reference.

use alexnet_core::{Images, Logits, Mode, Op, Optimizer, State, Topology, backend::Gradients};

use crate::{
    case::{Engine, Outcome},
    fixtures,
    reference::{Derivative, Network, Tensor, Trace},
};

/// A network with its parameters, images and cotangent.
pub struct Experiment {
    pub topology: Topology,
    pub state: State,
    pub images: Images,
    pub cotangent: Logits,
}

/// The results of the engine and the reference for an [`Experiment`].
pub struct Results {
    pub logits: Logits,
    pub gradients: Gradients,
    pub network: Network,
    pub trace: Trace,
    pub derivative: Derivative,
}

/// The input of the first tested operation. The names of the variants must not change, since their
/// `Debug` output is part of the keys of random numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// The output of the probe, a 1×1 convolution of the images to this number of channels.
    Behind(usize),
    /// The images themselves.
    First,
}

/// Returns a network of the operations. It flattens before the first linear layer, or otherwise at
/// the end, so that the output of the network is features.
pub fn build_topology(place: Place, [height, width]: [usize; 2], ops: &[Op]) -> Topology {
    let mut all = Vec::new();
    if let Place::Behind(outputs) = place {
        all.push(Op::Conv2d { inputs: 3, outputs, kernel: 1, stride: 1, padding: 0, groups: 1 });
    }
    let mut flat = false;
    for op in ops {
        flat |= *op == Op::Flatten;
        if matches!(op, Op::Linear { .. }) && !flat {
            all.push(Op::Flatten);
            flat = true;
        }
        all.push(op.clone());
    }
    if !flat {
        all.push(Op::Flatten);
    }
    fixtures::topology([3, height, width], &all)
}

impl Experiment {
    /// Runs the experiment on the engine and on the reference.
    pub fn run(&self, engine: &Engine) -> Outcome<Results> {
        let mut model = engine.compile(&self.topology, &self.state, Optimizer::default())?;
        let logits = model.logits(&self.images)?;
        let gradients = model.vjp(&self.images, &self.cotangent)?;
        let network = engine.reference(&self.topology, &self.state, Optimizer::default())?;
        let trace = network.forward(&self.images, Mode::Differentiate)?;
        let derivative = network.backward(&trace, self.cotangent_in_f64(), Mode::Differentiate);
        Ok(Results { logits, gradients, network, trace, derivative })
    }

    fn cotangent_in_f64(&self) -> Tensor {
        Tensor {
            shape: vec![self.images.len(), self.cotangent.classes],
            values: self.cotangent.values.iter().map(|v| f64::from(*v)).collect(),
        }
    }

    /// The gradient of the output of node `index`.
    pub fn output_gradient(&self, derivative: &Derivative, index: usize) -> Tensor {
        derivative.inputs.get(index + 1).cloned().unwrap_or_else(|| self.cotangent_in_f64())
    }
}
