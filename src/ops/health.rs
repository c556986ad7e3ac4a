//! Whether a backend works, and what this process holds on its device.

use super::{cuda_health, open_cpu, wgpu_health};
use crate::{
    device::{Backend, DeviceChoice, Health},
    error::Error,
};

/// Opens a device, sees whether it takes and returns bytes, and reports what this process holds there. Fit to be asked at any
/// time, also while others use the device.
///
/// # Errors
/// [`Error::Unavailable`] when the backend is not there, [`Error::Config`] when it has no such device,
/// [`Error::Device`] when the device fails.
pub fn health(backend: Backend, device: DeviceChoice) -> Result<Health, Error> {
    match backend {
        Backend::Auto if device == DeviceChoice::Software => wgpu_health(device),
        Backend::Auto => {
            // As `dispatch` goes on: past what is not there alone.
            let or = |found: Result<Health, Error>, next| match found {
                Err(Error::Unavailable { .. }) => health(next, device),
                found => found,
            };
            or(or(cuda_health(device), Backend::Wgpu), Backend::Cpu)
        }
        Backend::Cuda => cuda_health(device),
        Backend::Wgpu => wgpu_health(device),
        Backend::Cpu => open_cpu(device).map(|_| Health {
            backend,
            number: None,
            device: "cpu".into(),
            memory_total: None,
            memory_free: None,
            memory_resident: 0,
            memory_peak: 0,
            buffers: 0,
            leaked_buffers: 0,
            last_error: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_well() {
        let found = health(Backend::Cpu, DeviceChoice::Best).unwrap();
        assert_eq!((found.device.as_str(), found.buffers, found.last_error), ("cpu", 0, None));
        for other in [DeviceChoice::Number(1), DeviceChoice::Software] {
            assert!(matches!(health(Backend::Cpu, other), Err(Error::Config(_))));
        }
    }

    #[test]
    fn what_is_not_there_says_why() {
        assert!(matches!(
            health(Backend::Wgpu, DeviceChoice::Best),
            Err(Error::Unavailable { backend: Backend::Wgpu, .. })
        ));
        assert!(health(Backend::Auto, DeviceChoice::Best).is_ok());
    }
}
