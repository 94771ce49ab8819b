//! A few operations behind a probe, and what they make of a batch on the engine and in truth.

use alexnet_core::{Images, Logits, Mode, Op, Optimizer, State, Topology, backend::Gradients};

use crate::{
    case::{Engine, Outcome},
    fixtures,
    reference::{Derivative, Network, Tensor, Trace},
};

/// Operations with their network, parameters, images and cotangent.
pub struct Experiment {
    pub topology: Topology,
    pub state: State,
    pub images: Images,
    pub cotangent: Logits,
}

/// What both sides say about an [`Experiment`].
pub struct Answers {
    pub logits: Logits,
    pub gradients: Gradients,
    pub network: Network,
    pub trace: Trace,
    pub derivative: Derivative,
}

/// What an operation works on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// The output of the probe, a 1×1 convolution of the images to so many channels.
    Behind(usize),
    /// The images themselves.
    First,
}

/// The operations in their place, flattened before the first linear layer or else at the end, so that the network ends in
/// features.
pub fn lay_out(place: Place, [height, width]: [usize; 2], ops: &[Op]) -> Topology {
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
    /// Asks the engine and the reference.
    pub fn perform(&self, engine: &Engine) -> Outcome<Answers> {
        let mut model = engine.compile(&self.topology, &self.state, Optimizer::default())?;
        let logits = model.logits(&self.images)?;
        let gradients = model.vjp(&self.images, &self.cotangent)?;
        let network = Network::new(&self.topology, &self.state, Optimizer::default())?;
        let trace = network.forward(&self.images, Mode::Differentiate)?;
        let derivative = network.backward(&trace, self.cotangent_in_f64(), Mode::Differentiate);
        Ok(Answers { logits, gradients, network, trace, derivative })
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
