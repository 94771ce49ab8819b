//! A plain f64 engine: the truth that the engines are measured against.
//!
//! Written for the reader, not for the machine: nested loops over [`Tensor`]s, one file an operation, forward and backward
//! side by side. [`Network`] keeps everything in f64 and shows all it computes; [`Reference`] puts it behind
//! [`alexnet_core::Backend`] by rounding to f32 at the boundary, parameters and moments included.

pub(crate) mod convolution;
mod engine;
pub(crate) mod linear;
pub(crate) mod local_response_norm;
pub(crate) mod pooling;
pub(crate) mod update;

use std::collections::{BTreeMap, BTreeSet};

use alexnet_core::{
    Array, Batch, Images, Mode, Op, Optimizer, Result, State, Step, StepReport, Topology,
    backend::{Gradients, gradient_of},
    rng::dropout_scale,
};

pub use engine::Reference;

/// An f64 array, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The extent of each dimension; activations begin with the batch.
    pub shape: Vec<usize>,
    /// The elements; as many as the product of `shape`.
    pub values: Vec<f64>,
}

impl Tensor {
    /// All elements zero.
    pub fn zeros(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()] }
    }

    /// The same numbers in f64.
    pub fn from_array(array: &Array) -> Self {
        Self { shape: array.shape.clone(), values: array.values.iter().map(|v| f64::from(*v)).collect() }
    }

    /// Rounded to f32.
    pub fn to_array(&self) -> Array {
        Array { shape: self.shape.clone(), values: self.values.iter().map(|v| *v as f32).collect() }
    }

    /// Element by element.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { shape: self.shape.clone(), values: self.values.iter().map(|v| f(*v)).collect() }
    }

    /// Images as numbers, `[N, 3, H, W]`, by the f32 table of their normalization.
    pub fn from_images(images: &Images) -> Self {
        let table = images.normalization.table();
        let plane = images.height * images.width;
        let mut x = Self::zeros(&[images.len(), 3, images.height, images.width]);
        for (i, byte) in images.pixels.iter().enumerate() {
            let (n, position, channel) = (i / (3 * plane), i / 3 % plane, i % 3);
            x.values[(n * 3 + channel) * plane + position] = f64::from(table[channel][usize::from(*byte)]);
        }
        x
    }

    /// N.
    pub(crate) fn batch(&self) -> usize {
        self.shape[0]
    }

    /// `[N, C, H, W]` of an activation that is still an image.
    pub(crate) fn dimensions(&self) -> [usize; 4] {
        // The topology was validated, so operations on images see images.
        [self.shape[0], self.shape[1], self.shape[2], self.shape[3]]
    }
}

/// What each node made of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The batch as numbers, `[N, 3, H, W]`.
    pub input: Tensor,
    /// The output of each node, `[N, …]`.
    pub outputs: Vec<Tensor>,
}

impl Trace {
    /// What node `index` works on.
    pub fn input_of(&self, index: usize) -> &Tensor {
        if index == 0 { &self.input } else { &self.outputs[index - 1] }
    }

    /// The network's answer, `[N, C]`.
    pub fn logits(&self) -> &Tensor {
        self.outputs.last().unwrap_or(&self.input)
    }
}

/// What the backward pass gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Derivative {
    /// With respect to each parameter that learns, by name.
    pub parameters: BTreeMap<String, Tensor>,
    /// With respect to the input of each node; the first is the gradient of the batch.
    pub inputs: Vec<Tensor>,
}

/// A network in f64.
#[derive(Clone, Debug)]
pub struct Network {
    topology: Topology,
    optimizer: Optimizer,
    parameters: BTreeMap<String, Tensor>,
    moments: BTreeMap<String, Tensor>,
    frozen: BTreeSet<String>,
}

