//! The best rows of a scan scored again, with what a file has behind its codes.

use rayon::prelude::*;

use crate::{
    error::Error,
    math::topk::TopK,
    matrix::{Mat, MatRef},
    model::score::score,
    neighbors::Neighbors,
    ops::types::{CodesRef, ScoreTables},
};

/// Rows that a layer is given together, at most.
pub(crate) const TOGETHER: usize = 32;

/// The rows of a segment, whose positions follow those of the segments before it.
pub(crate) struct Part<'a, R> {
    /// Its first position among all.
    pub(crate) position: u64,
    /// The number of its first row.
    pub(crate) row: u64,
    pub(crate) codes: CodesRef<'a>,
    /// What the layer has of the rows.
    pub(crate) behind: R,
}

/// One of the rows to be scored.
pub(crate) struct Row<'p, R> {
    pub(crate) part: &'p Part<'p, R>,
    /// Its position in the segment.
    pub(crate) at: u64,
}

/// What a layer says of a row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Again {
    /// The inner product with the query.
    pub(crate) product: f32,
    pub(crate) factor: f32,
}

/// What stands behind the codes, and scores rows better than they do.
pub(crate) trait Layer: Sync {
    /// What it has of the rows of a segment.
    type Rows: Sync;
    /// What it makes of a batch of queries.
    type Batch: Sync;
    /// A query of a batch.
    type Query<'q>
    where
        Self: 'q;
    /// What a thread works with.
    type Scratch;

    fn batch(&self, queries: MatRef<'_>) -> Self::Batch;

    /// Query `q` of the batch; `tables` are the base's.
    fn query<'q>(&'q self, batch: &'q Self::Batch, tables: &'q ScoreTables, q: usize) -> Self::Query<'q>;

    fn scratch(&self) -> Self::Scratch;

    /// Fills in `again` for `rows`, at most [`TOGETHER`].
    fn look(
        &self,
        query: &Self::Query<'_>,
        rows: &[Row<'_, Self::Rows>],
        scratch: &mut Self::Scratch,
        again: &mut [Again],
    );
}

/// Scores rows again. Queries are as the codec sees them, their scores without constants of their own, as
/// [`Ops::score`](crate::ops::seam::Ops::score) has them.
pub(crate) struct Rescorer<'a, L: Layer> {
    layer: L,
    parts: Vec<Part<'a, L::Rows>>,
}

impl<'a, L: Layer> Rescorer<'a, L> {
    /// Of segments in order.
    pub(crate) fn new(layer: L, parts: Vec<Part<'a, L::Rows>>) -> Self {
        Rescorer { layer, parts }
    }

    /// The `k` best rows of each query's candidates (queries x c positions), ties to the lower row number. `tables` are the base's.
    ///
    /// # Errors
    /// None but those of shapes that do not fit.
    pub(crate) fn best(
        &self,
        queries: MatRef<'_>,
        tables: &ScoreTables,
        candidates: MatRef<'_, u64>,
        k: usize,
    ) -> Result<Neighbors, Error> {
        let k = k.min(candidates.dim());
        let batch = self.layer.batch(queries);
        let scratch = || (self.layer.scratch(), Vec::with_capacity(TOGETHER), [Again::default(); TOGETHER]);
        let of_query = |(scratch, rows, again): &mut (_, Vec<_>, [Again; TOGETHER]), q: usize| {
            let query = self.layer.query(&batch, tables, q);
            let mut top = TopK::new(k);
            for positions in candidates.row(q).chunks(TOGETHER) {
                rows.clear();
                rows.extend(positions.iter().filter_map(|&position| self.row_at(position)));
                self.layer.look(&query, rows, scratch, again);
                for (row, again) in rows.iter().zip(&*again) {
                    let (part, Again { product, factor }) = (row.part, *again);
                    let gain = part.codes.gain(row.at);
                    let score = score(part.codes.squared, gain, factor, product);
                    top.offer(score, row.at, |at| part.row + part.codes.labels.row(at));
                }
            }
            top.into_sorted()
        };
        let found: Vec<_> = (0..queries.rows()).into_par_iter().map_init(scratch, of_query).collect();
        let (scores, ids) = found.into_iter().flatten().unzip();
        Ok(Neighbors { ids: Mat::new(ids, queries.rows(), k)?, scores: Mat::new(scores, queries.rows(), k)? })
    }

    fn row_at(&self, position: u64) -> Option<Row<'_, L::Rows>> {
        let part = self.parts[..self.parts.partition_point(|part| part.position <= position)].last()?;
        Some(Row { part, at: position - part.position })
    }
}
