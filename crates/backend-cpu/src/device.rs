//! Devices of this engine: the host alone.

use alexnet_core::{Device, Error, Result};

/// The name of this engine.
pub const NAME: &str = "cpu";

/// The devices present on this machine.
pub fn present() -> Vec<Device> {
    vec![Device::Cpu]
}

/// Checks that the engine computes on `device`.
///
/// # Errors
/// [`Error::Device`] when it does not.
pub fn check(device: Device) -> Result<()> {
    if present().contains(&device) {
        return Ok(());
    }
    Err(Error::Device {
        backend: NAME,
        device: device.to_string(),
        reason: "this engine computes on the host alone".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_only_device() {
        assert!(check(Device::Cpu).is_ok());
        for device in [Device::Cuda(0), Device::Metal] {
            let error = check(device).unwrap_err().to_string();
            assert!(error.contains("host") && error.contains(&device.to_string()), "{error}");
        }
    }
}
