//! What a device must do, by purpose: [`Device`] copies rows, [`Learn`] has the network, [`Ops`] is both and all else. Each
//! backend implements the three. Loops, schedules and convergence are elsewhere, generic over [`Ops`].

use super::{
    mlp::FitStep,
    types::{Assignments, Cells, CodesRef, EncodeJob, Encoded, ScoreTables, Step},
};
use crate::{
    backend::Backend,
    error::Error,
    matrix::{Mat, MatRef},
    model::mlp::Mlp,
    neighbors::Neighbors,
};

/// A device that holds rows: copies to it, from it and on it.
pub(crate) trait Device: Send + Sync + 'static {
    /// A row-major f32 matrix on the device, freed on drop.
    type Rows;

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

    /// As [`Device::upload`], for rows that the caller needs no more.
    fn upload_owned(&self, rows: Mat) -> Result<Self::Rows, Error> {
        self.upload(rows.view())
    }

    /// As [`Device::download`], giving up what is on the device.
    fn download_owned(&self, rows: Self::Rows) -> Result<Mat, Error> {
        self.download(&rows)
    }

    /// A copy on the device.
    fn copy(&self, rows: &Self::Rows) -> Result<Self::Rows, Error>;

    /// Copies of the rows of these numbers, in the order given; a number may come twice.
    fn select(&self, rows: &Self::Rows, picked: &[u32]) -> Result<Self::Rows, Error>;
}

/// The residual network on a device: how it is trained, and what it makes of rows.
pub(crate) trait Learn: Device {
    /// A network on the device, with the state of its training.
    type Net;

    /// Copies a network over rows of a values to the device, its training at the start.
    fn upload_net(&self, mlp: &Mlp) -> Result<Self::Net, Error>;

    /// Copies a network back: its weights as they are trained, not rounded.
    fn download_net(&self, net: &Self::Net) -> Result<Mlp, Error>;

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
    fn errors(&self, net: &Self::Net, rows: &Self::Rows, targets: &Self::Rows) -> Result<Vec<f32>, Error>;

    /// What codes should be nearest to so that the network behind them comes nearer to `targets`: `y + damp (e + J^T e)` for each
    /// row y, where e is its target less what the network makes of it, and J the derivative of the network without the residual.
    /// `damp` has a value for each row.
    fn code_targets(
        &self,
        net: &Self::Net,
        rows: &Self::Rows,
        targets: &Self::Rows,
        damp: &[f32],
    ) -> Result<Self::Rows, Error>;
}

/// All that a device does; the one bound of everything that runs on one. Results agree between devices: labels and symbols
/// but for near-ties, floats but for rounding.
pub(crate) trait Ops: Device + Learn {
    /// What [`Ops::assign`] found, on the device: labels (n x candidates) and distances (n).
    type Assigned;
    /// What [`Ops::reduce`] found, on the device: counts and variances (anchors), means (anchors x d).
    type Stats;
    /// Codes on the device; nothing where it reads them in the memory of the host.
    type Codes: Send + Sync;

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

    /// Makes codes ready for [`Ops::score`]: copies them to the device, where that has a memory of its own.
    fn load(&self, codes: &CodesRef<'_>) -> Result<Self::Codes, Error>;

    /// The `k` rows of largest score for each query among those within its reach that are allowed, best first; ties go to the lower
    /// row. As many columns as there are allowed rows, where these are fewer. Scores do not depend on what is allowed. `loaded` is of
    /// these codes, whose labels say what a row is called.
    fn score(
        &self,
        codes: &CodesRef<'_>,
        loaded: &Self::Codes,
        queries: &ScoreTables,
        k: usize,
    ) -> Result<Neighbors, Error>;
}

/// A job generic over the device that runs it.
pub(crate) trait WithOps {
    /// What the job returns.
    type Output;
    /// Runs the job.
    fn run<O: Ops>(self, ops: O) -> Result<Self::Output, Error>;
}
