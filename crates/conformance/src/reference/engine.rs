//! The reference as an engine.

use std::collections::BTreeMap;

use alexnet_core::{
    Backend, Batch, Device, Error, Images, Logits, Mode, Model, Options, Result, State, Step,
    StepReport, Topology,
    backend::{Gradients, check_cotangent},
};

use super::{network::Network, tensor::Tensor};

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
        state: &State,
        options: &Options,
    ) -> Result<Box<dyn Model>> {
        if options.device != Device::Cpu {
            return Err(Error::Device {
                backend: self.name(),
                device: options.device.to_string(),
                reason: "it runs on the CPU only; use cpu".into(),
            });
        }
        let network = Network::new(topology, state, options.optimizer)?;
        options.check(topology)?;
        Ok(Box::new(Rounded(network.freeze(&options.frozen))))
    }
}

struct Rounded(Network);

fn round(tensors: BTreeMap<String, Tensor>) -> Gradients {
    tensors.into_iter().map(|(name, tensor)| (name, tensor.to_array())).collect()
}

impl Model for Rounded {
    fn logits(&mut self, images: &Images) -> Result<Logits> {
        let trace = self.0.forward(images, Mode::Evaluate)?;
        Ok(Logits {
            values: trace.logits().to_array().values,
            classes: self.0.topology().classes()?,
        })
    }

    fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        let report = self.0.train_step(batch, step)?;
        self.0.round();
        Ok(report)
    }

    fn gradients(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Gradients)> {
        let (report, gradients) = self.0.gradients(batch, step)?;
        Ok((report, round(gradients)))
    }

    fn update(&mut self, gradients: &Gradients, step: &Step) -> Result<f64> {
        let norm = self.0.update_with(gradients, step)?;
        self.0.round();
        Ok(norm)
    }

    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients> {
        let trace = self.0.forward(images, Mode::Differentiate)?;
        check_cotangent(cotangent, images.len(), self.0.topology().classes()?)?;
        let cotangent = Tensor {
            shape: trace.logits().shape.clone(),
            values: cotangent.values.iter().map(|v| f64::from(*v)).collect(),
        };
        Ok(round(self.0.backward(&trace, cotangent, Mode::Differentiate).parameters))
    }

    fn state(&self) -> Result<State> {
        Ok(self.0.state())
    }
}
