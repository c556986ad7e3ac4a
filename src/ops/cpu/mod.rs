//! The CPU backend: rayon over fixed chunks of rows, so that results do not depend on the number of threads.

mod assign;
mod blocks;
mod encode;
pub(crate) mod product;
mod project;
mod reduce;
mod scan;
mod score;
mod simd;
mod trellis;
mod update;
mod viterbi;

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Assignments, Backend, CellStats, CodesRef, EncodeJob, Encoded, Ops, ScoreTables, Step};
use crate::{Error, Mat, MatRef, search::Neighbors};

/// Rows of a unit of parallel work.
const CHUNK: usize = 256;

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

impl Ops for Cpu {
    type Rows = Mat;
    type Codes<'a> = CodesRef<'a>;

    fn backend(&self) -> Backend {
        Backend::Cpu
    }

    fn upload(&self, rows: MatRef<'_>) -> Result<Mat, Error> {
        Mat::new(rows.as_slice().to_vec(), rows.rows(), rows.dim())
    }

    fn download(&self, rows: &Mat) -> Result<Mat, Error> {
        Ok(rows.clone())
    }

    fn take(&self, rows: Mat) -> Result<Mat, Error> {
        Ok(rows)
    }

    fn give(&self, rows: Mat) -> Result<Mat, Error> {
        Ok(rows)
    }

    fn assign(&self, rows: &Mat, anchors: MatRef<'_>, candidates: usize) -> Result<Assignments, Error> {
        Ok(assign::assign(rows.view(), anchors, candidates))
    }

    fn reduce(&self, rows: &Mat, assigned: &Assignments, anchors: usize, trim: f32) -> Result<CellStats, Error> {
        Ok(reduce::reduce(rows.view(), assigned, anchors, trim))
    }

    fn update(&self, anchors: &mut Mat, stats: &CellStats, step: Step<'_>) -> Result<(), Error> {
        update::update(anchors, stats, step);
        Ok(())
    }

    fn project(&self, rows: &Mat, offset: &[f32], transform: MatRef<'_>) -> Result<Mat, Error> {
        Ok(project::project(rows.view(), offset, transform))
    }

    fn encode(&self, rows: &Mat, job: EncodeJob<'_>) -> Result<Encoded, Error> {
        Ok(encode::encode(self.level, rows.view(), job))
    }

    fn load<'a>(&self, codes: CodesRef<'a>) -> Result<CodesRef<'a>, Error> {
        Ok(codes)
    }

    fn score(&self, codes: &CodesRef<'_>, queries: &ScoreTables, k: usize) -> Result<Neighbors, Error> {
        let backwards = self.backwards.fetch_xor(true, Ordering::Relaxed);
        Ok(score::score(self.level, codes, queries, k, backwards))
    }
}
