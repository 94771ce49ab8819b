//! How the ranks of a run divide the computation.

use std::fmt;

/// How ranks divide the computation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Parallel {
    /// Each rank has the whole network and a share of the images; gradients are added
    #[default]
    Data,
    /// Convolutions as in `data`; each rank has a share of the linear layers' weights, and
    /// activations are exchanged (engine `cpu`)
    Hybrid,
    /// Both of two ranks process all images; each has half of the channels and a share of the linear
    /// layers' weights (networks with two groups, engine `cpu`)
    Towers,
}

impl fmt::Display for Parallel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Hybrid => "hybrid",
            Self::Towers => "towers",
        })
    }
}
