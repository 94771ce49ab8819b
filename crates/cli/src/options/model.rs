//! Which network, and what it begins with.

use std::path::PathBuf;

use alexnet::{
    TrainConfig,
    core::{alexnet::Variant, init::Init},
};
use clap::ValueEnum;

use crate::parse;

/// Which network, what it begins with and what it is shown.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Model")]
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
    pub weights: Option<PathBuf>,
    /// Do not train the layers of these modules: with features the classifier alone is trained
    #[arg(long, value_name = "MODULE,…", value_delimiter = ',')]
    pub freeze: Vec<String>,
    /// Subtracted from pixels between 0 and 1, for red, green and blue [default: that of --weights, else 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_parser = parse::colours, allow_hyphen_values = true)]
    pub mean: Option<[f32; 3]>,
    /// What they are divided by [default: that of --weights, else 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_parser = parse::positive_colours)]
    pub std: Option<[f32; 3]>,
}

impl ModelOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        let Self { variant, init, weights, freeze, mean, std } = self;
        config.variant = *variant;
        config.init = (*init).into();
        config.weights.clone_from(weights);
        config.freeze.clone_from(freeze);
        config.mean = *mean;
        config.std = *std;
    }
}

/// Initial weights by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
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
