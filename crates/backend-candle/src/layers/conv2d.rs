//! Convolution.

use alexnet_core::{Layer, Mode, Result};
use candle_core::Tensor;

use super::for_mode;
#[cfg(any(feature = "cuda", feature = "metal", test))]
use super::gpu::Implementation;
#[cfg(any(feature = "cuda", feature = "metal", test))]
use crate::convolution;
use crate::{convolution::Convolution, error::failed};

/// Cross-correlation with bias and an optional fused ReLU.
pub struct Conv2d {
    /// `[outputs, kernel, kernel, inputs/groups]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Tensor,
    /// The number of groups of channels that are convolved separately.
    pub groups: usize,
    /// The convolution of each group.
    pub convolution: Convolution,
}

impl Conv2d {
    /// Computes the output `[N, rows, columns, outputs]` from `x [N, H, W, C]`.
    fn apply(&self, x: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let (weight, bias) = (for_mode(&self.weight, mode), for_mode(&self.bias, mode));
        #[cfg(any(feature = "cuda", feature = "metal", test))]
        if Implementation::of_convolution(x.device().location(), mode, &self.convolution.window)
            == Implementation::CandleNn
        {
            return self.candle_nn(x, &weight, &bias);
        }
        self.patches(x, &weight, &bias)
    }

    /// Computes it with the convolution of this engine.
    fn patches(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        let weight = weight.flatten_from(1)?;
        if self.groups == 1 {
            return self.convolution.apply(x, &weight, bias);
        }
        let parts = |tensor: &Tensor, dim| tensor.chunk(self.groups, dim);
        let (xs, weights, biases) = (parts(x, 3)?, parts(&weight, 0)?, parts(bias, 0)?);
        let groups = xs.iter().zip(&weights).zip(&biases);
        let ys = groups
            .map(|((x, weight), bias)| self.convolution.apply(&x.contiguous()?, weight, bias));
        Tensor::cat(&ys.collect::<candle_core::Result<Vec<_>>>()?, 3)
    }

    /// Computes it with candle-nn's layer, which expects `[N, C, H, W]` and weights in PyTorch's
    /// layout.
    #[cfg(any(feature = "cuda", feature = "metal", test))]
    fn candle_nn(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        use candle_core::conv::CudnnFwdAlgo;
        use candle_nn::{Conv2dConfig, Module};

        let config = Conv2dConfig {
            padding: self.convolution.window.padding,
            stride: self.convolution.window.stride,
            dilation: 1,
            groups: self.groups,
            // Plain sums. By default cuDNN may choose Winograd convolution, which is not exact for
            // integers.
            cudnn_fwd_algo: Some(CudnnFwdAlgo::ImplicitPrecompGemm),
        };
        let channels_first = |tensor: &Tensor| tensor.permute((0, 3, 1, 2))?.contiguous();
        let layer = candle_nn::Conv2d::new(channels_first(weight)?, Some(bias.clone()), config);
        let y = layer.forward(&channels_first(x)?)?.permute((0, 2, 3, 1))?.contiguous()?;
        if self.convolution.relu { convolution::relu(&y) } else { Ok(y) }
    }
}

impl Layer<Tensor> for Conv2d {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        self.apply(&x, mode).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        convolution::Window,
        test_support::{flat, integers, with_gradients},
    };

    /// candle-nn's layer is used on GPUs only; this test runs it on the CPU. The numbers are
    /// integers, so the results are exact.
    #[test]
    fn candle_nn_convolution_equals_patches() {
        for (n, channels, groups, kernel, stride, padding, input, output) in [
            (2, 3, 1, 3, 2, 1, [7, 9], [4, 5]),
            (1, 2, 1, 1, 1, 0, [8, 6], [8, 6]),
            (2, 4, 2, 5, 1, 2, [8, 6], [8, 6]),
            // A row and a column at the edge are in no window.
            (3, 3, 1, 4, 3, 0, [8, 11], [2, 3]),
            // The tutorial's first convolution on a smaller image.
            (2, 3, 1, 11, 4, 2, [32, 32], [7, 7]),
        ] {
            let window = Window { input, output, kernel, stride, padding };
            assert!(window.leaves_equal_margins());
            let x = integers(&[n, input[0], input[1], channels], 0);
            let weight = integers(&[6, kernel, kernel, channels / groups], 1);
            let arguments = [x, weight, integers(&[6], 2)];
            let [x, weight, bias] = &arguments;
            for relu in [false, true] {
                let layer = Conv2d {
                    weight: weight.as_tensor().clone(),
                    bias: bias.as_tensor().clone(),
                    groups,
                    convolution: Convolution { window, relu },
                };
                let ours = layer.patches(x, weight, bias).unwrap();
                let theirs = layer.candle_nn(x, weight, bias).unwrap();
                let ours = with_gradients(&ours, &arguments);
                assert!(
                    ours == with_gradients(&theirs, &arguments),
                    "groups {groups}, {:?}",
                    layer.convolution
                );
                assert!(ours.iter().all(|values| values.iter().any(|value| *value != 0.0)));
            }
        }
    }

    /// Shows why [`Window::leaves_equal_margins`] is needed. If this test fails, candle can
    /// differentiate these convolutions, and candle-nn can be used for them too.
    #[test]
    fn candle_cannot_differentiate_with_unequal_margins() {
        let window = Window { input: [6, 5], output: [2, 2], kernel: 3, stride: 2, padding: 0 };
        assert!(!window.leaves_equal_margins());
        let [x, weight, bias] =
            [integers(&[1, 6, 5, 1], 0), integers(&[1, 3, 3, 1], 1), integers(&[1], 2)];
        let layer = Conv2d {
            weight: weight.as_tensor().clone(),
            bias: bias.as_tensor().clone(),
            groups: 1,
            convolution: Convolution { window, relu: false },
        };
        let y = layer.candle_nn(&x, &weight, &bias).unwrap();
        assert_eq!(flat(&y), flat(&layer.patches(&x, &weight, &bias).unwrap()));
        assert!(y.sum_all().unwrap().backward().is_err());
    }
}
