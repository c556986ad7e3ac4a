//! The one place where a backend is chosen, and the only one that knows which are compiled in. What a device must do is in `seam.rs`.

pub(crate) mod absent;
pub(crate) mod allowed;
pub(crate) mod chain;
#[cfg(test)]
mod conformance;
pub(crate) mod cpu;
#[cfg(feature = "gpu-cuda")]
pub(crate) mod cuda;
#[cfg(all(feature = "gpu-wgpu", not(target_family = "wasm")))]
pub(crate) mod layout;
pub(crate) mod mlp;
pub(crate) mod reach;
pub(crate) mod seam;
pub(crate) mod threads;
pub(crate) mod types;
#[cfg(all(feature = "gpu-wgpu", not(target_family = "wasm")))]
pub(crate) mod wgpu;

use std::sync::{Mutex, PoisonError};

use crate::{
    backend::{Backend, Compute, DeviceChoice, DeviceInfo, Health},
    error::Error,
};
use seam::WithOps;

/// Why a GPU backend cannot be opened.
#[allow(dead_code, reason = "a build that has them all does not ask")]
fn why_absent(backend: Backend) -> &'static str {
    match backend {
        // The calls of this library wait for the device, which a browser does not let them do.
        Backend::Wgpu if cfg!(target_family = "wasm") => {
            "not in a browser, where nothing can wait for it; use the cpu"
        }
        Backend::Wgpu => "not compiled in; build with the cargo feature gpu-wgpu",
        _ => "not compiled in; build with the cargo feature gpu-cuda",
    }
}

#[allow(dead_code, reason = "a build that has them all does not ask")]
fn open_absent(backend: Backend, device: DeviceChoice) -> Result<absent::Absent, Error> {
    absent::open(backend, why_absent(backend), device)
}

#[cfg(feature = "gpu-cuda")]
fn open_cuda(device: DeviceChoice) -> Result<cuda::Cuda, Error> {
    cuda::open(number_of(device, Backend::Cuda)?)
}

#[cfg(not(feature = "gpu-cuda"))]
fn open_cuda(device: DeviceChoice) -> Result<absent::Absent, Error> {
    number_of(device, Backend::Cuda)?;
    open_absent(Backend::Cuda, device)
}

#[cfg(all(feature = "gpu-wgpu", not(target_family = "wasm")))]
fn open_wgpu(device: DeviceChoice) -> Result<wgpu::Wgpu, Error> {
    wgpu::open(device)
}

#[cfg(not(all(feature = "gpu-wgpu", not(target_family = "wasm"))))]
fn open_wgpu(device: DeviceChoice) -> Result<absent::Absent, Error> {
    open_absent(Backend::Wgpu, device)
}

fn open_cpu(device: DeviceChoice) -> Result<cpu::Cpu, Error> {
    match number_of(device, Backend::Cpu)? {
        None | Some(0) => cpu::open(),
        Some(number) => Err(Error::Config(format!("the cpu is one device: there is no number {number}, only 0"))),
    }
}

/// Logs what [`Backend::Auto`] took, and why not the others; not again while that stays the same.
fn say_once(line: String) {
    static LAST: Mutex<String> = Mutex::new(String::new());
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if *last != line {
        log::info!("{line}");
        *last = line;
    }
}

/// Opens that device of `backend` and runs `job` on it. [`Backend::Auto`] takes the first that opens and logs which, and why
/// not the others; any other that is missing is [`Error::Unavailable`], never a silent run elsewhere.
pub(crate) fn dispatch<J: WithOps>(backend: Backend, device: DeviceChoice, job: J) -> Result<J::Output, Error> {
    match backend {
        Backend::Auto if device == DeviceChoice::Software => dispatch(Backend::Wgpu, device, job),
        Backend::Auto => {
            // Only what is not there is passed over: a device that fails, or a number that none has, is for the caller to know.
            let no_cuda = match open_cuda(device) {
                Ok(ops) => {
                    say_once("running on cuda".into());
                    return job.run(ops);
                }
                Err(e @ Error::Unavailable { .. }) => e,
                Err(e) => return Err(e),
            };
            let no_wgpu = match open_wgpu(device) {
                Ok(ops) => {
                    say_once(format!("running on wgpu ({no_cuda})"));
                    return job.run(ops);
                }
                Err(e @ Error::Unavailable { .. }) => e,
                Err(e) => return Err(e),
            };
            say_once(format!("running on the cpu ({no_cuda}; {no_wgpu})"));
            job.run(open_cpu(device)?)
        }
        Backend::Cpu => job.run(open_cpu(device)?),
        Backend::Wgpu => job.run(open_wgpu(device)?),
        Backend::Cuda => job.run(open_cuda(device)?),
    }
}

