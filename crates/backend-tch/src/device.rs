//! Which devices there are, and libtorch's names of them.

use alexnet_core::{Device, Error, Result};
use tch::Cuda;

use crate::error::NAME;

/// The host, and the GPUs that libtorch sees.
pub fn present() -> Vec<Device> {
    let gpus = usize::try_from(Cuda::device_count()).unwrap_or(0);
    [Device::Cpu].into_iter().chain((0..gpus).map(Device::Cuda)).collect()
}

/// libtorch's name of a device.
///
/// # Errors
/// [`Error::Device`] when this machine lacks the device.
pub fn open(device: Device) -> Result<tch::Device> {
    let present = present();
    match device {
        Device::Cpu => Ok(tch::Device::Cpu),
        Device::Cuda(index) if present.contains(&device) => Ok(tch::Device::Cuda(index)),
        Device::Cuda(_) | Device::Metal => {
            let present: Vec<String> = present.iter().map(Device::to_string).collect();
            Err(Error::Device {
                backend: NAME,
                device: device.to_string(),
                reason: format!(
                    "this libtorch sees {}; an NVIDIA GPU needs its CUDA build and a driver",
                    present.join(", ")
                ),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_present_and_what_is_missing_is_named() {
        assert_eq!(present().first(), Some(&Device::Cpu));
        let error = open(Device::Metal).unwrap_err().to_string();
        assert!(error.contains("`metal`") && error.contains("sees cpu"), "{error}");
    }
}
