//! Whether a backend works, and what this process holds on its device.

use super::{Backend, cuda_health, open_cpu, wgpu_health};
use crate::{device::DeviceChoice, error::Error};

/// What [`health`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Which backend.
    pub backend: Backend,
    /// Which device of it, as numbered by [`devices`](super::devices); `None` for the cpu.
    pub number: Option<usize>,
    /// The device's name.
    pub device: String,
    /// Bytes of memory this process can use there; `None` for the cpu.
    pub memory_total: Option<u64>,
    /// Bytes that are free at present; `None` for the cpu.
    pub memory_free: Option<u64>,
    /// Bytes that this process holds there, in use or kept for reuse. Nothing once every searcher on it is gone.
    pub memory_resident: u64,
    /// The most bytes that this process had in use at once on any device of the backend.
    pub memory_peak: u64,
    /// Pieces of device memory in use by this process.
    pub buffers: usize,
    /// Those of them that nothing can use or free any more; more than 0 is a fault of this library.
    pub leaked_buffers: usize,
    /// The last failure of a device of the backend in this process.
    pub last_error: Option<String>,
}

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
