//! The CPU backend: rayon over fixed chunks of rows, so that results do not depend on the number of threads.

pub(crate) mod assign;
pub(crate) mod blocks;
pub(crate) mod encode;
pub(crate) mod encode_pairs;
pub(crate) mod encode_survivors;
pub(crate) mod lengths;
pub(crate) mod mlp;
pub(crate) mod panels;
pub(crate) mod project;
pub(crate) mod query;
pub(crate) mod reduce;
pub(crate) mod scan;
pub(crate) mod score;
pub(crate) mod simd;
pub(crate) mod update;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{
    backend::Backend,
    error::Error,
    matrix::{Mat, MatRef},
    model::mlp::Mlp,
    neighbors::Neighbors,
    ops::{
        mlp::FitStep,
        seam::{Device, Learn, Ops},
        types::{Assignments, Cells, CodesRef, EncodeJob, Encoded, ScoreTables, Step},
    },
};
use reduce::CellStats;

pub(super) use simd::Level;

/// This machine's processor.
pub(super) struct Cpu {
    level: Level,
    /// Whether the last scan went from the last row to the first.
    backwards: AtomicBool,
}

impl Cpu {
    /// With the instructions of `level`, which this machine must have.
    pub(super) fn with(level: Level) -> Cpu {
        Cpu { level, backwards: AtomicBool::new(false) }
    }
}

/// With the widest instructions, or those that `VLC_SIMD` names.
pub(super) fn open() -> Result<Cpu, Error> {
    Level::from_env().map(Cpu::with)
}

impl Device for Cpu {
    type Rows = Mat;

    fn backend(&self) -> Backend {
        Backend::Cpu
    }

    fn upload(&self, rows: MatRef<'_>) -> Result<Mat, Error> {
        Mat::new(rows.as_slice().to_vec(), rows.rows(), rows.dim())
    }

    fn download(&self, rows: &Mat) -> Result<Mat, Error> {
        Ok(rows.clone())
    }

    fn upload_owned(&self, rows: Mat) -> Result<Mat, Error> {
        Ok(rows)
    }

    fn download_owned(&self, rows: Mat) -> Result<Mat, Error> {
        Ok(rows)
    }

    fn copy(&self, rows: &Mat) -> Result<Mat, Error> {
        Ok(rows.clone())
    }

    fn select(&self, rows: &Mat, picked: &[u32]) -> Result<Mat, Error> {
        let mut out = Mat::zeros(picked.len(), rows.dim());
        picked.iter().enumerate().for_each(|(r, &i)| out.row_mut(r).copy_from_slice(rows.row(i as usize)));
        Ok(out)
    }
}

impl Learn for Cpu {
    type Net = mlp::Net;

    fn upload_net(&self, mlp: &Mlp) -> Result<mlp::Net, Error> {
        Ok(mlp::net(mlp))
    }

    fn download_net(&self, net: &mlp::Net) -> Result<Mlp, Error> {
        Ok(net.mlp())
    }

    fn fit(&self, net: &mut mlp::Net, rows: &Mat, targets: &Mat, picked: &[u32], step: FitStep) -> Result<(), Error> {
        net.fit(rows.view(), targets.view(), picked, step);
        Ok(())
    }

    fn errors(&self, net: &mlp::Net, rows: &Mat, targets: &Mat) -> Result<Vec<f32>, Error> {
        Ok(net.errors(rows.view(), targets.view()))
    }

    fn code_targets(&self, net: &mlp::Net, rows: &Mat, targets: &Mat, damp: &[f32]) -> Result<Mat, Error> {
        Ok(net.code_targets(rows.view(), targets.view(), damp))
    }
}

impl Ops for Cpu {
    type Assigned = Assignments;
    type Stats = CellStats;
    type Codes = ();

    fn assign(&self, rows: &Mat, anchors: &Mat, candidates: usize) -> Result<Assignments, Error> {
        Ok(assign::assign(rows.view(), anchors.view(), candidates))
    }

    fn assignments(&self, assigned: &Assignments) -> Result<Assignments, Error> {
        Ok(assigned.clone())
    }

    fn energy(&self, assigned: &Assignments) -> Result<f64, Error> {
        Ok(assigned.energy())
    }

    fn reduce(&self, rows: &Mat, assigned: &Assignments, anchors: usize, trim: f32) -> Result<CellStats, Error> {
        Ok(reduce::reduce(rows.view(), assigned, anchors, trim))
    }

    fn cells(&self, stats: &CellStats) -> Result<Cells, Error> {
        Ok(stats.cells.clone())
    }

    fn means(&self, stats: &CellStats) -> Result<Mat, Error> {
        Ok(stats.means.clone())
    }

    fn update(&self, anchors: &mut Mat, stats: &CellStats, step: Step<'_>) -> Result<(), Error> {
        update::update(anchors, stats, step);
        Ok(())
    }

    fn project(&self, rows: &Mat, offset: &[f32], transform: MatRef<'_>) -> Result<Mat, Error> {
        Ok(project::project(rows.view(), offset, transform))
    }

    fn encode(&self, rows: &Mat, job: EncodeJob<'_, Assignments>) -> Result<Encoded, Error> {
        Ok(encode::encode(self.level, rows.view(), job))
    }

    fn load(&self, _: &CodesRef<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn score(
        &self,
        codes: &CodesRef<'_>,
        (): &Self::Codes,
        queries: &ScoreTables,
        k: usize,
    ) -> Result<Neighbors, Error> {
        let backwards = self.backwards.fetch_xor(true, Ordering::Relaxed);
        Ok(score::score(self.level, codes, queries, k, backwards))
    }
}
