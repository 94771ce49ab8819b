//! Which devices there are, and candle's own handles of them.

use alexnet_core::{Device, Error, Result};

use crate::error::NAME;

/// The host, and each GPU that opens.
pub fn present() -> Vec<Device> {
    let opens = |device: &Device| open(*device).is_ok();
    let gpus = (0..).map(Device::Cuda).take_while(opens);
    std::iter::once(Device::Cpu).chain(gpus).chain([Device::Metal].into_iter().filter(opens)).collect()
}

/// candle's handle of a device.
///
/// # Errors
/// [`Error::Device`] when this build cannot reach such devices, or there is none of this number.
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
    handle.map_err(|error| refuse(format!("it does not open: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_present() {
        assert_eq!(present().first(), Some(&Device::Cpu));
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_missing_feature_is_named() {
        let refusal = open(Device::Cuda(0)).unwrap_err().to_string();
        assert!(refusal.contains("cuda:0") && refusal.contains("cargo feature `cuda`"), "{refusal}");
    }
}
