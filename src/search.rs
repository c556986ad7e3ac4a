//! Queries: tables from a query, the scan, the best k.

use std::{cmp::Ordering, collections::BinaryHeap};

use rayon::prelude::*;

use crate::{
    Backend, Error, InputError, Mat, MatRef, Metric,
    format::Parsed,
    index::Index,
    model::{Code, Model},
    ops::{self, CodesRef, Ops, ScoreTables, WithOps, product_nt},
    read::RowSource,
};

/// One row found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The row's id: its number, from 0, in the vectors that were compressed.
    pub id: u64,
    /// Larger is nearer: the estimated cosine, inner product, or negative squared distance.
    pub score: f32,
}

/// Rows found for a batch of queries, best first; of equal scores the lower row first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// Queries x min(k, n) ids.
    pub ids: Mat<u64>,
    /// Their scores.
    pub scores: Mat<f32>,
}

/// A candidate; the greatest is the worst, so that a heap of them gives up its worst first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    score: f32,
    row: u64,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The k largest scores of a stream; of equal ones those of lower rows. O(log k) for a score that enters.
#[derive(Debug)]
pub(crate) struct TopK {
    k: usize,
    heap: BinaryHeap<Candidate>,
    threshold: f32,
}

impl TopK {
    pub(crate) fn new(k: usize) -> Self {
        TopK { k, heap: BinaryHeap::with_capacity(k.min(1 << 16) + 1), threshold: f32::NEG_INFINITY }
    }

    /// The same for scores of at least `floor`, which the k-th largest is known to reach.
    pub(crate) fn above(k: usize, floor: f32) -> Self {
        TopK { threshold: floor, ..TopK::new(k) }
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// What a score must reach to enter.
    #[inline]
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// The k largest of both.
    pub(crate) fn merge(mut self, other: &TopK) -> TopK {
        other.heap.iter().for_each(|c| self.offer(c.score, c.row, |row| row));
        self
    }

    /// Offers the score at `place`; `row_of` turns a place into its row and is only asked for scores that may enter.
    #[inline]
    pub(crate) fn offer(&mut self, score: f32, place: u64, row_of: impl Fn(u64) -> u64) {
        // Not a number only where lengths near the largest float cancel: then it is the farthest.
        let score = if score.is_nan() { f32::NEG_INFINITY } else { score };
        if score < self.threshold || self.k == 0 {
            return;
        }
        // Adding zero makes -0 equal +0 in the total order, as they are in value.
        let entering = Candidate { score: score + 0.0, row: row_of(place) };
        if self.heap.len() < self.k {
            self.heap.push(entering);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && entering < *worst
        {
            *worst = entering;
        }
        if self.heap.len() == self.k {
            self.threshold = self.heap.peek().map_or(f32::NEG_INFINITY, |worst| worst.score);
        }
    }

    /// Scores and rows, best first.
    pub(crate) fn into_sorted(self) -> Vec<(f32, u64)> {
        self.heap.into_sorted_vec().into_iter().map(|c| (c.score, c.row)).collect()
    }
}

/// An index made ready on one backend for many queries.
pub struct Searcher<'a> {
    model: &'a Model,
    backend: Backend,
    loaded: Box<dyn Search + 'a>,
}

trait Search {
    fn score(&self, queries: &ScoreTables, k: usize) -> Result<Neighbors, Error>;
}

struct Loaded<'a, O: Ops> {
    ops: O,
    codes: O::Codes<'a>,
}

impl<O: Ops> Search for Loaded<'_, O> {
    fn score(&self, queries: &ScoreTables, k: usize) -> Result<Neighbors, Error> {
        self.ops.score(&self.codes, queries, k)
    }
}

struct Open<'a> {
    parsed: &'a Parsed,
    bytes: &'a [u8],
}

impl<'a> WithOps for Open<'a> {
    type Output = Searcher<'a>;

    fn run<O: Ops>(self, ops: O) -> Result<Searcher<'a>, Error> {
        let parsed = self.parsed;
        let codes = ops.load(CodesRef {
            shape: parsed.block,
            blocks: parsed.codes(self.bytes),
            labels: parsed.labels(self.bytes),
            anchor_chart: &parsed.model.anchor_chart,
            alphabet: parsed.model.charts.first().map_or(16, |c| c.code.alphabet()),
            factors: &parsed.model.side.factors,
            gains: &parsed.gains,
            squared: parsed.model.metric == Metric::L2,
        })?;
        let backend = ops.backend();
        Ok(Searcher { model: &parsed.model, backend, loaded: Box::new(Loaded { ops, codes }) })
    }
}

