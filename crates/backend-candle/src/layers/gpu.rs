//! Convolutions and linear layers on GPUs. They use candle-nn's layers, which call the kernels of
//! the device, if candle computes correct gradients for them.

use alexnet_core::Mode;
use candle_core::DeviceLocation;

use crate::convolution::Window;

/// The implementation of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// The matrix product of patches and weights ([`crate::convolution`]).
    Patches,
    /// candle-nn's layer.
    CandleNn,
}

impl Implementation {
    /// Returns the implementation for a linear layer. On the CPU the kernels of this engine are
    /// faster.
    pub fn of_linear(device: DeviceLocation) -> Self {
        match device {
            DeviceLocation::Cpu => Self::Patches,
            DeviceLocation::Cuda { .. } | DeviceLocation::Metal { .. } => Self::CandleNn,
        }
    }

    /// Returns the implementation for a convolution. On the CPU it is that of this engine. On a GPU
    /// it is candle-nn's, unless a gradient is needed that candle computes wrongly:
    /// - Metal's convolution reads the buffer of a strided kernel as if it was contiguous, and the
    ///   weight gradient is a convolution with a strided kernel (candle 0.11.1,
    ///   `metal_backend/mod.rs`).
    /// - The gradient of the input assumes that the margin to the right of the last position equals
    ///   that below it (candle 0.11.1, `backprop.rs`).
    pub fn of_convolution(device: DeviceLocation, mode: Mode, window: &Window) -> Self {
        let differentiable = match device {
            DeviceLocation::Cpu => return Self::Patches,
            DeviceLocation::Cuda { .. } => window.leaves_equal_margins(),
            DeviceLocation::Metal { .. } => false,
        };
        if mode == Mode::Evaluate || differentiable { Self::CandleNn } else { Self::Patches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUDA: DeviceLocation = DeviceLocation::Cuda { gpu_id: 0 };
    const METAL: DeviceLocation = DeviceLocation::Metal { gpu_id: 0 };
    const MODES: [Mode; 3] =
        [Mode::Evaluate, Mode::Differentiate, Mode::Train { seed: 0, step: 1, micro_batch: None }];

    /// The first convolution of the tutorial's network.
    const SQUARE: Window =
        Window { input: [224, 224], output: [55, 55], kernel: 11, stride: 4, padding: 2 };
    /// There is one row below the last position, but no column to the right of it.
    const UNEQUAL: Window =
        Window { input: [6, 5], output: [2, 2], kernel: 3, stride: 2, padding: 0 };

    #[test]
    fn the_cpu_uses_patches() {
        assert_eq!(Implementation::of_linear(DeviceLocation::Cpu), Implementation::Patches);
        for mode in MODES {
            for window in [SQUARE, UNEQUAL] {
                let implementation =
                    Implementation::of_convolution(DeviceLocation::Cpu, mode, &window);
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
        let convolutions = |device, window| {
            MODES.map(|mode| Implementation::of_convolution(device, mode, &window))
        };
        assert_eq!(convolutions(CUDA, SQUARE), [CandleNn, CandleNn, CandleNn]);
        assert_eq!(convolutions(CUDA, UNEQUAL), [CandleNn, Patches, Patches]);
        assert_eq!(convolutions(METAL, SQUARE), [CandleNn, Patches, Patches]);
    }
}
