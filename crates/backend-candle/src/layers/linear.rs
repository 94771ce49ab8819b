//! Linear layers.

use alexnet_core::{Layer, Mode, Result};
use candle_core::Tensor;

#[cfg(any(feature = "cuda", feature = "metal", test))]
use super::gpu::Implementation;
use super::seen;
#[cfg(any(feature = "cuda", feature = "metal", test))]
use crate::convolution;
use crate::{
    convolution::{Convolution, Window},
    error::failed,
};

/// `y = x·Wᵀ + b`, and a ReLU if one follows.
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Tensor,
    /// Whether one follows.
    pub relu: bool,
}

impl Linear {
    /// `x [N, inputs]` to `[N, outputs]`.
    fn apply(&self, x: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let (weight, bias) = (seen(&self.weight, mode), seen(&self.bias, mode));
        #[cfg(any(feature = "cuda", feature = "metal", test))]
        if Implementation::of_linear(x.device().location()) == Implementation::CandleNn {
            return self.candle_nn(x, &weight, &bias);
        }
        self.patches(x, &weight, &bias)
    }

    /// With the products of this engine: the convolution of a single pixel.
    fn patches(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        let (n, features) = x.dims2()?;
        let x = x.reshape((n, 1, 1, features))?;
        let convolution = Convolution { window: Window::PIXEL, relu: self.relu };
        convolution.apply(&x, weight, bias)?.flatten_from(1)
    }

    /// With candle-nn's layer.
    #[cfg(any(feature = "cuda", feature = "metal", test))]
    fn candle_nn(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        use candle_nn::Module;

        let y = candle_nn::Linear::new(weight.clone(), Some(bias.clone())).forward(x)?;
        if self.relu { convolution::relu(&y) } else { Ok(y) }
    }
}

impl Layer<Tensor> for Linear {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        self.apply(&x, mode).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{integers, with_gradients};

    /// As for convolutions: integers, so that the results are exact.
    #[test]
    fn candle_nn_multiplies_the_same() {
        let arguments = [integers(&[5, 12], 0), integers(&[7, 12], 1), integers(&[7], 2)];
        let [x, weight, bias] = arguments.each_ref().map(|var| var.as_tensor().clone());
        for relu in [false, true] {
            let layer = Linear { weight: weight.clone(), bias: bias.clone(), relu };
            let ours = with_gradients(&layer.patches(&x, &weight, &bias).unwrap(), &arguments);
            let theirs = layer.candle_nn(&x, &weight, &bias).unwrap();
            assert!(ours == with_gradients(&theirs, &arguments), "ReLU: {relu}");
            assert!(ours.iter().all(|values| values.iter().any(|value| *value != 0.0)));
        }
    }
}
