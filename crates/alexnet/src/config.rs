//! The configuration of a training run.

use std::{collections::BTreeSet, path::PathBuf};

use alexnet_core::{
    ExifOrientation, Normalization, Optimizer, Progress, Topology,
    alexnet::Variant,
    ema::Ema,
    init::Init,
    optimizer::Adam,
    schedule::{Schedule, Scheduler},
};
use alexnet_data::{
    augment::Augmentation,
    loader::{OnBadImage, Sampler, Shuffle},
    split::{Fold, SplitOptions},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{ClassWeights, DataSource, EngineConfig, Error, Result, source::VAL_FRACTION};

/// All settings of a training run. The default is the tutorial's; [`TrainConfig::recipe`] has more
/// presets.
///
/// The settings that decide the weights, and the engine, are the `args.toml` of a run: TOML, in
/// this order, with `-` for `_`.
///
/// Five settings may be open (`None`), because their values depend on what is read when the run
/// starts: `mean`, `std`, `val_resize_crop` and `exif_orientation` are then taken from the initial
/// weights, and `model_ema_steps` follows from the number of images. From the first step on, and in
/// `args.toml`, all settings have values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct TrainConfig {
    /// The engine and its device.
    #[serde(skip)]
    pub engine: EngineConfig,
    /// The folder of the run; `None` chooses the next free `runs/train…`.
    #[serde(skip)]
    pub run_dir: Option<PathBuf>,
    /// Saves a checkpoint after this number of steps, in addition to the one after each epoch.
    #[serde(skip)]
    pub checkpoint_every: Option<u64>,

    /// The images.
    #[serde(skip_serializing_if = "DataSource::is_default")]
    pub data: DataSource,
    /// Fraction of the images of each class used for validation if the folder is not split; at
    /// least 0, below 1. With 0 there is no validation, and the last weights are the best.
    pub val_fraction: f64,
    /// The fold of a cross-validation whose images are used for validation, instead of a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
    /// What happens when an image cannot be read.
    pub on_bad_image: OnBadImage,
    /// How the training images are shuffled in each epoch.
    pub shuffle: Shuffle,
    /// Which training images are used in each epoch.
    pub sampler: Sampler,
    /// The weights of the classes in the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Whether the EXIF or XMP orientation is applied to images. If open: as for the training of
    /// the initial weights, otherwise yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exif_orientation: Option<ExifOrientation>,

    /// The network.
    pub variant: Variant,
    /// The initialization of layers without given weights.
    pub init: Init,
    /// The weights file, or the run folder, with the initial weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// The modules whose layers are not trained, such as `features`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Subtracted from pixel values between 0 and 1, for red, green and blue. If open: that of the
    /// initial weights, otherwise 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f32; 3]>,
    /// Pixel values are divided by it after the mean is subtracted. If open: that of the initial
    /// weights, otherwise 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<[f32; 3]>,
    /// Pixels that the shorter side of a validation image is resized to before its center is cropped;
    /// 0: the whole image is resized to the network's input. If open: that of the initial weights,
    /// otherwise 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_resize_crop: Option<u32>,

    /// Images per batch; at least 1.
    pub batch_size: u32,

    /// The augmentation of images and targets in training.
    #[serde(flatten)]
    pub augmentation: Augmentation,

    /// The seed of the split, the initial weights, the order of the images, the augmentation and
    /// dropout.
    #[serde(serialize_with = "whole_number", deserialize_with = "number_or_text")]
    pub seed: u64,
    /// Passes over the training images; at least 1.
    pub epochs: u64,

    /// The optimizer.
    pub opt: Opt,
    /// Weight decay: added to the gradient by Adam and SGD, decoupled with AdamW.
    pub weight_decay: f32,
    /// Momentum of SGD.
    pub momentum: f32,
    /// The highest learning rate of the schedule.
    pub lr: f32,
    /// How the learning rate changes.
    pub lr_scheduler: LrScheduler,
    /// Epochs of linear warm-up at the start (see [`Schedule::warmup_epochs`]).
    pub warmup_epochs: u64,
    /// Epochs between two steps of [`LrScheduler::Step`].
    pub lr_step_size: u64,
    /// The factor of such a step, and of [`LrScheduler::Plateau`].
    pub lr_gamma: f64,
    /// Epochs without a higher validation accuracy before [`LrScheduler::Plateau`] reduces the rate.
    pub lr_patience: u64,
    /// The largest norm of the gradients; larger gradients are scaled down to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f32>,
    /// Batches whose gradients are averaged for one step; at least 1.
    pub accumulate: u32,
    /// Stops the run when the validation accuracy has not risen for this number of epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Whether an exponential moving average of the weights is evaluated and saved instead of the
    /// weights.
    pub model_ema: bool,
    /// The decay: the fraction of the average that remains at each update.
    pub model_ema_decay: f32,
    /// Steps between two updates of the average. If open: 16, or a sixth of an epoch if that is
    /// less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_ema_steps: Option<u64>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            engine: EngineConfig::default(),
            run_dir: None,
            checkpoint_every: None,
            data: DataSource::default(),
            val_fraction: VAL_FRACTION,
            fold: None,
            on_bad_image: OnBadImage::Error,
            shuffle: Shuffle::Full,
            sampler: Sampler::Uniform,
            class_weights: None,
            exif_orientation: None,
            variant: Variant::Tutorial,
            init: Init::Tutorial,
            weights: None,
            freeze: vec![],
            mean: None,
            std: None,
            val_resize_crop: None,
            batch_size: 32,
            augmentation: Augmentation::TUTORIAL,
            seed: 0,
            epochs: 10,
            opt: Opt::Adam,
            weight_decay: 0.0,
            momentum: 0.9,
            lr: 2e-4,
            lr_scheduler: LrScheduler::Constant,
            warmup_epochs: 0,
            lr_step_size: 30,
            lr_gamma: 0.1,
            lr_patience: 10,
            clip_grad_norm: None,
            accumulate: 1,
            patience: None,
            model_ema: false,
            model_ema_decay: 0.9,
            model_ema_steps: None,
        }
    }
}

