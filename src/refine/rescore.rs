//! The best rows of a scan scored again, with the layer: a few lookups a symbol for each of them.

use rayon::prelude::*;

use crate::{
    error::Error,
    format::{refine::RefineRows, rows::BLOCK},
    math::topk::TopK,
    matrix::{Mat, MatRef},
    model::{kinds::CodeKind, refine::Refine},
    neighbors::Neighbors,
    ops::types::{CodesRef, ScoreTables},
    search::tables::QueryModel,
};

/// The rows of a segment, whose positions follow those of the segments before it.
pub(crate) struct Part<'a> {
    /// Its first position among all.
    pub(crate) position: u64,
    /// The number of its first row.
    pub(crate) row: u64,
    pub(crate) base: CodesRef<'a>,
    pub(crate) refine: RefineRows<'a>,
}

/// Rows of a scan that are scored again for `k` hits. With codes of 46 bytes of 384 dimensions that loses less than 0.001 of
/// recall against scoring all rows again; what the base says less well takes more.
pub(crate) fn candidates(k: usize) -> usize {
    k.saturating_mul(4).saturating_add(100)
}

/// Scores rows again. Queries are as the codec sees them, their scores without constants of their own, as
/// [`Ops::score`](crate::ops::seam::Ops::score) has them.
pub(crate) struct Rescorer<'a> {
    refine: &'a Refine,
    queries: QueryModel,
    parts: Vec<Part<'a>>,
}

impl<'a> Rescorer<'a> {
    /// Of segments in order. O(d active) memory and time.
    pub(crate) fn new(refine: &'a Refine, parts: Vec<Part<'a>>) -> Self {
        Rescorer { refine, queries: QueryModel::new(refine.model()), parts }
    }

    /// The `k` best rows of each query's candidates (queries x c positions), ties to the lower row number. `tables` are the base's.
    /// O(d active + c symbols) a query.
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
        let further = self.queries.tables(self.refine.model(), queries, None);
        let of_query = |q: usize| {
            let query = Query {
                tables: tables.tables.row(q),
                bases: tables.bases.row(q),
                refine: further.tables.row(q),
                refine_base: further.bases.row(q)[0],
            };
            let mut top = TopK::new(k);
            for &position in candidates.row(q) {
                let Some(part) = self.part_of(position) else { continue };
                let at = position - part.position;
                top.offer(part.score(self.refine, &query, at), at, |at| part.row + part.base.labels.row(at));
            }
            top.into_sorted()
        };
        let found: Vec<_> = (0..queries.rows()).into_par_iter().map(of_query).collect();
        let (scores, ids) = found.into_iter().flatten().unzip();
        Ok(Neighbors { ids: Mat::new(ids, queries.rows(), k)?, scores: Mat::new(scores, queries.rows(), k)? })
    }

    fn part_of(&self, position: u64) -> Option<&Part<'a>> {
        self.parts[..self.parts.partition_point(|part| part.position <= position)].last()
    }
}

impl Part<'_> {
    fn score(&self, refine: &Refine, query: &Query<'_>, position: u64) -> f32 {
        let product = self.base_product(query, position) + self.residual_product(query, position);
        let factor = refine.factors().get(usize::from(self.refine.factor(position))).copied().unwrap_or(1.0);
        let gain = self.base.gain(position);
        if self.base.squared { 2.0 * gain * factor * product - gain * gain } else { gain * factor * product }
    }

    /// `<q, u_hat>`.
    fn base_product(&self, query: &Query<'_>, position: u64) -> f32 {
        let (codes, shape) = (&self.base, self.base.shape);
        let cell = codes.labels.cell_of(position);
        let (chart, block, i) = self.place(position, cell);
        let per_chart = shape.symbols * codes.alphabet;
        let tables = &query.tables[chart * per_chart..(chart + 1) * per_chart];
        // Four sums: one would wait for itself. Four planes of 4-bit symbols are as long as the tables of four symbols.
        let mut sums = [0f32; 4];
        let mut first = 0;
        if shape.kind == CodeKind::Chain {
            let (column, shift) = (i % 16, 4 * (i / 16));
            for (table, planes) in tables.as_chunks::<64>().0.iter().zip(block.as_chunks::<64>().0) {
                for (s, sum) in sums.iter_mut().enumerate() {
                    *sum += table[16 * s + usize::from(planes[16 * s + column] >> shift & 15)];
                }
                first += 4;
            }
        }
        for (t, table) in tables.chunks_exact(codes.alphabet.max(1)).enumerate().skip(first) {
            sums[t % 4] += table[usize::from(shape.symbol(block, t, i))];
        }
        query.bases[cell] + ((sums[0] + sums[1]) + (sums[2] + sums[3]))
    }

    /// `<q, e_hat>`.
    fn residual_product(&self, query: &Query<'_>, position: u64) -> f32 {
        let mut sums = [0f32; 4];
        let (tables, last) = query.refine.as_chunks::<64>();
        let (pairs, rest) = self.refine.packed(position).as_chunks::<2>();
        for (table, [low, high]) in tables.iter().zip(pairs) {
            sums[0] += table[usize::from(low & 15)];
            sums[1] += table[16 + usize::from(low >> 4)];
            sums[2] += table[32 + usize::from(high & 15)];
            sums[3] += table[48 + usize::from(high >> 4)];
        }
        // Up to three symbols are left, in as many bytes as they take.
        let rest = if let Some(pair) = pairs.get(tables.len()) { pair.as_slice() } else { rest };
        for (t, table) in last.chunks_exact(16).enumerate() {
            sums[t] += table[usize::from(rest[t / 2] >> (4 * (t % 2)) & 15)];
        }
        query.refine_base + ((sums[0] + sums[1]) + (sums[2] + sums[3]))
    }

    /// The chart of a cell, the block of a position and the place in it.
    fn place(&self, position: u64, cell: usize) -> (usize, &[u8], usize) {
        let (at, stride) = (position as usize, self.base.shape.bytes());
        let block = at / BLOCK;
        let chart = usize::from(self.base.anchor_chart[cell]);
        (chart, &self.base.blocks[block * stride..(block + 1) * stride], at % BLOCK)
    }
}

/// A query's tables.
struct Query<'a> {
    tables: &'a [f32],
    bases: &'a [f32],
    refine: &'a [f32],
    refine_base: f32,
}
