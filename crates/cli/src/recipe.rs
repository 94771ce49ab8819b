//! What decides the weights: the options of a training run, on the command line and in files.

use std::{collections::BTreeSet, path::PathBuf};

use alexnet_core::{
    ExifOrientation, Normalization, Optimizer, Topology,
    alexnet::Variant,
    ema::Ema,
    init::Init,
    optimizer::Adam,
    schedule::{Schedule, Scheduler},
};
use alexnet_data::{augment, dataset::Dataset, loader::OnBadImage};
use anyhow::Result;
use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::{exif::Turning, parse};

/// The tutorial's passes over the training photos.
pub const DEFAULT_EPOCHS: u64 = 10;

/// The options that decide the weights.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recipe {
    #[command(flatten)]
    #[serde(flatten)]
    pub setup: Setup,
    /// Passes over the training images [default: 10, or those of the resumed run]
    #[arg(long, help_heading = "Optimisation", display_order = 0, value_name = "N", value_parser = parse::count)]
    pub epochs: Option<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub optimisation: Optimisation,
}

/// What batches and a network are made from, before anything is learnt.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Setup {
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelOptions,
    /// Images of a batch, from which a gradient is computed
    #[arg(short, long, help_heading = "Optimisation", value_name = "N", default_value_t = 32, value_parser = parse::at_least(1u32))]
    pub batch_size: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub augmentation: Augmentation,
    /// Decides the split, the initial weights, the order, the augmentation and the dropout
    #[arg(long, help_heading = "Run", value_name = "N", default_value_t = 0, value_parser = parse::at_least(0u64))]
    #[serde(serialize_with = "whole_number")]
    pub seed: u64,
}

/// Which photos, and how they are read.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Data")]
#[serde(rename_all = "kebab-case")]
pub struct DataOptions {
    /// Folder with train/ and val/, folder of class folders, or .tgz, .tar or .zip [default: data/flower_photos, else drawn flowers]
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Share of each class that validates, where the folder is not split
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = parse::fraction)]
    pub val_fraction: f64,
    /// What happens when an image cannot be read [default: error]
    #[arg(long, value_name = "ACTION", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_bad_image: Option<BadImage>,
    /// Whether images are turned as their EXIF or XMP says [default: that of --weights, else apply]
    #[arg(long, value_name = "ACTION", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exif_orientation: Option<Turning>,
}

impl DataOptions {
    /// Whether images are turned.
    pub fn exif_orientation(&self) -> ExifOrientation {
        self.exif_orientation.map(ExifOrientation::from).unwrap_or_default()
    }
}

/// Which network, what it begins with and what it is shown.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Model")]
#[serde(rename_all = "kebab-case")]
pub struct ModelOptions {
    /// Network: tutorial, original, original-norm-first or torchvision
    #[arg(long, value_name = "NAME", default_value_t)]
    pub variant: Variant,
    /// Initial weights
    #[arg(long, value_name = "NAME", value_enum, default_value = "tutorial")]
    pub init: InitName,
    /// Begin with the weights of this file instead, .safetensors or PyTorch's .pth; if it knows other classes, its last layer is
    /// replaced by one drawn as --init says
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Do not train the layers of these modules: with features the classifier alone is trained
    #[arg(long, value_name = "MODULE,…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Subtracted from pixels between 0 and 1, for red, green and blue [default: that of --weights, else 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_parser = parse::colours, allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f32; 3]>,
    /// What they are divided by [default: that of --weights, else 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_parser = parse::positive_colours)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<[f32; 3]>,
}

/// How weights follow from gradients, and which of them are kept.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Optimisation")]
#[serde(rename_all = "kebab-case")]
pub struct Optimisation {
    #[command(flatten)]
    #[serde(flatten)]
    pub equations: Equations,
    #[command(flatten)]
    #[serde(flatten)]
    pub rates: Rates,
    #[command(flatten)]
    #[serde(flatten)]
    pub steps: Steps,
    /// End early when the accuracy has not risen for N epochs
    #[arg(long, value_name = "N", value_parser = parse::count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Evaluate and keep an exponential moving average of the weights
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub model_ema: bool,
    /// Share of the average that is kept each time it moves
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = parse::fraction_f32)]
    pub model_ema_decay: f32,
    /// Steps between two moves of the average [default: 16, or a sixth of an epoch where that is less]
    #[arg(long, value_name = "N", value_parser = parse::count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_ema_steps: Option<u64>,
}

