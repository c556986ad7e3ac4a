//! The single entry: read, plan, train, encode, write.

pub(crate) mod drift;
pub(crate) mod fit;
pub(crate) mod held_out;
pub(crate) mod plan;
pub(crate) mod rows;
pub(crate) mod trial;
pub(crate) mod with_model;

use std::{io::Cursor, path::Path};

use crate::{
    config::{Config, check_keys},
    error::Error,
    file::publish::publish_at,
    index::Index,
    matrix::MatRef,
    model::learned::Learned,
    ops::{
        run,
        seam::{Ops, WithOps},
    },
    platform::Stopwatch,
    read::{prepare::chunk_rows, source::RowSource},
    report::{HeldOutRecall, QuerySource, Report, stage_report, teller},
    train::{allocate::symbol_bits, sample::sample_rows},
};
use fit::{Fitted, fit};
use rows::{FileTarget, Target, encode_prepared, write_file};

/// Compresses `rows` (n x dim) into an index in memory.
///
/// O(n (K + dim) dim) time; memory for the sample, the codes and a few bytes per row.
///
/// # Errors
/// [`Error::Config`] for settings out of range, [`Error::Budget`] when the budget cannot be met, [`Error::Input`] for
/// rows or queries that cannot be used (naming row and column), [`Error::Unavailable`] and [`Error::Device`] as the
/// backend has it, [`Error::Cancelled`] when the callback asked for it.
pub fn compress(rows: MatRef<'_>, config: &Config<'_>) -> Result<Index<Vec<u8>>, Error> {
    check_keys(&config.metadata)?;
    let job = Job { rows: &rows, config, target: Cursor::new(Vec::new()), output: Path::new("memory") };
    let (target, _) = run(&config.compute, job)?;
    Index::from_bytes(target.into_inner())
}

/// Compresses `rows` into the file `path`, a chunk of rows at a time: memory does not grow with the rows but for some
/// bytes each. The file appears under its name when it is whole; on any error nothing is left behind.
///
/// # Errors
/// As [`compress`], and [`Error::Io`] when the file cannot be written.
pub fn compress_to(rows: &dyn RowSource, path: impl AsRef<Path>, config: &Config<'_>) -> Result<Report, Error> {
    check_keys(&config.metadata)?;
    compress_as_is(rows, path.as_ref(), config)
}

/// The same for metadata of any keys.
pub(crate) fn compress_as_is(rows: &dyn RowSource, path: &Path, config: &Config<'_>) -> Result<Report, Error> {
    publish_at(path, &teller(config.progress), |file| {
        let target = FileTarget(file.try_clone().map_err(|e| Error::io(path, e))?);
        let job = Job { rows, config, target, output: path };
        run(&config.compute, job).map(|(_, report)| report)
    })
}

/// Bytes that compressing takes on a device that has memory of its own: the sample in three spaces and as the operands of
/// products, or the rows that are encoded at a time with their codes; and what does not grow with the rows.
fn device_memory<O: Ops>(ops: &O, n: usize, dim: usize) -> u64 {
    const PER_VALUE: u64 = 20;
    const FIXED: u64 = 96 << 20;
    let rows = n.min((ops.chunks() * chunk_rows(dim)).max(sample_rows(n, dim)));
    PER_VALUE * rows as u64 * dim as u64 + FIXED
}

struct Job<'a, T> {
    rows: &'a dyn RowSource,
    config: &'a Config<'a>,
    target: T,
    /// The file to be, for messages, and beside which there is room.
    output: &'a Path,
}

impl<T: Target> WithOps for Job<'_, T> {
    type Output = (T, Report);

    fn run<O: Ops>(self, ops: O) -> Result<(T, Report), Error> {
        let watch = Stopwatch::start();
        let config = self.config;
        let (n, dim) = (self.rows.rows(), self.rows.dim());
        if n > 0 && dim > 0 {
            ops.ensure_room(device_memory(&ops, n, dim))?;
        }
        let fitted = fit(&ops, self.rows, config, &watch)?;
        let report = stage_report(config.progress);
        let encoded = encode_prepared(&ops, &fitted, self.output, &report)?;
        let (target, meta, file_bytes) = write_file(self.target, &fitted, encoded, self.output, &report)?;
        let Fitted { refine, learned, plan_seconds, train_seconds, .. } = &fitted;
        let seconds = watch.seconds();
        let bytes_per_vector = file_bytes as f64 / n as f64;
        let source = if meta.query_source == 1 { QuerySource::Sample } else { QuerySource::Rows };
        let report = Report {
            n: n as u64,
            dim: meta.dim,
            file_bytes,
            bytes_per_vector,
            ratio: bytes_per_vector / (4.0 * f64::from(meta.dim)),
            anchors: meta.anchors,
            charts: meta.charts,
            code_bytes: (meta.symbols as usize * symbol_bits(meta.kind)) as f64 / 8.0,
            refine_bytes: refine.as_ref().map(|t| t.refine.width() as u32),
            refine_energy: refine.as_ref().map(|t| t.energy),
            decoder: learned.as_ref().map(Learned::shape),
            unseen_energy: learned.as_ref().map(|learned| learned.unseen_energy).filter(|e| e.is_finite()),
            energy: meta.energy,
            anchor_energy: meta.anchor_energy,
            recall: (meta.query_source != 0).then_some(HeldOutRecall {
                recall: meta.recall,
                k: meta.recall_k,
                queries: meta.recall_queries,
                source,
            }),
            plan_seconds: *plan_seconds,
            train_seconds: *train_seconds,
            encode_seconds: seconds - plan_seconds - train_seconds,
            seconds,
            backend: ops.backend(),
        };
        Ok((target, report))
    }
}
