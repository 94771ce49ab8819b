//! A network in f64 with its forward pass, backward pass and update.

use std::collections::{BTreeMap, BTreeSet};

use alexnet_core::{
    Array, Batch, Images, Mode, Op, Optimizer, ReluRule, Result, State, Step, StepReport, Topology,
    backend::{Gradients, gradient_of},
};

use super::{
    loss::cross_entropy,
    operation::{NodeView, backward, forward},
    tensor::Tensor,
    update,
};

/// The outputs of all nodes for a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The normalized images, `[N, 3, H, W]`.
    pub input: Tensor,
    /// The output of each node, `[N, …]`.
    pub outputs: Vec<Tensor>,
}

impl Trace {
    /// Returns the input of node `index`.
    pub fn input_of(&self, index: usize) -> &Tensor {
        if index == 0 { &self.input } else { &self.outputs[index - 1] }
    }

    /// Returns the logits, `[N, C]`.
    pub fn logits(&self) -> &Tensor {
        self.outputs.last().unwrap_or(&self.input)
    }
}

/// The results of the backward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Derivative {
    /// The gradient of each trainable parameter, by name.
    pub parameters: BTreeMap<String, Tensor>,
    /// The gradient of the input of each node; the first one is that of the images.
    pub inputs: Vec<Tensor>,
}

/// A network in f64.
#[derive(Clone, Debug)]
pub struct Network {
    topology: Topology,
    optimizer: Optimizer,
    pub(super) parameters: BTreeMap<String, Tensor>,
    moments: BTreeMap<String, Tensor>,
    frozen: BTreeSet<String>,
    rounds: bool,
}

impl Network {
    /// Creates a network from an f32 state.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Topology`], [`alexnet_core::Error::Parameters`].
    pub fn new(topology: &Topology, state: &State, optimizer: Optimizer) -> Result<Self> {
        topology.classes()?;
        state.check(topology)?;
        let widen = |arrays: &BTreeMap<String, Array>| {
            arrays.iter().map(|(name, array)| (name.clone(), Tensor::from_array(array))).collect()
        };
        Ok(Self {
            topology: topology.clone(),
            optimizer,
            parameters: widen(&state.parameters),
            moments: widen(&state.moments),
            frozen: BTreeSet::new(),
            rounds: false,
        })
    }

    /// Returns the network with these parameters not trainable ([`alexnet_core::Options::frozen`]).
    pub fn freeze(mut self, frozen: &BTreeSet<String>) -> Self {
        let trainable =
            |moment: &str| moment.rsplit_once('.').is_none_or(|(name, _)| !frozen.contains(name));
        self.moments.retain(|moment, _| trainable(moment));
        self.frozen.clone_from(frozen);
        self
    }

    /// Returns the network with the factors of all products rounded to bf16, or not.
    pub fn rounding_products(self, rounds: bool) -> Self {
        Self { rounds, ..self }
    }

    /// Returns the topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Returns the current parameters.
    pub fn parameters(&self) -> &BTreeMap<String, Tensor> {
        &self.parameters
    }

    /// Returns the current moments of the optimizer, by `parameter.moment`.
    pub fn moments(&self) -> &BTreeMap<String, Tensor> {
        &self.moments
    }

