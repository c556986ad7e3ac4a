//! The seam between the algorithms and the devices: what a device must do, written once per backend, and one place
//! where a backend is chosen. Loops, schedules and convergence are elsewhere, generic over `Ops`.

mod absent;
#[cfg(test)]
mod conformance;
mod cpu;

pub(crate) use cpu::product::{dot, gram, product_nn, product_nt, squared_distance};

use std::{fmt, str::FromStr};

use crate::{
    Error, Mat, MatRef,
    format::{BlockShape, RowIds},
    model::Code,
    probe::Reach,
    search::Neighbors,
};

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

/// Which anchors are nearest to each row.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignments {
    /// For each row its nearest anchors, nearest first, `candidates` of them; of equally near ones the lower number first.
    pub labels: Vec<u32>,
    /// Squared L2 distance of each row to the nearest of them.
    pub distances: Vec<f32>,
    /// Anchors per row.
    pub candidates: usize,
}

impl Assignments {
    /// The nearest anchor of each row.
    pub fn nearest(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.labels.iter().copied().step_by(self.candidates.max(1))
    }

    /// Mean squared L2 distance of the rows to their nearest anchors; 0 without rows.
    #[must_use]
    pub fn energy(&self) -> f64 {
        let sum: f64 = self.distances.iter().map(|&d| f64::from(d)).sum();
        sum / self.distances.len().max(1) as f64
    }
}

/// What the rows of each cell say about its anchor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CellStats {
    /// Rows of each cell.
    pub(crate) counts: Vec<u32>,
    /// Mean of the rows kept after trimming; the zero vector for an empty cell.
    pub(crate) means: Mat,
    /// Mean squared distance of all the cell's rows to its anchor, per dimension.
    pub(crate) variances: Vec<f32>,
}

/// How [`Ops::update`] moves anchors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// Share of the way to the cell's mean, above 0 and at most 1.
    pub(crate) learning_rate: f32,
    /// Added after that, one row per anchor.
    pub(crate) noise: Option<MatRef<'a>>,
}

/// What [`Ops::encode`] works with: the code of one chart and where its anchors stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodeJob<'a> {
    pub(crate) code: &'a Code,
    /// Coordinates of the anchors, in the directions the rows are given in.
    pub(crate) anchors: MatRef<'a>,
    /// Anchors to try for each row, `candidates` of them, all tried and the best kept.
    pub(crate) tries: &'a [u32],
    pub(crate) candidates: usize,
    /// How hard a chain code with more than two lags is searched.
    pub(crate) effort: Effort,
}

/// How many paths per state the search of a chain code keeps where it cannot be exact: with more than two lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Two: half the time, 1 to 2 % more distortion. For the early rounds of training.
    Quick,
    /// Four.
    Full,
}

/// What [`Ops::encode`] found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Encoded {
    /// The anchor chosen for each row.
    pub(crate) labels: Vec<u32>,
    /// `symbols` values per row.
    pub(crate) symbols: Vec<u8>,
    /// Squared error of each row.
    pub(crate) errors: Vec<f32>,
}

/// Codes as [`Ops::score`] needs them.
#[derive(Debug, Clone)]
pub(crate) struct CodesRef<'a> {
    pub(crate) shape: BlockShape,
    pub(crate) blocks: &'a [u8],
    pub(crate) labels: RowIds<'a>,
    pub(crate) anchor_chart: &'a [u8],
    /// Values per symbol: 16 or 256.
    pub(crate) alphabet: usize,
    /// The factor of each factor code; empty without factors.
    pub(crate) factors: &'a [f32],
    /// The gain of each gain code; one value, 1, without gains.
    pub(crate) gains: &'a [f32],
    /// Whether the score is 2 G F s - G^2 (l2) instead of G F s.
    pub(crate) squared: bool,
}

/// Queries as [`Ops::score`] needs them.
#[derive(Debug, Clone)]
pub(crate) struct ScoreTables {
    /// Queries x (charts x symbols x alphabet): what each symbol adds to the inner product.
    pub(crate) tables: Mat,
    /// Queries x anchors: what the anchor (and the mean) adds.
    pub(crate) bases: Mat,
    /// How many cells are looked at.
    pub(crate) reach: Reach,
}