/// The optimiser, whatever the learning rate.
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Optimisation")]
#[serde(rename_all = "kebab-case")]
pub struct Equations {
    /// Optimiser
    #[arg(long, value_name = "NAME", value_enum, default_value = "adam")]
    pub opt: Opt,
    /// Weight decay: added to the gradient, or with adamw taken off the weights [default: 0, with adamw 0.01]
    #[arg(long, value_name = "λ", value_parser = parse::not_negative_f32)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f32>,
    /// Momentum of sgd
    #[arg(long, value_name = "μ", default_value_t = 0.9, value_parser = parse::fraction_f32)]
    pub momentum: f32,
}

/// The learning rate of each step.
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Optimisation")]
#[serde(rename_all = "kebab-case")]
pub struct Rates {
    /// Learning rate, the highest of the schedule
    #[arg(long, value_name = "RATE", default_value_t = 2e-4, value_parser = parse::positive)]
    pub lr: f32,
    /// How the learning rate changes
    #[arg(long, value_name = "NAME", value_enum, default_value = "constant")]
    pub lr_scheduler: LrScheduler,
    /// Epochs in which the learning rate first rises, from a hundredth of it; with onecycle from a 25th, where 0 means 30 % of the run
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse::count_or_none)]
    pub warmup_epochs: u64,
    /// Epochs between two steps of the scheduler step
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = parse::count)]
    pub lr_step_size: u64,
    /// What a step of the scheduler step multiplies by
    #[arg(long, value_name = "γ", default_value_t = 0.1, value_parser = parse::not_negative)]
    pub lr_gamma: f64,
}

/// What a step is made from.
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Optimisation")]
#[serde(rename_all = "kebab-case")]
pub struct Steps {
    /// Scale gradients down to this norm
    #[arg(long, value_name = "NORM", value_parser = parse::positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f32>,
    /// Average the gradients of this many batches for one step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse::at_least(1u32))]
    pub accumulate: u32,
}

/// How training varies pictures and targets.
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Augmentation")]
#[serde(rename_all = "kebab-case")]
pub struct Augmentation {
    /// Least and largest share of an image's area that a training crop covers
    #[arg(long, value_name = "MIN,MAX", default_value = "0.08,1", value_parser = parse::shares)]
    pub crop_scale: [f64; 2],
    /// Vary brightness, contrast and saturation by factors of 1 ± this
    #[arg(long, value_name = "STRENGTH", default_value_t = 0.0, value_parser = parse::not_negative)]
    pub color_jitter: f64,
    /// Probability that a rectangle of a training image is erased
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse::probability)]
    pub random_erasing: f64,
    /// Share of each target that is spread evenly over all classes
    #[arg(long, value_name = "ε", default_value_t = 0.0, value_parser = parse::fraction)]
    pub label_smoothing: f64,
    /// Blend the images of a batch and their targets, by shares of Beta(α, α)
    #[arg(long, value_name = "α", default_value_t = 0.0, value_parser = parse::not_negative)]
    pub mixup: f64,
    /// Paste a part of another image of the batch, of an area of Beta(α, α); with --mixup a batch gets one or the other
    #[arg(long, value_name = "α", default_value_t = 0.0, value_parser = parse::not_negative)]
    pub cutmix: f64,
}

impl Augmentation {
    /// For the loader.
    pub fn augmentation(&self) -> augment::Augmentation {
        let Self { crop_scale, color_jitter, random_erasing, label_smoothing, mixup, cutmix } = *self;
        augment::Augmentation { crop_scale, color_jitter, random_erasing, label_smoothing, mixup, cutmix }
    }
}

impl Equations {
    /// For the engine.
    pub fn optimizer(&self) -> Optimizer {
        let weight_decay = self.weight_decay.unwrap_or(self.opt.weight_decay());
        match self.opt {
            Opt::Adam => Optimizer::Adam { adam: Adam::default(), weight_decay },
            Opt::Adamw => Optimizer::AdamW { adam: Adam::default(), weight_decay },
            Opt::Sgd => Optimizer::Sgd { momentum: self.momentum, weight_decay },
        }
    }
}

