//! Linear layers.

use alexnet_core::{Layer, Mode, Result};
use tch::{Kind, Tensor};

use super::converted;
use crate::error::failed;

/// `torch.nn.functional.linear`.
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
    /// The type of the factors and of the bias.
    pub factors: Kind,
}

impl Layer<Tensor> for Linear {
    fn forward(&mut self, x: Tensor, _mode: Mode) -> Result<Tensor> {
        let multiply = || {
            let [x, weight, bias] = converted([&x, &self.weight, &self.bias], self.factors)?;
            x.f_linear(&weight, Some(&bias))?.f_to_kind(Kind::Float)
        };
        multiply().map_err(failed)
    }
}
