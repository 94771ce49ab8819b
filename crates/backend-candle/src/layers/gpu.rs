//! Convolutions and linear layers on GPUs. They use candle-nn's layers, which call the kernels of the device, if candle computes
//! correct gradients for them.

use alexnet_core::Mode;
use candle_core::{DeviceLocation, Result, Tensor, conv::CudnnFwdAlgo};
use candle_nn::{Conv2dConfig, Module};

use super::{Conv2d, Linear};
use crate::convolution::{Window, relu};

/// The implementation of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// The matrix product of patches and weights ([`crate::convolution`]).
    Patches,
    /// candle-nn's layer.
    CandleNn,
}

impl Implementation {
    /// Returns the implementation for a linear layer. On the CPU the kernels of this engine are faster.
    pub fn of_linear(device: DeviceLocation) -> Self {
        match device {
            DeviceLocation::Cpu => Self::Patches,
            DeviceLocation::Cuda { .. } | DeviceLocation::Metal { .. } => Self::CandleNn,
        }
    }

    /// Returns the implementation for a convolution. On the CPU it is that of this engine. On a GPU it is candle-nn's, unless a
    /// gradient is needed that candle computes wrongly:
    /// - Metal's convolution reads the buffer of a strided kernel as if it was contiguous, and the weight gradient is a
    ///   convolution with a strided kernel (candle 0.11.1, `metal_backend/mod.rs`).
    /// - The gradient of the input assumes that the margin to the right of the last position equals that below it (candle 0.11.1,
    ///   `backprop.rs`).
    pub fn of_convolution(device: DeviceLocation, mode: Mode, window: &Window) -> Self {
        let differentiable = match device {
            DeviceLocation::Cpu => return Self::Patches,
            DeviceLocation::Cuda { .. } => window.leaves_equal_margins(),
            DeviceLocation::Metal { .. } => false,
        };
        if mode == Mode::Evaluate || differentiable { Self::CandleNn } else { Self::Patches }
    }
}

impl Conv2d {
    /// Computes it with candle-nn's layer, which expects `[N, C, H, W]` and weights in PyTorch's layout.
    pub fn candle_nn(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let config = Conv2dConfig {
            padding: self.convolution.window.padding,
            stride: self.convolution.window.stride,
            dilation: 1,
            groups: self.groups,
            // Plain sums. By default cuDNN may choose Winograd convolution, which is not exact for integers.
            cudnn_fwd_algo: Some(CudnnFwdAlgo::ImplicitPrecompGemm),
        };
        let channels_first = |tensor: &Tensor| tensor.permute((0, 3, 1, 2))?.contiguous();
        let layer = candle_nn::Conv2d::new(channels_first(weight)?, Some(bias.clone()), config);
        let y = layer.forward(&channels_first(x)?)?.permute((0, 2, 3, 1))?.contiguous()?;
        if self.convolution.relu { relu(&y) } else { Ok(y) }
    }
}

impl Linear {
    /// Computes it with candle-nn's layer.
    pub fn candle_nn(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let y = candle_nn::Linear::new(weight.clone(), Some(bias.clone())).forward(x)?;
        if self.relu { relu(&y) } else { Ok(y) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        convolution::Convolution,
        test_support::{flat, integers, with_gradients},
    };

    const CUDA: DeviceLocation = DeviceLocation::Cuda { gpu_id: 0 };
    const METAL: DeviceLocation = DeviceLocation::Metal { gpu_id: 0 };
    const MODES: [Mode; 3] =
        [Mode::Evaluate, Mode::Differentiate, Mode::Train { seed: 0, step: 1, sample_offset: 0 }];

    /// The first convolution of the tutorial's network.
    const SQUARE: Window = Window { input: [224, 224], output: [55, 55], kernel: 11, stride: 4, padding: 2 };
    /// There is one row below the last position, but no column to the right of it.
    const UNEQUAL: Window = Window { input: [6, 5], output: [2, 2], kernel: 3, stride: 2, padding: 0 };

    #[test]
    fn the_cpu_uses_patches() {
        assert_eq!(Implementation::of_linear(DeviceLocation::Cpu), Implementation::Patches);
        for mode in MODES {
            for window in [SQUARE, UNEQUAL] {
                let implementation = Implementation::of_convolution(DeviceLocation::Cpu, mode, &window);
                assert_eq!(implementation, Implementation::Patches);
            }
        }
    }

    #[test]
    fn gpus_use_candle_nn_if_its_gradients_are_correct() {
        use Implementation::{CandleNn, Patches};
        for device in [CUDA, METAL] {
            assert_eq!(Implementation::of_linear(device), CandleNn);
        }
        let convolutions =
            |device, window| MODES.map(|mode| Implementation::of_convolution(device, mode, &window));
        assert_eq!(convolutions(CUDA, SQUARE), [CandleNn, CandleNn, CandleNn]);
        assert_eq!(convolutions(CUDA, UNEQUAL), [CandleNn, Patches, Patches]);
        assert_eq!(convolutions(METAL, SQUARE), [CandleNn, Patches, Patches]);
    }

    /// candle-nn's layer is used on GPUs only; this test runs it on the CPU. The numbers are integers, so the results are exact.
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

    /// Shows why [`Window::leaves_equal_margins`] is needed. If this test fails, candle can differentiate these convolutions, and
    /// candle-nn can be used for them too.
    #[test]
    fn candle_cannot_differentiate_with_unequal_margins() {
        let window = Window { input: [6, 5], output: [2, 2], kernel: 3, stride: 2, padding: 0 };
        assert!(!window.leaves_equal_margins());
        let [x, weight, bias] = [integers(&[1, 6, 5, 1], 0), integers(&[1, 3, 3, 1], 1), integers(&[1], 2)];
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

    /// The numbers are integers, so the results are exact.
    #[test]
    fn candle_nn_linear_equals_patches() {
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
