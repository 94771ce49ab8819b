//! The engine boundary: object-safe, so that the engine is chosen at run time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{Array, Batch, Error, Images, Logits, Mode, Optimizer, Parameters, Result, State, Topology};

/// A place where an engine computes; in files and on the command line `cpu`, `cuda`, `cuda:N` or `metal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Device {
    /// The host's processors.
    #[default]
    Cpu,
    /// An NVIDIA GPU by its number.
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
            _ => Err(format!("no device `{}`; use cpu, cuda, cuda:N or metal", crate::text::shown(text))),
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

/// What [`Backend::compile`] needs beside the network and its state.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where to compute.
    pub device: Device,
    /// How [`Model::train_step`] updates.
    pub optimizer: Optimizer,
    /// Names of parameters that are not trainable (`requires_grad = False` in PyTorch), such as
    /// [`Topology::parameters_of`] gives. They keep their bits, weight decay or not; they have no moments, and those that
    /// a state brings along are dropped; they are neither in the gradients nor in their norm. No derivative is taken
    /// below the lowest trainable layer.
    pub frozen: BTreeSet<String>,
}

impl Options {
    /// Checks that the frozen parameters exist and that a trainable one is left.
    ///
    /// # Errors
    /// [`Error::Invalid`] when not, [`Error::Topology`] when the network is not valid.
    pub fn check(&self, topology: &Topology) -> Result<()> {
        let names: BTreeSet<String> = topology.parameters()?.into_iter().map(|p| p.name).collect();
        let refuse =
            |value, reason: &str| Err(Error::Invalid { field: "frozen", value, reason: reason.into() });
        if let Some(unknown) = self.frozen.difference(&names).next() {
            return refuse(format!("`{unknown}`"), "the network has no such parameter");
        }
        if !names.is_empty() && self.frozen == names {
            return refuse("the whole network".into(), "no trainable parameter is left");
        }
        Ok(())
    }
}

/// An engine.
pub trait Backend: Send + Sync {
    /// `cpu`, `candle`, `tch`.
    fn name(&self) -> &'static str;

    /// The devices present on this machine.
    fn devices(&self) -> Vec<Device>;

    /// Whether convolutions are exact as long as every partial sum is an integer below 2²⁴, as sums of products are.
    /// Winograd's are not, and are held to the error bound of real numbers instead.
    fn exact_convolutions(&self) -> bool {
        true
    }

    /// Lowers a network to something that runs, starting from `state`.
    ///
    /// # Errors
    /// [`Error::Topology`], [`Error::Parameters`] when `state` does not fit, [`Error::Invalid`] as [`Options::check`],
    /// [`Error::Device`].
    fn compile(&self, topology: &Topology, state: &State, options: &Options) -> Result<Box<dyn Model>>;
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Counts from 1 over the whole run: Adam's t, and the key of the dropout masks.
    pub number: u64,
    /// The run's seed, another part of that key.
    pub seed: u64,
    /// Where the batch's first image stands among those of the step: above 0 when a step's gradient is accumulated over
    /// several batches. The last part of that key.
    pub sample_offset: usize,
    /// Learning rate.
    pub lr: f32,
    /// Gradients are scaled so that their norm over all trainable parameters is at most this
    /// (`torch.nn.utils.clip_grad_norm_`).
    pub clip_grad_norm: Option<f32>,
}

impl Step {
    /// The mode of the forward pass.
    pub fn mode(&self) -> Mode {
        Mode::Train { seed: self.seed, step: self.number, sample_offset: self.sample_offset }
    }

    /// What the gradients are multiplied by before the update, for a norm of `gradient_norm`:
    /// `torch.nn.utils.clip_grad_norm_`'s factor, or 1.
    pub fn gradient_scale(&self, gradient_norm: f64) -> f64 {
        self.clip_grad_norm.map_or(1.0, |most| (f64::from(most) / (gradient_norm + 1e-6)).min(1.0))
    }
}

/// What a step saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean cross-entropy over the batch, before the update.
    pub loss: f64,
    /// The gradient's L2 norm over all trainable parameters, before clipping.
    pub gradient_norm: f64,
}

/// Gradients by the names of the trainable parameters.
pub type Gradients = BTreeMap<String, Array>;

/// A network on an engine.
pub trait Model: Send {
    /// The network's answer in evaluation mode, `[N, C]`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn logits(&mut self, images: &Images) -> Result<Logits>;

    /// One step of training: forward with dropout, mean softmax cross-entropy, backward, update.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport>;

    /// What [`Model::train_step`] does up to the update: the report and the gradients, unclipped.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn gradients(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Gradients)>;

    /// What [`Model::train_step`] does from the gradients on: clips and updates. `gradients` are those of all trainable
    /// parameters. Returns their L2 norm before clipping.
    ///
    /// # Errors
    /// [`Error::Shape`] when a gradient is missing or of another shape.
    fn update(&mut self, gradients: &Gradients, step: &Step) -> Result<f64>;

    /// The vector-Jacobian product in evaluation mode: gradients of `Σ cotangent · logits`, with `cotangent` `[N, C]`.
    /// The conformance suite isolates single operations with it.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients>;

    /// Parameters and moments as they are now.
    ///
    /// # Errors
    /// What the engine's tensor library refuses.
    fn state(&self) -> Result<State>;

    /// The parameters alone, as they are now.
    ///
    /// # Errors
    /// What the engine's tensor library refuses.
    fn parameters(&self) -> Result<Parameters> {
        Ok(self.state()?.parameters)
    }
}

/// The gradient of the parameter `name` among `gradients`.
///
/// # Errors
/// [`Error::Shape`] when it is missing or of another shape.
pub fn gradient_of<'a>(gradients: &'a Gradients, name: &str, shape: &[usize]) -> Result<&'a Array> {
    let found = gradients.get(name);
    found.filter(|gradient| gradient.shape == shape).ok_or_else(|| Error::Shape {
        what: format!("the gradient of {name}"),
        expected: format!("{shape:?}"),
        found: found.map_or("none".into(), |gradient| format!("{:?}", gradient.shape)),
    })
}

/// Checks a cotangent against the number of images and of classes.
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
