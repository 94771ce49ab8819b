//! The devices of this engine, and candle's handles of them.

use alexnet_core::{Device, Error, Result};

use crate::error::NAME;

/// Returns the CPU and all GPUs that can be opened.
pub fn present() -> Vec<Device> {
    let opens = |device: &Device| open(*device).is_ok();
    let gpus = (0..).map(Device::Cuda).take_while(opens);
    std::iter::once(Device::Cpu)
        .chain(gpus)
        .chain([Device::Metal].into_iter().filter(opens))
        .collect()
}

/// Returns candle's handle of a device.
///
/// # Errors
/// [`Error::Device`] when this build does not support the device, or it does not exist.
pub fn open(device: Device) -> Result<candle_core::Device> {
    let refuse = |reason| Error::Device { backend: NAME, device: device.to_string(), reason };
    let lacks = |feature| refuse(format!("this build lacks the cargo feature `{feature}`"));
    let handle = match device {
        Device::Cpu => Ok(candle_core::Device::Cpu),
        Device::Cuda(_) if !cfg!(feature = "cuda") => return Err(lacks("cuda")),
        Device::Cuda(index) => candle_core::Device::new_cuda(index),
        Device::Metal if !cfg!(feature = "metal") => return Err(lacks("metal")),
        Device::Metal => candle_core::Device::new_metal(0),
    };
    handle.map_err(|error| refuse(format!("it cannot be opened: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_present() {
        assert_eq!(present().first(), Some(&Device::Cpu));
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_missing_feature_is_named() {
        let refusal = open(Device::Cuda(0)).unwrap_err().to_string();
        assert!(
            refusal.contains("cuda:0") && refusal.contains("cargo feature `cuda`"),
            "{refusal}"
        );
    }
}