/// A named preset of settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Recipe {
    /// The tutorial's settings; the defaults of all options
    #[default]
    Tutorial,
    /// More accuracy in about the time that the tutorial's script takes
    Fast,
    /// The highest accuracy, in about three times the time of `fast`
    Best,
    /// The training of the paper (2012), for data sets of the size of ImageNet
    Paper,
    /// The training of Caffe's `bvlc_alexnet`, for data sets of the size of ImageNet
    Caffe,
}

impl Recipe {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tutorial, Self::Fast, Self::Best, Self::Paper, Self::Caffe];

    /// Those for small data sets.
    pub const SMALL: [Self; 3] = [Self::Tutorial, Self::Fast, Self::Best];

    /// `tutorial`, `fast`, `best`, `paper` or `caffe`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tutorial => "tutorial",
            Self::Fast => "fast",
            Self::Best => "best",
            Self::Paper => "paper",
            Self::Caffe => "caffe",
        }
    }

    /// The settings of the preset that differ from the defaults, as TOML.
    pub fn text(self) -> &'static str {
        match self {
            Self::Tutorial => include_str!("../recipes/tutorial.toml"),
            Self::Fast => include_str!("../recipes/fast.toml"),
            Self::Best => include_str!("../recipes/best.toml"),
            Self::Paper => include_str!("../recipes/paper.toml"),
            Self::Caffe => include_str!("../recipes/caffe.toml"),
        }
    }
}

/// An optimizer by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Opt {
    /// Adam, whose weight decay is added to the gradient
    #[default]
    Adam,
    /// Adam with decoupled weight decay
    Adamw,
    /// Stochastic gradient descent with momentum
    Sgd,
    /// The same by the update rule of the paper, which differs when the learning rate changes
    SgdPaper,
}

impl Opt {
    /// PyTorch's default.
    pub fn weight_decay(self) -> f32 {
        match self {
            Self::Adamw => 0.01,
            Self::Adam | Self::Sgd | Self::SgdPaper => 0.0,
        }
    }
}

/// A schedule of learning rates by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum LrScheduler {
    /// Constant
    #[default]
    Constant,
    /// Down to 0 along a cosine
    Cosine,
    /// Up from a 25th, then down to nearly 0, along cosines
    Onecycle,
    /// Multiplied by a factor after each fixed number of epochs
    Step,
    /// Multiplied by a factor when the validation accuracy has stopped increasing
    Plateau,
}

impl TrainConfig {
    /// The settings of a preset.
    pub fn recipe(recipe: Recipe) -> Self {
        // A test parses each of them.
        toml::from_str(recipe.text()).unwrap_or_default()
    }

    /// Whether [`TrainConfig::patience`] ends the run now.
    pub(crate) fn is_stuck(&self, progress: &Progress) -> bool {
        self.patience.is_some_and(|patience| progress.is_stuck(patience))
    }

