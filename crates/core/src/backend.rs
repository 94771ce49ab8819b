//! The interface of an engine. It is object-safe, so that the engine can be chosen at run time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    Array, Batch, Error, Images, Inspection, Logits, Mode, Optimizer, Parameters, ReluRule, Result,
    State, Topology, sum_order::MicroBatch,
};

/// A device on which an engine computes; written as `cpu`, `cuda`, `cuda:N` or `metal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Device {
    /// The host's processors.
    #[default]
    Cpu,
    /// The NVIDIA GPU with this index.
    Cuda(usize),
    /// The GPU of an Apple machine.
    Metal,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            None if text == "metal" => Ok(Self::Metal),
            Some(("cuda", index)) if index.parse::<usize>().is_ok() => {
                Ok(Self::Cuda(index.parse().unwrap_or_default()))
            }
            _ => Err(format!(
                "unknown device `{}`; use cpu, cuda, cuda:N or metal",
                crate::text::shown(text)
            )),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The precision of the factors of products, in convolutions and linear layers. Weights, moments and
/// everything else are in f32; so are sums and gradients on the engine `cpu`. On `tch`, biases,
/// results and gradients of these layers have the same precision, as in PyTorch's autocast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 24 bits.
    #[default]
    F32,
    /// 8 bits: both factors are rounded to bf16.
    Bf16,
}

impl Precision {
    /// Returns its name: `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("unknown precision `{}`; use f32 or bf16", crate::text::shown(text))),
        }
    }
}

/// The options of [`Backend::compile`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The device to compute on.
    pub device: Device,
    /// The optimizer of [`Model::train_step`].
    pub optimizer: Optimizer,
    /// Names of parameters that are not trainable (`requires_grad = False` in PyTorch), for example
    /// from [`Topology::parameters_of`]. Training does not change a bit of them, even with weight
    /// decay. They have no moments (those in a loaded state are dropped), no gradients, and no
    /// share in the gradient norm. The backward pass stops at the lowest trainable layer.
    pub frozen: BTreeSet<String>,
    /// Names of the nodes whose outputs [`Model::inspect`] returns, with their gradients. If there
    /// are any, all layers compute the gradients of their inputs. For training it should be empty,
    /// since operations are not fused across an observed node.
    pub observed: BTreeSet<String>,
}

impl Options {
    /// Checks that the frozen parameters and the observed nodes exist, and that at least one
    /// parameter is trainable unless nodes are observed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if not, [`Error::Topology`] if the network is not valid.
    pub fn check(&self, topology: &Topology) -> Result<()> {
        let names: BTreeSet<String> = topology.parameters()?.into_iter().map(|p| p.name).collect();
        let refuse = |field, value, reason: &str| {
            Err(Error::Invalid { field, value, reason: reason.into() })
        };
        if let Some(unknown) = self.frozen.difference(&names).next() {
            return refuse("frozen", format!("`{unknown}`"), "the network has no such parameter");
        }
        if !names.is_empty() && self.frozen == names && self.observed.is_empty() {
            return refuse("frozen", "the whole network".into(), "no trainable parameter is left");
        }
        let is_node = |name: &&String| topology.nodes.iter().any(|node| node.name == **name);
        match self.observed.iter().find(|name| !is_node(name)) {
            Some(unknown) => {
                refuse("observed", format!("`{unknown}`"), "the network has no such node")
            }
            None => Ok(()),
        }
    }
}

/// An engine.
pub trait Backend: Send + Sync {
    /// Returns its name: `cpu`, `candle` or `tch`.
    fn name(&self) -> &'static str;

    /// Returns the devices of this machine that it can use.
    fn devices(&self) -> Vec<Device>;

    /// Whether convolutions are exact if every partial sum is an integer below 2²⁴. This holds for
    /// plain sums of products, but not for Winograd convolutions; these are tested with the error
    /// bound for real numbers instead.
    fn exact_convolutions(&self) -> bool {
        true
    }

    /// Creates a runnable model of the network, with the parameters and moments of `state`, whose
    /// arrays it may keep instead of copying them.
    ///
    /// # Errors
    /// [`Error::Topology`], [`Error::Parameters`] when `state` does not fit, [`Error::Invalid`] as
    /// [`Options::check`], [`Error::Device`].
    fn compile(
        &self,
        topology: &Topology,
        state: State,
        options: &Options,
    ) -> Result<Box<dyn Model>>;
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The number of the step, from 1 over the whole run: Adam's t, and a part of the key of the
    /// dropout masks.
    pub number: u64,
    /// The run's seed, the second part of that key.
    pub seed: u64,
    /// Which images of the step the batch has; `None` if it has all of them. The index of an image
    /// among the images of the step is the last part of that key.
    pub micro_batch: Option<MicroBatch>,
    /// The learning rate.
    pub lr: f32,
    /// The upper limit of the gradients' norm over all trainable parameters; larger gradients are
    /// scaled down (`torch.nn.utils.clip_grad_norm_`).
    pub clip_grad_norm: Option<f32>,
}

impl Step {
    /// Returns the mode of the forward pass.
    pub fn mode(&self) -> Mode {
        Mode::Train { seed: self.seed, step: self.number, micro_batch: self.micro_batch }
    }