/// Lists the devices of every backend, those that cannot be used with the reason.
#[must_use]
pub fn devices() -> Vec<DeviceInfo> {
    let threads = rayon::current_num_threads();
    let mut list = vec![DeviceInfo {
        backend: Backend::Cpu,
        number: None,
        name: "cpu".into(),
        available: true,
        software: false,
        memory_bytes: None,
        detail: match cpu::Level::from_env() {
            Ok(level) => format!("{threads} thread{}, {level} instructions", if threads == 1 { "" } else { "s" }),
            Err(e) => e.to_string(),
        },
    }];
    for (backend, found) in [(Backend::Wgpu, wgpu_devices()), (Backend::Cuda, cuda_devices())] {
        list.extend(found.unwrap_or_else(|error| vec![missing(backend, error)]));
    }
    list
}

#[allow(dead_code, reason = "a build that has them all does not ask")]
fn absent_devices(backend: Backend) -> Result<Vec<DeviceInfo>, Error> {
    match open_absent(backend, DeviceChoice::Best)? {}
}

#[cfg(feature = "gpu-cuda")]
fn cuda_devices() -> Result<Vec<DeviceInfo>, Error> {
    cuda::devices()
}

#[cfg(not(feature = "gpu-cuda"))]
fn cuda_devices() -> Result<Vec<DeviceInfo>, Error> {
    absent_devices(Backend::Cuda)
}

#[cfg(all(feature = "gpu-wgpu", not(target_family = "wasm")))]
fn wgpu_devices() -> Result<Vec<DeviceInfo>, Error> {
    wgpu::devices()
}

#[cfg(not(all(feature = "gpu-wgpu", not(target_family = "wasm"))))]
fn wgpu_devices() -> Result<Vec<DeviceInfo>, Error> {
    absent_devices(Backend::Wgpu)
}

#[cfg(feature = "gpu-cuda")]
fn cuda_health(device: DeviceChoice) -> Result<Health, Error> {
    cuda::health(number_of(device, Backend::Cuda)?)
}

#[cfg(not(feature = "gpu-cuda"))]
fn cuda_health(device: DeviceChoice) -> Result<Health, Error> {
    match open_cuda(device)? {}
}

#[cfg(all(feature = "gpu-wgpu", not(target_family = "wasm")))]
fn wgpu_health(device: DeviceChoice) -> Result<Health, Error> {
    wgpu::health(device)
}

#[cfg(not(all(feature = "gpu-wgpu", not(target_family = "wasm"))))]
fn wgpu_health(device: DeviceChoice) -> Result<Health, Error> {
    match open_wgpu(device)? {}
}

/// Runs `job` where the caller asked for it.
pub(crate) fn run<J: WithOps + Send>(compute: &Compute, job: J) -> Result<J::Output, Error>
where
    J::Output: Send,
{
    threads::with_threads(compute.threads, || dispatch(compute.backend, compute.device, job))
}

/// The number asked for, of a backend without software adapters.
fn number_of(device: DeviceChoice, backend: Backend) -> Result<Option<usize>, Error> {
    match device {
        DeviceChoice::Best => Ok(None),
        DeviceChoice::Number(number) => Ok(Some(number)),
        DeviceChoice::Software => {
            Err(Error::Config(format!("{backend} has no software adapter: only wgpu has them")))
        }
    }
}

fn missing(backend: Backend, error: Error) -> DeviceInfo {
    let detail = match error {
        Error::Unavailable { reason, .. } => reason,
        other => other.to_string(),
    };
    let name = backend.to_string();
    DeviceInfo { backend, number: None, name, available: false, software: false, memory_bytes: None, detail }
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