/// What a device does. Results agree between devices: labels and symbols but for near-ties, floats but for rounding.
pub(crate) trait Ops: 'static {
    /// A row-major f32 matrix on the device, freed on drop.
    type Rows;
    /// Codes on the device, or a view of them.
    type Codes<'a>;

    /// Which backend this is.
    fn backend(&self) -> Backend;

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

    /// The `candidates` (at least 1, at most the number of anchors) nearest anchors of every row in squared L2.
    /// Ties go to the lower number. O(n K d), the n x K distances are never kept.
    fn assign(&self, rows: &Self::Rows, anchors: MatRef<'_>, candidates: usize) -> Result<Assignments, Error>;

    /// Per cell: count, mean of the rows left after dropping the `floor(trim * count)` farthest (of equally far ones
    /// the higher row first), variance of all. Accumulates in f64 in row order, so the result is deterministic.
    fn reduce(
        &self,
        rows: &Self::Rows,
        assigned: &Assignments,
        anchors: usize,
        trim: f32,
    ) -> Result<CellStats, Error>;

    /// Moves the anchors of non-empty cells: `a += rate * (mean - a) + noise`.
    fn update(&self, anchors: &mut Mat, stats: &CellStats, step: Step<'_>) -> Result<(), Error>;

    /// `(x - offset) A^T` for every row x, with A of a x d.
    fn project(&self, rows: &Self::Rows, offset: &[f32], transform: MatRef<'_>) -> Result<Self::Rows, Error>;

    /// The code of every row (n x active) of least squared error, among the anchors to try.
    fn encode(&self, rows: &Self::Rows, job: EncodeJob<'_>) -> Result<Encoded, Error>;

    /// Makes codes ready for [`Ops::score`].
    fn load<'a>(&self, codes: CodesRef<'a>) -> Result<Self::Codes<'a>, Error>;

    /// The `k` rows of largest score for each query among those within its reach, best first; ties go to the lower row.
    fn score(&self, codes: &Self::Codes<'_>, queries: &ScoreTables, k: usize) -> Result<Neighbors, Error>;
}

/// A job generic over the device that runs it.
pub(crate) trait WithOps {
    /// What the job returns.
    type Output;
    /// Runs the job.
    fn run<O: Ops>(self, ops: O) -> Result<Self::Output, Error>;
}

/// Why a GPU backend cannot be opened.
fn why_absent(backend: Backend) -> &'static str {
    let (compiled, remedy) = match backend {
        Backend::Wgpu => (cfg!(feature = "gpu-wgpu"), "not compiled in; build with the cargo feature gpu-wgpu"),
        _ => (cfg!(feature = "gpu-cuda"), "not compiled in; build with the cargo feature gpu-cuda"),
    };
    if compiled { "this release has no kernels for it yet; use the cpu" } else { remedy }
}

fn open_absent(backend: Backend, device: Option<usize>) -> Result<absent::Absent, Error> {
    absent::open(backend, why_absent(backend), device)
}

fn open_cpu(device: Option<usize>) -> Result<cpu::Cpu, Error> {
    match device {
        None | Some(0) => cpu::open(),
        Some(number) => Err(Error::Config(format!("the cpu is one device: there is no number {number}, only 0"))),
    }
}

/// Opens `backend`, on the device of that number or on the one with most memory, and runs `job` on it. [`Backend::Auto`]
/// takes the first that opens and logs which, and why not the others; any other that is missing is
/// [`Error::Unavailable`], never a silent run elsewhere.
pub(crate) fn dispatch<J: WithOps>(backend: Backend, device: Option<usize>, job: J) -> Result<J::Output, Error> {
    match backend {
        Backend::Auto => {
            let mut passed = Vec::new();
            for gpu in [Backend::Cuda, Backend::Wgpu] {
                match open_absent(gpu, device) {
                    Ok(ops) => return job.run(ops),
                    Err(e) => passed.push(e.to_string()),
                }
            }
            log::info!("running on the cpu ({})", passed.join("; "));
            job.run(open_cpu(device)?)
        }
        Backend::Cpu => job.run(open_cpu(device)?),
        Backend::Wgpu | Backend::Cuda => job.run(open_absent(backend, device)?),
    }
}

/// One place where the arithmetic can run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Which backend reaches it.
    pub backend: Backend,
    /// Its number among the devices of the backend, as [`Config::device`](crate::Config::device) takes it; `None` for the
    /// cpu and where there is no device.
    pub number: Option<usize>,
    /// The device's name, or the backend's when there is no device.
    pub name: String,
    /// Whether it can be used.
    pub available: bool,
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
        memory_bytes: None,
        detail: match cpu::Level::from_env() {
            Ok(level) => format!("{threads} thread{}, {level} instructions", if threads == 1 { "" } else { "s" }),
            Err(e) => e.to_string(),
        },
    }];
    for backend in [Backend::Wgpu, Backend::Cuda] {
        if let Err(Error::Unavailable { reason, .. }) = open_absent(backend, None) {
            list.push(DeviceInfo {
                backend,
                number: None,
                name: backend.to_string(),
                available: false,
                memory_bytes: None,
                detail: reason,
            });
        }
    }
    list
}