    /// Returns the factor that the gradients are multiplied by before the update if their norm is
    /// `gradient_norm`: that of `torch.nn.utils.clip_grad_norm_`, or 1 without clipping.
    pub fn gradient_scale(&self, gradient_norm: f64) -> f64 {
        self.clip_grad_norm.map_or(1.0, |most| (f64::from(most) / (gradient_norm + 1e-6)).min(1.0))
    }
}

/// The loss and the gradient norm of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean cross-entropy over the images of the step, before the update. Of a micro-batch: its
    /// share of this mean.
    pub loss: f64,
    /// The gradient's L2 norm over all trainable parameters, before clipping.
    pub gradient_norm: f64,
}

/// Gradients by the names of the trainable parameters.
pub type Gradients = BTreeMap<String, Array>;

/// A network on an engine.
pub trait Model: Send {
    /// Returns the logits `[N, C]` in evaluation mode.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn logits(&mut self, images: &Images) -> Result<Logits>;

    /// Takes part in the computation of the logits of other ranks, without images of its own. Only a
    /// model whose parameters are divided among ranks does anything: for it, all ranks must call
    /// [`Model::logits`] or this method at the same time.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    fn take_part(&mut self) -> Result<()> {
        Ok(())
    }

    /// Does one training step: forward pass with dropout, mean softmax cross-entropy, backward
    /// pass, update.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport>;

    /// Does the part of [`Model::train_step`] before the update. Returns the report and the
    /// unclipped gradients.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn gradients(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Gradients)>;

    /// Does the same as [`Model::gradients`], but calls `hand_out` with the name and the gradient of
    /// each trainable parameter as soon as it is complete, so that gradients can be added over
    /// processes during the rest of the backward pass. Returns the loss. The order of the parameters
    /// is the same in each step.
    ///
    /// A model that divides parameters among ranks computes their gradients over the images of all
    /// ranks. It does not hand them out, and may update those parameters here already:
    /// [`Model::update`] must follow.
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::Ranks`].
    fn hand_out_gradients(
        &mut self,
        batch: &Batch,
        step: &Step,
        hand_out: &mut (dyn FnMut(String, Array) + Send),
    ) -> Result<f64> {
        let (report, gradients) = self.gradients(batch, step)?;
        gradients.into_iter().for_each(|(name, gradient)| hand_out(name, gradient));
        Ok(report.loss)
    }

    /// Does the part of [`Model::train_step`] after the backward pass: clips the gradients and
    /// updates the parameters. `gradients` must contain all trainable parameters, except those that
    /// are divided among ranks. Returns the L2 norm of all gradients before clipping.
    ///
    /// # Errors
    /// [`Error::Shape`] when a gradient is missing or has the wrong shape; [`Error::Ranks`].
    fn update(&mut self, gradients: &Gradients, step: &Step) -> Result<f64>;

    /// Returns the vector-Jacobian product in evaluation mode: the gradients of `Σ cotangent ·
    /// logits`, with `cotangent` `[N, C]`. The conformance suite tests single operations with it.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients>;

    /// Returns, in evaluation mode, the outputs of the observed nodes ([`Options::observed`]) and
    /// the gradients of `Σ cotangent · logits` with respect to them and to the images, with
    /// `cotangent` `[N, C]` and `rule` for the backward pass of the ReLUs.
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::Invalid`] when no node is observed, or `rule` is
    /// [`ReluRule::Guided`] and a ReLU is not observed.
    fn inspect(
        &mut self,
        images: &Images,
        cotangent: &Logits,
        rule: ReluRule,
    ) -> Result<Inspection>;

    /// Returns the current parameters and moments. If parameters are divided among ranks, all ranks
    /// must call this method at the same time: rank 0 gets all rows, each other rank those that it
    /// has.
    ///
    /// # Errors
    /// Those of the engine's tensor library; [`Error::Ranks`].
    fn state(&self) -> Result<State>;

    /// Returns the current parameters. If they are divided among ranks, all ranks must call this
    /// method at the same time, and each gets all rows.
    ///
    /// # Errors
    /// As [`Model::state`].
    fn parameters(&self) -> Result<Parameters> {
        Ok(self.state()?.parameters)
    }
}

/// Returns the gradient of the parameter `name`.
///
/// # Errors
/// [`Error::Shape`] when it is missing or its shape is not `shape`.
pub fn gradient_of<'a>(gradients: &'a Gradients, name: &str, shape: &[usize]) -> Result<&'a Array> {
    let found = gradients.get(name);
    found.filter(|gradient| gradient.shape == shape).ok_or_else(|| Error::Shape {
        what: format!("the gradient of {name}"),
        expected: format!("{shape:?}"),
        found: found.map_or("none".into(), |gradient| format!("{:?}", gradient.shape)),
    })
}

/// Checks the shape of a cotangent against the numbers of images and classes.
///
/// # Errors
/// [`Error::Shape`].
pub fn check_cotangent(cotangent: &Logits, images: usize, classes: usize) -> Result<()> {
    if cotangent.classes == classes && cotangent.values.len() == images * classes {
        return Ok(());
    }
    Err(Error::Shape {
        what: "the cotangent".into(),
        expected: format!("[{images}, {classes}]"),
        found: format!("{} numbers in rows of {}", cotangent.values.len(), cotangent.classes),
    })
}
