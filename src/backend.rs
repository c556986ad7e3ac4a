//! Where the arithmetic runs: backends, their devices, and how these are.

use std::fmt;

/// Which device of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The best: of CUDA devices the one with most memory; of wgpu adapters a discrete GPU, else an integrated one, never
    /// one that runs on the processor.
    #[default]
    Best,
    /// That of this number in [`devices`](crate::device::devices), whatever it is; on the cpu 0.
    Number(usize),
    /// The wgpu adapter that runs on the processor (lavapipe, WARP, SwiftShader). Slow; for tests. [`Backend::Auto`] is wgpu
    /// then; the cpu and CUDA have none, which is [`Error::Config`](crate::Error::Config).
    Software,
}

impl From<Option<usize>> for DeviceChoice {
    /// The device of that number, or the best.
    fn from(number: Option<usize>) -> DeviceChoice {
        number.map_or(DeviceChoice::Best, DeviceChoice::Number)
    }
}

/// Where and how wide a call computes.
///
/// A [`Backend`] stands for the best of its devices and a thread for each core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compute {
    /// Where the arithmetic runs.
    pub backend: Backend,
    /// Which device of the backend.
    pub device: DeviceChoice,
    /// CPU threads, at least 1; `None` is the current rayon pool, usually one per core.
    pub threads: Option<usize>,
}

impl From<Backend> for Compute {
    fn from(backend: Backend) -> Compute {
        Compute { backend, ..Compute::default() }
    }
}

/// Where the arithmetic runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Backend {
    /// CUDA if there is one, else a hardware wgpu adapter, else the CPU.
    #[default]
    Auto,
    /// All cores of this machine.
    Cpu,
    /// Any GPU, through wgpu; cargo feature `gpu-wgpu`.
    Wgpu,
    /// NVIDIA GPUs; cargo feature `gpu-cuda`.
    Cuda,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Cpu => "cpu",
            Backend::Wgpu => "wgpu",
            Backend::Cuda => "cuda",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One place where the arithmetic can run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Which backend reaches it.
    pub backend: Backend,
    /// Its number among the devices of the backend, as [`DeviceChoice::Number`] takes it; `None` for the cpu and where there
    /// is no device.
    pub number: Option<usize>,
    /// The device's name, or the backend's when there is no device.
    pub name: String,
    /// Whether it can be used.
    pub available: bool,
    /// Whether it is a wgpu adapter that runs on the processor, which is used only when asked for.
    pub software: bool,
    /// Bytes of its own memory, where it has some and says so.
    pub memory_bytes: Option<u64>,
    /// What it is, or why it cannot be used.
    pub detail: String,
}

/// What [`health`](crate::device::health) found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Which backend.
    pub backend: Backend,
    /// Which device of it, as numbered by [`devices`](crate::device::devices); `None` for the cpu.
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
