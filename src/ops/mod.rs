//! The seam between the algorithms and the devices: what a device must do, written once per backend, and one place
//! where a backend is chosen. Loops, schedules and convergence are elsewhere, generic over `Ops`.

pub(crate) mod absent;
pub(crate) mod allowed;
pub(crate) mod chain;
#[cfg(test)]
mod conformance;
pub(crate) mod cpu;
#[cfg(feature = "gpu-cuda")]
pub(crate) mod cuda;
pub(crate) mod health;
#[cfg(all(feature = "gpu-wgpu", not(target_family = "wasm")))]
pub(crate) mod layout;
pub(crate) mod mlp;
pub(crate) mod types;
#[cfg(all(feature = "gpu-wgpu", not(target_family = "wasm")))]
pub(crate) mod wgpu;

pub use crate::device::DeviceChoice;
#[allow(unused_imports, reason = "who makes one is above the seam")]
pub(crate) use allowed::Allowed;
pub use health::{Health, health};
pub use types::Assignments;
pub(crate) use types::{Cells, CodesRef, EncodeJob, Encoded, ScoreTables, Step};

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use crate::{
    error::Error,
    index::searcher::Neighbors,
    matrix::{Mat, MatRef},
};
use mlp::{FitStep, Mlp};

/// Where the arithmetic runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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

impl FromStr for Backend {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let all = [Backend::Auto, Backend::Cpu, Backend::Wgpu, Backend::Cuda];
        let found = all.into_iter().find(|b| b.name() == s);
        found.ok_or_else(|| Error::Config(format!("backend {s:?} is unknown; use auto, cpu, wgpu or cuda")))
    }
}