impl Rates {
    /// Those of a run of so many epochs.
    pub fn schedule(&self, epochs: u64) -> Schedule {
        let Self { lr, lr_scheduler, warmup_epochs, lr_step_size, lr_gamma } = *self;
        let scheduler = match lr_scheduler {
            LrScheduler::Constant => Scheduler::Constant,
            LrScheduler::Cosine => Scheduler::Cosine,
            LrScheduler::Onecycle => Scheduler::OneCycle,
            LrScheduler::Step => Scheduler::Step { size: lr_step_size, gamma: lr_gamma },
        };
        Schedule { scheduler, lr, warmup_epochs, epochs }
    }
}

impl Optimisation {
    /// The moving average, if there is one.
    pub fn ema(&self) -> Option<Ema> {
        let steps = self.model_ema_steps.unwrap_or(Ema::STEPS);
        self.model_ema.then_some(Ema { decay: self.model_ema_decay, steps })
    }
}

impl Recipe {
    /// The learning rates.
    pub fn schedule(&self) -> Schedule {
        self.optimisation.rates.schedule(self.epochs.unwrap_or(DEFAULT_EPOCHS))
    }
}

impl Setup {
    /// How the pixels are normalised.
    pub fn normalization(&self) -> Normalization {
        let Normalization { mean, std } = Normalization::HALF;
        Normalization { mean: self.model.mean.unwrap_or(mean), std: self.model.std.unwrap_or(std) }
    }

    /// The network for these photos.
    pub fn topology(&self, dataset: &Dataset) -> Topology {
        self.model.variant.topology(dataset.classes.len())
    }

    /// The names of the parameters that do not learn.
    ///
    /// # Errors
    /// When `--freeze` names what the network has not.
    pub fn frozen(&self, topology: &Topology) -> Result<BTreeSet<String>> {
        let mut frozen = BTreeSet::new();
        for module in &self.model.freeze {
            frozen.extend(topology.parameters_of(module)?);
        }
        Ok(frozen)
    }
}

/// As a number where TOML has one, which ends at 2⁶³, and as a text above, which is read alike.
fn whole_number<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    match i64::try_from(*number) {
        Ok(number) => serializer.serialize_i64(number),
        Err(_) => serializer.collect_str(number),
    }
}

/// An optimiser by name.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opt {
    /// Adam, whose weight decay is added to the gradient
    Adam,
    /// Adam with decoupled weight decay
    Adamw,
    /// Stochastic gradient descent with momentum
    Sgd,
}

impl Opt {
    /// PyTorch's default.
    pub fn weight_decay(self) -> f32 {
        match self {
            Self::Adamw => 0.01,
            Self::Adam | Self::Sgd => 0.0,
        }
    }
}

/// A schedule by name.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrScheduler {
    /// Not at all
    Constant,
    /// Down to 0 along half a cosine
    Cosine,
    /// Up from a 25th, then down to nearly 0, along cosines
    Onecycle,
    /// In steps: --lr-step-size, --lr-gamma
    Step,
}

/// Initial weights by name.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitName {
    /// Convolutions Kaiming normal (fan-out), linear layers N(0, 0.01), biases 0
    Tutorial,
    /// Uniform within 1/√fan-in
    Pytorch,
    /// N(0, 0.01), some biases 1
    Paper,
}

impl From<InitName> for Init {
    fn from(name: InitName) -> Self {
        match name {
            InitName::Tutorial => Self::Tutorial,
            InitName::Pytorch => Self::Pytorch,
            InitName::Paper => Self::Paper,
        }
    }
}

/// What happens when an image cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadImage {
    /// Stop and name it
    #[default]
    Error,
    /// Leave it out and say so
    Skip,
}

impl From<BadImage> for OnBadImage {
    fn from(choice: BadImage) -> Self {
        match choice {
            BadImage::Error => Self::Error,
            BadImage::Skip => Self::Skip,
        }
    }
}