    /// Checks that each setting is within its limits.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Invalid`] for the first setting that is not.
    pub fn check(&self) -> Result<()> {
        let share = |value: f64| (0.0..1.0).contains(&value);
        let not_negative = |value: f64| value.is_finite() && value >= 0.0;
        let positive = |value: f32| value.is_finite() && value > 0.0;
        let count = |value: u64| (1..=u64::from(u32::MAX)).contains(&value);
        let finite =
            |colors: Option<[f32; 3]>| colors.is_none_or(|c| c.iter().all(|v| v.is_finite()));
        let share_text = "it must be at least 0 and below 1";
        let count_text = "it must be a whole number from 1 to 4294967295";
        let positive_text = "it must be a number above 0";
        let not_negative_text = "it must be a number of at least 0";
        let settings: [(&'static str, String, bool, &str); _] = [
            ("val_fraction", self.val_fraction.to_string(), share(self.val_fraction), share_text),
            ("mean", format!("{:?}", self.mean), finite(self.mean), "it must be three numbers"),
            (
                "std",
                format!("{:?}", self.std),
                self.std.is_none_or(|std| std.into_iter().all(positive)),
                "it must be three numbers above 0",
            ),
            (
                "batch_size",
                self.batch_size.to_string(),
                self.batch_size > 0,
                "it must be at least 1",
            ),
            ("epochs", self.epochs.to_string(), count(self.epochs), count_text),
            (
                "weight_decay",
                self.weight_decay.to_string(),
                not_negative(self.weight_decay.into()),
                not_negative_text,
            ),
            ("momentum", self.momentum.to_string(), share(self.momentum.into()), share_text),
            ("lr", self.lr.to_string(), positive(self.lr), positive_text),
            (
                "warmup_epochs",
                self.warmup_epochs.to_string(),
                self.warmup_epochs <= u64::from(u32::MAX),
                "it must be at most 4294967295",
            ),
            ("lr_step_size", self.lr_step_size.to_string(), count(self.lr_step_size), count_text),
            ("lr_gamma", self.lr_gamma.to_string(), not_negative(self.lr_gamma), not_negative_text),
            (
                "lr_gamma",
                self.lr_gamma.to_string(),
                self.lr_scheduler != LrScheduler::Plateau || share(self.lr_gamma),
                "with the schedule plateau it must be below 1",
            ),
            (
                "lr_patience",
                self.lr_patience.to_string(),
                self.lr_patience <= u64::from(u32::MAX),
                "it must be at most 4294967295",
            ),
            (
                "clip_grad_norm",
                format!("{:?}", self.clip_grad_norm),
                self.clip_grad_norm.is_none_or(positive),
                positive_text,
            ),
            (
                "accumulate",
                self.accumulate.to_string(),
                self.accumulate > 0,
                "it must be at least 1",
            ),
            (
                "patience",
                format!("{:?}", self.patience),
                self.patience.is_none_or(count),
                count_text,
            ),
            (
                "model_ema_decay",
                self.model_ema_decay.to_string(),
                share(self.model_ema_decay.into()),
                share_text,
            ),
            (
                "model_ema_steps",
                format!("{:?}", self.model_ema_steps),
                self.model_ema_steps.is_none_or(count),
                count_text,
            ),
            (
                "checkpoint_every",
                format!("{:?}", self.checkpoint_every),
                self.checkpoint_every.is_none_or(|n| n > 0),
                "it must be at least 1",
            ),
        ];
        match settings.into_iter().find(|(.., is_valid, _)| !is_valid) {
            Some((field, value, _, reason)) => {
                let reason = reason.to_owned();
                Err(Error::Core(alexnet_core::Error::Invalid { field, value, reason }))
            }
            None => Ok(self.augmentation.check()?),
        }
    }

    /// The optimizer with its constants.
    pub fn optimizer(&self) -> Optimizer {
        let Self { weight_decay, momentum, .. } = *self;
        match self.opt {
            Opt::Adam => Optimizer::Adam { adam: Adam::default(), weight_decay },
            Opt::Adamw => Optimizer::AdamW { adam: Adam::default(), weight_decay },
            Opt::Sgd => Optimizer::Sgd { momentum, weight_decay },
            Opt::SgdPaper => Optimizer::SgdPaper { momentum, weight_decay },
        }
    }

    /// The schedule of learning rates.
    pub fn schedule(&self) -> Schedule {
        let Self { lr, warmup_epochs, epochs, .. } = *self;
        let scheduler = match self.lr_scheduler {
            LrScheduler::Constant => Scheduler::Constant,
            LrScheduler::Cosine => Scheduler::Cosine,
            LrScheduler::Onecycle => Scheduler::OneCycle,
            LrScheduler::Step => Scheduler::Step { size: self.lr_step_size, gamma: self.lr_gamma },
            LrScheduler::Plateau => {
                Scheduler::Plateau { patience: self.lr_patience, gamma: self.lr_gamma }
            }
        };
        Schedule { scheduler, lr, warmup_epochs, epochs }
    }

    /// How a folder of class folders is split.
    pub fn split_options(&self) -> SplitOptions {
        SplitOptions { val_fraction: self.val_fraction, fold: self.fold, seed: self.seed }
    }

    /// The settings of the moving average, if one is configured. An open number of steps means the
    /// number that runs of earlier versions used.
    pub(crate) fn ema(&self) -> Option<Ema> {
        let steps = self.model_ema_steps.unwrap_or(Ema::STEPS);
        self.model_ema.then_some(Ema { decay: self.model_ema_decay, steps })
    }

    /// The normalization of pixel values; open values are 0.5.
    pub(crate) fn normalization(&self) -> Normalization {
        let Normalization { mean, std } = Normalization::HALF;
        Normalization { mean: self.mean.unwrap_or(mean), std: self.std.unwrap_or(std) }
    }

    /// The resized shorter side of a validation image, if its center is cropped.
    pub(crate) fn resize_crop(&self) -> Option<u32> {
        self.val_resize_crop.filter(|side| *side > 0)
    }

    /// The names of the parameters that are not trained.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Invalid`] when [`TrainConfig::freeze`] names a module that the
    /// network does not have.
    pub(crate) fn frozen(&self, topology: &Topology) -> Result<BTreeSet<String>> {
        let mut frozen = BTreeSet::new();
        for module in &self.freeze {
            frozen.extend(topology.parameters_of(module)?);
        }
        Ok(frozen)
    }
}

/// Writes a number as TOML's integer below 2⁶³, and as a string from there on, because TOML's
/// integers are signed.
fn whole_number<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    match i64::try_from(*number) {
        Ok(number) => serializer.serialize_i64(number),
        Err(_) => serializer.collect_str(number),
    }
}