/// What a device does. Results agree between devices: labels and symbols but for near-ties, floats but for rounding.
pub(crate) trait Ops: 'static {
    /// A row-major f32 matrix on the device, freed on drop.
    type Rows;
    /// What [`Ops::assign`] found, on the device: labels (n x candidates) and distances (n).
    type Assigned;
    /// What [`Ops::reduce`] found, on the device: counts and variances (anchors), means (anchors x d).
    type Stats;
    /// Codes on the device, or a view of them.
    type Codes<'a>;
    /// A network on the device, with the state of its training.
    type Net;

    /// Which backend this is.
    fn backend(&self) -> Backend;

    /// Refuses work for which the device will not have room, before it is begun. Where devices share the memory of the
    /// host, nothing is refused.
    fn ensure_room(&self, _bytes: u64) -> Result<(), Error> {
        Ok(())
    }

    /// How many chunks of rows ([`chunk_rows`](crate::read::prepare::chunk_rows)) are best encoded at a time.
    fn chunks(&self) -> usize {
        4
    }

    /// Copies rows (n x d) to the device.
    fn upload(&self, rows: MatRef<'_>) -> Result<Self::Rows, Error>;

    /// Copies rows back.
    fn download(&self, rows: &Self::Rows) -> Result<Mat, Error>;

    /// As [`Ops::upload`], for rows that the caller needs no more.
    fn take(&self, rows: Mat) -> Result<Self::Rows, Error> {
        self.upload(rows.view())
    }

    /// As [`Ops::download`], giving up what is on the device.
    fn give(&self, rows: Self::Rows) -> Result<Mat, Error> {
        self.download(&rows)
    }

    /// A copy on the device.
    fn copy(&self, rows: &Self::Rows) -> Result<Self::Rows, Error>;

    /// Copies of the rows of these numbers, in the order given; a number may come twice.
    fn select(&self, rows: &Self::Rows, picked: &[u32]) -> Result<Self::Rows, Error>;

    /// The `candidates` (at least 1, at most the number of anchors) nearest anchors of every row in squared L2.
    /// Ties go to the lower number. O(n K d), the n x K distances are never kept.
    fn assign(&self, rows: &Self::Rows, anchors: &Self::Rows, candidates: usize) -> Result<Self::Assigned, Error>;

    /// Copies an assignment back.
    fn assignments(&self, assigned: &Self::Assigned) -> Result<Assignments, Error>;

    /// Mean squared distance of the rows to their nearest anchors, as [`Assignments::energy`].
    fn energy(&self, assigned: &Self::Assigned) -> Result<f64, Error>;

    /// Per cell: count, mean of the rows left after dropping the `floor(trim * count)` farthest (of equally far ones
    /// the higher row first), variance of all; zeros for an empty cell. Accumulates in f64 in row order, so the result is
    /// deterministic. A row's cell is that of its nearest anchor, other candidates play no part.
    fn reduce(
        &self,
        rows: &Self::Rows,
        assigned: &Self::Assigned,
        anchors: usize,
        trim: f32,
    ) -> Result<Self::Stats, Error>;

    /// Copies counts and variances back.
    fn cells(&self, stats: &Self::Stats) -> Result<Cells, Error>;

    /// Copies the means (anchors x d) back.
    #[allow(dead_code, reason = "the loops leave the means on the device; the laws look at them")]
    fn means(&self, stats: &Self::Stats) -> Result<Mat, Error>;

    /// Moves the anchors of non-empty cells: `a += rate * (mean - a) + noise`.
    fn update(&self, anchors: &mut Self::Rows, stats: &Self::Stats, step: Step<'_>) -> Result<(), Error>;

    /// `(x - offset) A^T` for every row x, with A of a x d.
    fn project(&self, rows: &Self::Rows, offset: &[f32], transform: MatRef<'_>) -> Result<Self::Rows, Error>;

    /// The code of every row (n x active) of least squared error, among the anchors to try; of equally good ones the
    /// first to try.
    fn encode(&self, rows: &Self::Rows, job: EncodeJob<'_, Self::Assigned>) -> Result<Encoded, Error>;

    /// Makes codes ready for [`Ops::score`].
    fn load<'a>(&self, codes: CodesRef<'a>) -> Result<Self::Codes<'a>, Error>;

    /// The `k` rows of largest score for each query among those within its reach that are allowed, best first; ties go to the lower
    /// row. As many columns as there are allowed rows, where these are fewer. Scores do not depend on what is allowed.
    fn score(&self, codes: &Self::Codes<'_>, queries: &ScoreTables, k: usize) -> Result<Neighbors, Error>;

    /// Copies a network over rows of a values to the device, its training at the start.
    fn net(&self, mlp: &Mlp) -> Result<Self::Net, Error>;

    /// Copies a network back: its weights as they are trained, not rounded.
    fn mlp(&self, net: &Self::Net) -> Result<Mlp, Error>;

    /// Moves the network one step towards giving `targets` for `rows` (both n x a), on the rows `picked`. O(rows x weights).
    fn fit(
        &self,
        net: &mut Self::Net,
        rows: &Self::Rows,
        targets: &Self::Rows,
        picked: &[u32],
        step: FitStep,
    ) -> Result<(), Error>;

    /// For each row the squared distance of what the network makes of it to its target.
    fn misses(&self, net: &Self::Net, rows: &Self::Rows, targets: &Self::Rows) -> Result<Vec<f32>, Error>;

    /// Where codes should aim so that the network behind them comes nearer to the targets: `y + damp (e + J^T e)` for each row y, with
    /// e what the network, of which J is the derivative without the residual, leaves of its target. `damp` has a value for each row.
    fn aim(
        &self,
        net: &Self::Net,
        rows: &Self::Rows,
        targets: &Self::Rows,
        damp: &[f32],
    ) -> Result<Self::Rows, Error>;
}

/// A job generic over the device that runs it.
pub(crate) trait WithOps {
    /// What the job returns.
    type Output;
    /// Runs the job.
    fn run<O: Ops>(self, ops: O) -> Result<Self::Output, Error>;
}

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
    cuda::open(device.number(Backend::Cuda)?)
}

#[cfg(not(feature = "gpu-cuda"))]
fn open_cuda(device: DeviceChoice) -> Result<absent::Absent, Error> {
    device.number(Backend::Cuda)?;
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
    match device.number(Backend::Cpu)? {
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
        list.extend(found.unwrap_or_else(|error| vec![DeviceInfo::missing(backend, error)]));
    }
    list
}

impl DeviceInfo {
    fn missing(backend: Backend, error: Error) -> DeviceInfo {
        let detail = match error {
            Error::Unavailable { reason, .. } => reason,
            other => other.to_string(),
        };
        let name = backend.to_string();
        DeviceInfo { backend, number: None, name, available: false, software: false, memory_bytes: None, detail }
    }
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
    cuda::health(device.number(Backend::Cuda)?)
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
