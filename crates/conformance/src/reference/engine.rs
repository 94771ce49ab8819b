//! The reference as an engine.

use std::collections::BTreeMap;

use alexnet_core::{
    Backend, Batch, Device, Error, Images, Inspection, Logits, Mode, Model, Options, ReluRule,
    Result, State, Step, StepReport, Topology,
    backend::{Gradients, check_cotangent},
    inspection::Observed,
};

use super::{
    network::{Network, Trace},
    tensor::Tensor,
};

/// The f64 engine. All inputs and outputs are rounded to f32, also the state after each step, so
/// that interrupted and resumed runs equal uninterrupted ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn devices(&self) -> Vec<Device> {
        vec![Device::Cpu]
    }

    fn compile(
        &self,
        topology: &Topology,
        state: State,
        options: &Options,
    ) -> Result<Box<dyn Model>> {
        if options.device != Device::Cpu {
            return Err(Error::Device {
                backend: self.name(),
                device: options.device.to_string(),
                reason: "it runs on the CPU only; use cpu".into(),
            });
        }
        let network = Network::new(topology, &state, options.optimizer)?;
        options.check(topology)?;
        let layers_after: Vec<usize> = (1..=topology.nodes.len()).collect();
        let observed = Observed::new(topology, &options.observed, &layers_after);
        Ok(Box::new(Rounded { network: network.freeze(&options.frozen), observed }))
    }
}

struct Rounded {
    network: Network,
    observed: Observed,
}

fn round(tensors: BTreeMap<String, Tensor>) -> Gradients {
    tensors.into_iter().map(|(name, tensor)| (name, tensor.to_array())).collect()
}

/// Converts the cotangent of the logits to f64.
fn widened(trace: &Trace, cotangent: &Logits) -> Tensor {
    Tensor {
        shape: trace.logits().shape.clone(),
        values: cotangent.values.iter().map(|v| f64::from(*v)).collect(),
    }
}

/// Returns the inspection of the observed nodes, from the trace of the forward pass.
pub(crate) fn inspection(
    network: &Network,
    observed: &Observed,
    trace: &Trace,
    cotangent: &Logits,
    rule: ReluRule,
) -> Inspection {
    let dy = widened(trace, cotangent);
    let backward = network.backward_with(trace, dy.clone(), Mode::Differentiate, rule);
    let nodes = network.topology().nodes.len();
    let gradient =
        |index: usize| if index + 1 == nodes { &dy } else { &backward.inputs[index + 1] };
    let (mut activations, mut gradients) = (Gradients::new(), Gradients::new());
    for index in 0..nodes {
        for node in observed.after(index + 1) {
            activations.insert(node.name.clone(), trace.outputs[index].to_array());
            gradients.insert(node.name.clone(), gradient(index).to_array());
        }
    }
    Inspection {
        logits: Logits { values: trace.logits().to_array().values, classes: cotangent.classes },
        activations,
        gradients,
        input_gradient: backward.inputs[0].to_array(),
    }
}

impl Model for Rounded {
    fn logits(&mut self, images: &Images) -> Result<Logits> {
        let trace = self.network.forward(images, Mode::Evaluate)?;
        Ok(Logits {
            values: trace.logits().to_array().values,
            classes: self.network.topology().classes()?,
        })
    }

    fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        let report = self.network.train_step(batch, step)?;
        self.network.round();
        Ok(report)
    }

    fn gradients(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Gradients)> {
        let (report, gradients) = self.network.gradients(batch, step)?;
        Ok((report, round(gradients)))
    }

    fn update(&mut self, gradients: &Gradients, step: &Step) -> Result<f64> {
        let norm = self.network.update_with(gradients, step)?;
        self.network.round();
        Ok(norm)
    }

    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients> {
        let trace = self.network.forward(images, Mode::Differentiate)?;
        check_cotangent(cotangent, images.len(), self.network.topology().classes()?)?;
        let cotangent = widened(&trace, cotangent);
        Ok(round(self.network.backward(&trace, cotangent, Mode::Differentiate).parameters))
    }

    fn inspect(
        &mut self,
        images: &Images,
        cotangent: &Logits,
        rule: ReluRule,
    ) -> Result<Inspection> {
        let trace = self.network.forward(images, Mode::Differentiate)?;
        check_cotangent(cotangent, images.len(), self.network.topology().classes()?)?;
        self.observed.check(rule)?;
        Ok(inspection(&self.network, &self.observed, &trace, cotangent, rule))
    }

    fn state(&self) -> Result<State> {
        Ok(self.network.state())
    }
}