impl Network {
    /// Starts from an f32 state.
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
        })
    }

    /// The same network in which the parameters of these names do not learn ([`alexnet_core::Options::frozen`]).
    pub fn freeze(mut self, frozen: &BTreeSet<String>) -> Self {
        let learns = |moment: &str| moment.rsplit_once('.').is_none_or(|(name, _)| !frozen.contains(name));
        self.moments.retain(|moment, _| learns(moment));
        self.frozen.clone_from(frozen);
        self
    }

    /// The network as data.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &BTreeMap<String, Tensor> {
        &self.parameters
    }

    /// The optimizer's moments as they are now, by `parameter.moment`.
    pub fn moments(&self) -> &BTreeMap<String, Tensor> {
        &self.moments
    }

    /// Parameters and moments rounded to f32.
    pub fn state(&self) -> State {
        let round = |tensors: &BTreeMap<String, Tensor>| {
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_array())).collect()
        };
        State { parameters: round(&self.parameters), moments: round(&self.moments), ..State::default() }
    }

    /// Every node's output for a batch of images.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Shape`].
    pub fn forward(&self, images: &Images, mode: Mode) -> Result<Trace> {
        images.check(self.topology.input)?;
        Ok(self.forward_from(Tensor::from_images(images), mode))
    }

    /// Every node's output for `input` `[N, C, H, W]`.
    pub fn forward_from(&self, input: Tensor, mode: Mode) -> Trace {
        let mut trace = Trace { input, outputs: Vec::new() };
        for index in 0..self.topology.nodes.len() {
            let output = forward(&self.node(index, mode), trace.input_of(index));
            trace.outputs.push(output);
        }
        trace
    }

    /// The gradients of `Σ cotangent · logits`, with `cotangent` `[N, C]` and the trace and mode of the forward pass.
    pub fn backward(&self, trace: &Trace, cotangent: Tensor, mode: Mode) -> Derivative {
        let mut parameters = BTreeMap::new();
        let mut inputs = Vec::new();
        let mut dy = cotangent;
        for index in (0..self.topology.nodes.len()).rev() {
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

    /// The report and the unclipped gradients of one step of training, before the update.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Shape`].
    pub fn gradients(&self, batch: &Batch, step: &Step) -> Result<(StepReport, BTreeMap<String, Tensor>)> {
        batch.check(self.topology.input, self.topology.classes()?)?;
        let mode = step.mode();
        let trace = self.forward(&batch.images, mode)?;
        let (loss, cotangent) = cross_entropy(trace.logits(), &batch.targets);
        let gradients = self.backward(&trace, cotangent, mode).parameters;
        Ok((StepReport { loss, gradient_norm: norm(&gradients) }, gradients))
    }

    /// One step of training.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Shape`].
    pub fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        let (report, gradients) = self.gradients(batch, step)?;
        self.update(&gradients, step, report.gradient_norm);
        Ok(report)
    }

    /// Clips these gradients, which must be all, and updates with them; their norm before clipping.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Shape`].
    pub(crate) fn update_with(&mut self, gradients: &Gradients, step: &Step) -> Result<f64> {
        let learning = self.parameters.iter().filter(|(name, _)| !self.frozen.contains(*name));
        let gradients = learning
            .map(|(name, p)| Ok((name.clone(), Tensor::from_array(gradient_of(gradients, name, &p.shape)?))))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let norm = norm(&gradients);
        self.update(&gradients, step, norm);
        Ok(norm)
    }

    /// Clips the gradients of norm `gradient_norm` and updates their parameters with them.
    pub(crate) fn update(&mut self, gradients: &BTreeMap<String, Tensor>, step: &Step, gradient_norm: f64) {
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

    /// Rounds parameters and moments to f32, as an engine in f32 keeps them.
    pub(crate) fn round(&mut self) {
        for tensor in self.parameters.values_mut().chain(self.moments.values_mut()) {
            *tensor = tensor.map(|v| f64::from(v as f32));
        }
    }

    pub(crate) fn node(&self, index: usize, mode: Mode) -> NodeView<'_> {
        let node = &self.topology.nodes[index];
        let parameter = |role| self.parameters.get(&format!("{}.{role}", node.name));
        NodeView { op: &node.op, index, mode, parameters: parameter("weight").zip(parameter("bias")) }
    }
}

/// A node with all that its operation depends on beside its input.
#[derive(Clone, Copy)]
pub(crate) struct NodeView<'a> {
    pub op: &'a Op,
    /// In [`Topology::nodes`]; part of the key of the dropout masks.
    pub index: usize,
    pub mode: Mode,
    /// Weight and bias.
    pub parameters: Option<(&'a Tensor, &'a Tensor)>,
}

impl NodeView<'_> {
    fn weight_and_bias(&self) -> (&Tensor, &Tensor) {
        // `State::check` has seen both for every convolution and linear layer.
        self.parameters.expect("a checked state has the parameters of each node")
    }
}