impl<'a> Searcher<'a> {
    /// Makes `index` ready on `backend`. On the CPU this copies nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the backend is not there, [`Error::Device`] when it fails.
    pub fn open<D: AsRef<[u8]>>(index: &'a Index<D>, backend: Backend) -> Result<Searcher<'a>, Error> {
        ops::dispatch(backend, Open { parsed: index.parsed(), bytes: index.bytes() })
    }

    /// The backend that answers.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The `min(k, n)` nearest rows of every query, exhaustively: O(n x symbols) per query.
    ///
    /// # Errors
    /// [`Error::Config`] when k is 0; [`Error::Input`] when the queries have another width than the index, hold a value
    /// that is not finite, or a zero row under cosine.
    pub fn query_batch(&self, queries: MatRef<'_>, k: usize) -> Result<Neighbors, Error> {
        if k == 0 {
            return Err(Error::Config("k must be at least 1".into()));
        }
        let mut ids = Vec::new();
        let mut scores = Vec::new();
        let mut width = 0;
        // Tables take kilobytes per query, so a large batch goes in parts.
        for start in (0..queries.rows()).step_by(QUERIES) {
            let part = queries.slice(start..(start + QUERIES).min(queries.rows()));
            let prepared = prepare_queries(part, self.model.metric, &self.model.center, self.model.dim, start)?;
            let mut found = self.loaded.score(&tables(self.model, prepared.rows.view()), k)?;
            width = found.ids.dim();
            for (row, &constant) in
                found.scores.as_mut_slice().chunks_exact_mut(width.max(1)).zip(&prepared.constants)
            {
                row.iter_mut().for_each(|score| *score -= constant);
            }
            ids.extend(found.ids.into_vec());
            scores.extend(found.scores.into_vec());
        }
        Ok(Neighbors { ids: Mat::new(ids, queries.rows(), width)?, scores: Mat::new(scores, queries.rows(), width)? })
    }
}

impl Searcher<'_> {
    /// As [`Searcher::query_batch`] for queries that are as the codec sees them; scores lack the queries' own constants.
    pub(crate) fn query_prepared(&self, queries: MatRef<'_>, k: usize) -> Result<Neighbors, Error> {
        self.loaded.score(&tables(self.model, queries), k)
    }
}

/// Queries of a part of a batch.
const QUERIES: usize = 256;

struct PreparedQueries {
    rows: Mat,
    /// Subtracted from every score of a query: `|q - center|^2` for l2, else 0.
    constants: Vec<f32>,
}

fn prepare_queries(
    queries: MatRef<'_>,
    metric: Metric,
    center: &[f32],
    dim: usize,
    first: usize,
) -> Result<PreparedQueries, Error> {
    if queries.dim() != dim {
        let message = format!("the queries have {} dimensions, the index has {dim}", queries.dim());
        return Err(InputError::new(None, message).into());
    }
    let mut rows = Mat::zeros(queries.rows(), dim);
    let mut constants = vec![0f32; queries.rows()];
    for i in 0..queries.rows() {
        let gain = crate::read::unit_row(queries.row(i), metric, center, rows.row_mut(i))
            .map_err(|e| e.at(None, first + i))?;
        if metric != Metric::Cosine {
            rows.row_mut(i).iter_mut().for_each(|v| *v *= gain);
        }
        if metric == Metric::L2 {
            constants[i] = gain * gain;
        }
    }
    Ok(PreparedQueries { rows, constants })
}

/// What every symbol and anchor adds to the inner product with each query. O(queries x active x (d + alphabet)).
fn tables(model: &Model, queries: MatRef<'_>) -> ScoreTables {
    let count = queries.rows();
    let alphabet = model.charts.first().map_or(16, |c| c.code.alphabet());
    let per_chart = model.symbols() * alphabet;
    let mut tables = Mat::zeros(count, per_chart * model.charts.len());
    let mut bases = Mat::zeros(count, model.anchors());
    let places = model.anchor_places();
    for (g, chart) in model.charts.iter().enumerate() {
        let directions = chart.decoder.to_mat();
        let anchors = chart.anchors.to_rows();
        let mut rotated = Mat::zeros(count, chart.active());
        product_nt(rotated.as_mut_slice(), queries, directions.view(), 1.0);
        let mut at_anchors = Mat::zeros(count, anchors.rows());
        product_nt(at_anchors.as_mut_slice(), rotated.view(), anchors.view(), 1.0);
        for q in 0..count {
            fill_tables(&chart.code, rotated.row(q), &mut tables.row_mut(q)[g * per_chart..(g + 1) * per_chart]);
            let base = bases.row_mut(q);
            for (k, _) in places.iter().enumerate().filter(|(_, place)| place.0 == g) {
                base[k] = at_anchors.row(q)[places[k].1];
            }
        }
    }
    for q in 0..count {
        let mean: f32 = queries.row(q).iter().zip(&model.mean).map(|(q, m)| q * m).sum();
        bases.row_mut(q).iter_mut().for_each(|b| *b += mean);
    }
    ScoreTables { tables, bases }
}