    /// Returns parameters and moments rounded to f32.
    pub fn state(&self) -> State {
        let round = |tensors: &BTreeMap<String, Tensor>| {
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_array())).collect()
        };
        State {
            parameters: round(&self.parameters),
            moments: round(&self.moments),
            ..State::default()
        }
    }

    /// Computes the outputs of all nodes for a batch of images.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Shape`].
    pub fn forward(&self, images: &Images, mode: Mode) -> Result<Trace> {
        images.check(self.topology.input)?;
        Ok(self.forward_from(Tensor::from_images(images), mode))
    }

    /// Computes the outputs of all nodes for `input` `[N, C, H, W]`.
    pub fn forward_from(&self, input: Tensor, mode: Mode) -> Trace {
        let mut trace = Trace { input, outputs: Vec::new() };
        for index in 0..self.topology.nodes.len() {
            let output = forward(&self.node(index, mode), trace.input_of(index));
            trace.outputs.push(output);
        }
        trace
    }

    /// Computes the gradients of `Σ cotangent · logits`, with `cotangent` `[N, C]` and the trace
    /// and mode of the forward pass.
    pub fn backward(&self, trace: &Trace, cotangent: Tensor, mode: Mode) -> Derivative {
        self.backward_with(trace, cotangent, mode, ReluRule::Gradient)
    }

    /// [`Network::backward`] with a rule for the ReLUs.
    pub fn backward_with(
        &self,
        trace: &Trace,
        cotangent: Tensor,
        mode: Mode,
        rule: ReluRule,
    ) -> Derivative {
        let mut parameters = BTreeMap::new();
        let mut inputs = Vec::new();
        let mut dy = cotangent;
        for index in (0..self.topology.nodes.len()).rev() {
            if rule == ReluRule::Guided && self.topology.nodes[index].op == Op::Relu {
                dy = dy.map(|v| v.max(0.0));
            }
            let (dx, gradients) = backward(&self.node(index, mode), trace.input_of(index), &dy);
            let name = &self.topology.nodes[index].name;
            for (gradient, role) in gradients.into_iter().flatten().zip(["weight", "bias"]) {
                parameters.insert(format!("{name}.{role}"), gradient);
            }
            parameters.retain(|name, _| !self.frozen.contains(name));
            inputs.push(dx.clone());
            dy = dx;
        }
        inputs.reverse();
        Derivative { parameters, inputs }
    }

    /// Returns the report and the unclipped gradients of one training step, before the update.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Shape`].
    pub fn gradients(
        &self,
        batch: &Batch,
        step: &Step,
    ) -> Result<(StepReport, BTreeMap<String, Tensor>)> {
        batch.check(self.topology.input, self.topology.classes()?)?;
        let mode = step.mode();
        let trace = self.forward(&batch.images, mode)?;
        let (loss, cotangent) = cross_entropy(trace.logits(), &batch.targets, step.micro_batch);
        let gradients = self.backward(&trace, cotangent, mode).parameters;
        Ok((StepReport { loss, gradient_norm: norm(&gradients) }, gradients))
    }

    /// Does one training step.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Shape`].
    pub fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        let (report, gradients) = self.gradients(batch, step)?;
        self.update(&gradients, step, report.gradient_norm);
        Ok(report)
    }

    /// Clips the gradients of all trainable parameters and updates the parameters. Returns the norm
    /// before clipping.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Shape`].
    pub(crate) fn update_with(&mut self, gradients: &Gradients, step: &Step) -> Result<f64> {
        let trainable = self.parameters.iter().filter(|(name, _)| !self.frozen.contains(*name));
        let gradients = trainable
            .map(|(name, p)| {
                Ok((name.clone(), Tensor::from_array(gradient_of(gradients, name, &p.shape)?)))
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        let norm = norm(&gradients);
        self.update(&gradients, step, norm);
        Ok(norm)
    }

    /// Clips the gradients, whose norm is `gradient_norm`, and updates their parameters.
    pub(crate) fn update(
        &mut self,
        gradients: &BTreeMap<String, Tensor>,
        step: &Step,
        gradient_norm: f64,
    ) {
        let scale = update::clip_factor(gradient_norm, step.clip_grad_norm);
        for (name, gradient) in gradients {
            let gradient = gradient.map(|g| g * scale);
            let key = |moment: &&str| format!("{name}.{moment}");
            let keys: Vec<_> = self.optimizer.moments().iter().map(key).collect();
            let mut moments: Vec<_> = keys
                .iter()
                .map(|k| self.moments.remove(k).unwrap_or_else(|| Tensor::zeros(&gradient.shape)))
                .collect();
            if let Some(parameter) = self.parameters.get_mut(name) {
                update::update(&self.optimizer, step, parameter, &gradient, &mut moments);
            }
            self.moments.extend(keys.into_iter().zip(moments));
        }
    }

    /// Rounds parameters and moments to f32, as an engine in f32 stores them.
    pub(crate) fn round(&mut self) {
        for tensor in self.parameters.values_mut().chain(self.moments.values_mut()) {
            *tensor = tensor.map(|v| f64::from(v as f32));
        }
    }

    pub(crate) fn node(&self, index: usize, mode: Mode) -> NodeView<'_> {
        let node = &self.topology.nodes[index];
        let parameter = |role| self.parameters.get(&format!("{}.{role}", node.name));
        NodeView {
            op: &node.op,
            index,
            mode,
            parameters: parameter("weight").zip(parameter("bias")),
            rounds: self.rounds,
        }
    }
}

/// Returns the L2 norm over all tensors.
pub(crate) fn norm(tensors: &BTreeMap<String, Tensor>) -> f64 {
    tensors.values().flat_map(|t| &t.values).map(|v| v * v).sum::<f64>().sqrt()
}