/// One node, `[N, …]` to `[N, …]`.
pub(crate) fn forward(node: &NodeView, x: &Tensor) -> Tensor {
    match node.op {
        Op::Conv2d { .. } => {
            let (weight, bias) = node.weight_and_bias();
            convolution::forward(node.op, x, weight, bias)
        }
        Op::Relu => x.map(|v| if v <= 0.0 { 0.0 } else { v }),
        Op::MaxPool2d { kernel, stride } => pooling::forward(*kernel, *stride, x),
        Op::LocalResponseNorm { .. } => local_response_norm::forward(node.op, x),
        Op::Flatten => flatten(x),
        Op::Linear { .. } => {
            let (weight, bias) = node.weight_and_bias();
            linear::forward(x, weight, bias)
        }
        Op::Dropout { p } => dropout(node, *p, x),
    }
}

/// One node backward: its input and the gradient of its output, to the gradient of its input and of weight and bias.
pub(crate) fn backward(node: &NodeView, x: &Tensor, dy: &Tensor) -> (Tensor, Option<[Tensor; 2]>) {
    match node.op {
        Op::Conv2d { .. } => {
            let (weight, _) = node.weight_and_bias();
            let (dx, gradients) = convolution::backward(node.op, x, weight, dy);
            (dx, Some(gradients))
        }
        Op::Relu => {
            let values = x.values.iter().zip(&dy.values).map(|(x, dy)| if *x > 0.0 { *dy } else { 0.0 });
            (Tensor { shape: x.shape.clone(), values: values.collect() }, None)
        }
        Op::MaxPool2d { kernel, stride } => (pooling::backward(*kernel, *stride, x, dy), None),
        Op::LocalResponseNorm { .. } => (local_response_norm::backward(node.op, x, dy), None),
        Op::Flatten => (Tensor { shape: x.shape.clone(), values: dy.values.clone() }, None),
        Op::Linear { .. } => {
            let (weight, _) = node.weight_and_bias();
            let (dx, gradients) = linear::backward(x, weight, dy);
            (dx, Some(gradients))
        }
        // Linear in its input, with the same masks.
        Op::Dropout { p } => (dropout(node, *p, dy), None),
    }
}

fn flatten(x: &Tensor) -> Tensor {
    Tensor { shape: vec![x.shape[0], x.shape[1..].iter().product()], values: x.values.clone() }
}

fn dropout(node: &NodeView, p: f32, x: &Tensor) -> Tensor {
    let Mode::Train { seed, step, sample_offset } = node.mode else { return x.clone() };
    let mut y = x.clone();
    let features = x.shape[1..].iter().product();
    let mut scale = vec![0.0; features];
    for (item, row) in y.values.chunks_exact_mut(features).enumerate() {
        dropout_scale(seed, step, node.index, sample_offset + item, p, &mut scale);
        for (value, scale) in row.iter_mut().zip(&scale) {
            *value *= f64::from(*scale);
        }
    }
    y
}

/// Mean softmax cross-entropy of `logits` `[N, C]` with soft targets, and its gradient with respect to the logits.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &[f32]) -> (f64, Tensor) {
    let [n, classes] = [logits.shape[0], logits.shape[1]];
    let mut loss = 0.0;
    let mut gradient = Tensor::zeros(&logits.shape);
    for (i, row) in logits.values.chunks_exact(classes).enumerate() {
        let targets = &targets[i * classes..(i + 1) * classes];
        let largest = row.iter().fold(f64::NEG_INFINITY, |a, x| a.max(*x));
        let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
        let mass: f64 = targets.iter().map(|t| f64::from(*t)).sum();
        for (c, (x, t)) in row.iter().zip(targets).enumerate() {
            let log_softmax = x - largest - sum.ln();
            loss -= f64::from(*t) * log_softmax / n as f64;
            gradient.values[i * classes + c] = (log_softmax.exp() * mass - f64::from(*t)) / n as f64;
        }
    }
    (loss, gradient)
}

/// The L2 norm over all tensors.
pub(crate) fn norm(tensors: &BTreeMap<String, Tensor>) -> f64 {
    tensors.values().flat_map(|t| &t.values).map(|v| v * v).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;