/// Folds every lag into the table of the symbol it reaches back to: what is looked up depends on one symbol alone.
fn fill_tables(code: &Code, query: &[f32], tables: &mut [f32]) {
    let (alphabet, entries) = (code.alphabet(), code.entries());
    let mut direction = 0;
    for (t, &width) in code.widths.iter().enumerate() {
        for _ in 0..width {
            for lag in 0..=code.lags.min(t) {
                let from = &code.tables[direction * entries + lag * alphabet..][..alphabet];
                let to = &mut tables[(t - lag) * alphabet..][..alphabet];
                for (to, from) in to.iter_mut().zip(from) {
                    *to += query[direction] * from;
                }
            }
            direction += 1;
        }
    }
}

/// The exact nearest rows of every query by brute force over the original rows, streamed; the truth that recall is
/// measured against. O(n x queries x d).
///
/// # Errors
/// As [`Searcher::query_batch`], and for rows that cannot be read or used.
pub fn exact_neighbors(
    rows: &dyn RowSource,
    queries: MatRef<'_>,
    k: usize,
    metric: Metric,
) -> Result<Neighbors, Error> {
    if k == 0 {
        return Err(Error::Config("k must be at least 1".into()));
    }
    let mut center = vec![0f32; rows.dim()];
    if metric == Metric::L2 {
        // Any point will do; one amid the rows keeps the digits of their distances.
        let mut first = Mat::zeros(rows.rows().min(4096), rows.dim());
        rows.read(0, first.as_mut_slice())?;
        center = crate::train::mean(first.view());
        center.iter_mut().for_each(|c| *c = if c.is_finite() { *c } else { 0.0 });
    }
    let prepared = prepare_queries(queries, metric, &center, rows.dim(), 0)?;
    let mut exact = Exact::new(prepared.rows, k.min(rows.rows()), metric);
    crate::read::for_each_chunk(rows, |first, chunk| {
        let mut unit = Mat::zeros(chunk.rows(), chunk.dim());
        let mut gains = Vec::with_capacity(chunk.rows());
        for i in 0..chunk.rows() {
            let gain = crate::read::unit_row(chunk.row(i), metric, &center, unit.row_mut(i))
                .map_err(|e| e.at(rows.path(), first + i))?;
            gains.push(if metric == Metric::Cosine { 1.0 } else { gain });
        }
        exact.offer(first as u64, unit.view(), &gains);
        Ok(())
    })?;
    let mut found = exact.finish();
    let width = found.scores.dim().max(1);
    for (row, constant) in found.scores.as_mut_slice().chunks_exact_mut(width).zip(prepared.constants) {
        row.iter_mut().for_each(|score| *score -= constant);
    }
    Ok(found)
}

/// Exact neighbours over rows that arrive in chunks.
pub(crate) struct Exact {
    queries: Mat,
    tops: Vec<TopK>,
    metric: Metric,
    k: usize,
}

impl Exact {
    /// `queries` as the codec sees them (normalised for cosine, centred for l2).
    pub(crate) fn new(queries: Mat, k: usize, metric: Metric) -> Self {
        let tops = (0..queries.rows()).map(|_| TopK::new(k)).collect();
        Exact { queries, tops, metric, k }
    }

    /// Offers unit rows with their gains, numbered from `first`.
    pub(crate) fn offer(&mut self, first: u64, unit: MatRef<'_>, gains: &[f32]) {
        const QUERY_CHUNK: usize = 32;
        let (queries, metric) = (self.queries.view(), self.metric);
        self.tops.par_chunks_mut(QUERY_CHUNK).enumerate().for_each(|(c, tops)| {
            let queries = queries.slice(c * QUERY_CHUNK..c * QUERY_CHUNK + tops.len());
            let mut products = vec![0f32; tops.len() * unit.rows()];
            product_nt(&mut products, queries, unit, 1.0);
            for (top, products) in tops.iter_mut().zip(products.chunks_exact(unit.rows().max(1))) {
                for (i, (&p, &gain)) in products.iter().zip(gains).enumerate() {
                    let score = if metric == Metric::L2 { 2.0 * gain * p - gain * gain } else { gain * p };
                    top.offer(score, first + i as u64, |row| row);
                }
            }
        });
    }

    pub(crate) fn finish(self) -> Neighbors {
        let mut found =
            Neighbors { ids: Mat::zeros(self.tops.len(), self.k), scores: Mat::zeros(self.tops.len(), self.k) };
        for (q, top) in self.tops.into_iter().enumerate() {
            for (i, (score, row)) in top.into_sorted().into_iter().enumerate() {
                found.ids.row_mut(q)[i] = row;
                found.scores.row_mut(q)[i] = score;
            }
        }
        found
    }
}

/// Share of the true neighbours that were found: the mean over queries of |found and true| / |true|.
#[must_use]
pub fn recall(found: MatRef<'_, u64>, truth: MatRef<'_, u64>) -> f64 {
    let total = truth.rows() * truth.dim();
    if total == 0 {
        return 1.0;
    }
    let hits: usize = (0..truth.rows().min(found.rows()))
        .map(|q| truth.row(q).iter().filter(|id| found.row(q).contains(id)).count())
        .sum();
    hits as f64 / total as f64
}
