//! Options for the network and its initial weights.

use std::path::PathBuf;

use alexnet::{
    TrainConfig,
    core::{alexnet::Variant, init::Init},
};
use clap::ValueEnum;

use crate::parse;

/// The network, its initial weights and the normalization of its input.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ModelOptions {
    /// Network: tutorial, original, original-norm-first or torchvision
    #[arg(long, value_name = "NAME", default_value_t)]
    pub variant: Variant,
    /// How weights are initialized
    #[arg(long, value_name = "NAME", value_enum, default_value = "tutorial")]
    pub init: InitName,
    /// Start with the weights of this .safetensors file or PyTorch .pth file; if its classes are
    /// not those of the data set, the last layer is replaced and initialized by --init
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Do not train the layers of these modules: with `features` only the classifier is trained
    #[arg(long, value_name = "MODULE,…", value_delimiter = ',')]
    pub freeze: Vec<String>,
    /// Mean to subtract from pixels, which are between 0 and 1 [default: that of --weights, else
    /// 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_parser = parse::colors, allow_hyphen_values = true)]
    pub mean: Option<[f32; 3]>,
    /// Standard deviation to divide pixels by [default: that of --weights, else 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_parser = parse::positive_colors)]
    pub std: Option<[f32; 3]>,
    /// In validation, resize the shorter side of images to N pixels and crop the center; 0: resize
    /// the whole image [default: that of --weights, else 0]
    #[arg(long, value_name = "N", value_parser = parse::at_least(0u32))]
    pub val_resize_crop: Option<u32>,
}

impl ModelOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        let Self { variant, init, weights, freeze, mean, std, val_resize_crop } = self;
        config.variant = *variant;
        config.init = (*init).into();
        config.weights.clone_from(weights);
        config.freeze.clone_from(freeze);
        config.mean = *mean;
        config.std = *std;
        config.val_resize_crop = *val_resize_crop;
    }
}

/// How weights are initialized.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum InitName {
    /// Convolutions Kaiming normal (fan-out), linear layers N(0, 0.01), biases 0
    Tutorial,
    /// Uniform within 1/√fan-in
    Pytorch,
    /// N(0, 0.01), the biases of some layers 1
    Paper,
    /// As paper, but these biases 0.1, and the hidden linear layers N(0, 0.005)
    Caffe,
}

impl From<InitName> for Init {
    fn from(name: InitName) -> Self {
        match name {
            InitName::Tutorial => Self::Tutorial,
            InitName::Pytorch => Self::Pytorch,
            InitName::Paper => Self::Paper,
            InitName::Caffe => Self::Caffe,
        }
    }
}
