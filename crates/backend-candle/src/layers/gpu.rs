//! Convolutions and linear layers on GPUs: candle-nn's, which call the device's own kernels, where candle's gradients of them
//! are right.

use alexnet_core::Mode;
use candle_core::DeviceLocation;

use crate::convolution::Window;

/// Whose layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// Products of patches and weights ([`crate::convolution`]).
    Patches,
    /// candle-nn's layer.
    CandleNn,
}

impl Implementation {
    /// For a linear layer. On the host the kernels of this engine are faster.
    pub fn of_linear(device: DeviceLocation) -> Self {
        match device {
            DeviceLocation::Cpu => Self::Patches,
            DeviceLocation::Cuda { .. } | DeviceLocation::Metal { .. } => Self::CandleNn,
        }
    }

    /// For a convolution. On the host as [`Self::of_linear`]; on a GPU candle-nn's, where candle's derivative of it is right:
    /// - Metal's convolution reads the buffer of a strided kernel as if it was contiguous, and the weight gradient is a
    ///   convolution with a strided kernel (candle 0.11.1, `metal_backend/mod.rs`).
    /// - The gradient of the input takes the margin below the last position for the one on its right as well
    ///   (candle 0.11.1, `backprop.rs`).
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
        [Mode::Evaluate, Mode::Differentiate, Mode::Train { seed: 0, step: 1, sample_offset: 0 }];

    /// The first convolution of the tutorial's network.
    const SQUARE: Window = Window { input: [224, 224], output: [55, 55], kernel: 11, stride: 4, padding: 2 };
    /// One row, but no column, is left over.
    const UNEQUAL: Window = Window { input: [6, 5], output: [2, 2], kernel: 3, stride: 2, padding: 0 };

    #[test]
    fn the_host_computes_with_patches() {
        assert_eq!(Implementation::of_linear(DeviceLocation::Cpu), Implementation::Patches);
        for mode in MODES {
            for window in [SQUARE, UNEQUAL] {
                let implementation = Implementation::of_convolution(DeviceLocation::Cpu, mode, &window);
                assert_eq!(implementation, Implementation::Patches);
            }
        }
    }

    #[test]
    fn gpus_compute_with_candle_nn_where_its_gradients_are_right() {
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
}