/// Reads what [`whole_number`] writes.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => text.parse().map_err(de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_read_and_valid() {
        for recipe in Recipe::ALL {
            // Fails for unknown settings and for values out of their limits.
            let config = crate::saved::parse(recipe.text()).unwrap();
            assert_eq!(config, TrainConfig::recipe(recipe));
        }
        assert_eq!(TrainConfig::recipe(Recipe::Tutorial), TrainConfig::default());
        let fast = TrainConfig::recipe(Recipe::Fast);
        assert_eq!((fast.epochs, fast.opt, fast.weight_decay), (24, Opt::Adamw, 0.05));
        for recipe in [Recipe::Paper, Recipe::Caffe] {
            let config = TrainConfig::recipe(recipe);
            let sgd = Optimizer::SgdPaper { momentum: 0.9, weight_decay: 5e-4 };
            assert_eq!((config.optimizer(), config.lr), (sgd, 0.01));
        }
    }

    #[test]
    fn a_setting_out_of_its_limits_is_named() {
        let refused = |change: fn(&mut TrainConfig)| {
            let mut config = TrainConfig::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        for (change, field) in [
            ((|c| c.lr = f32::NAN) as fn(&mut TrainConfig), "lr cannot be NaN"),
            (|c| c.epochs = 0, "epochs cannot be 0"),
            (|c| c.batch_size = 0, "batch_size cannot be 0"),
            (|c| c.val_fraction = 1.0, "val_fraction cannot be 1"),
            (|c| c.augmentation.crop_scale = [0.9, 0.2], "crop_scale cannot be 0.9,0.2"),
            (|c| c.augmentation.hflip = 1.5, "hflip cannot be 1.5"),
            (|c| c.augmentation.rotation = 181.0, "rotation cannot be 181"),
            (|c| c.momentum = 1.0, "momentum cannot be 1"),
            (|c| c.std = Some([1.0, 0.0, 1.0]), "std cannot be"),
            (|c| c.mean = Some([f32::INFINITY; 3]), "mean cannot be"),
            (|c| c.accumulate = 0, "accumulate cannot be 0"),
            (|c| c.checkpoint_every = Some(0), "checkpoint_every cannot be"),
            (
                |c| (c.lr_scheduler, c.lr_gamma) = (LrScheduler::Plateau, 1.0),
                "lr_gamma cannot be 1: with the schedule plateau",
            ),
        ] {
            assert!(refused(change).starts_with(field), "{}", refused(change));
        }
    }
}
