//! Brute force over the original rows: the truth that recall is measured against.

use rayon::prelude::*;

use crate::{Error, Mat, MatRef, Metric, Neighbors, RowSource, ops::product_nt, query::prepare_queries, topk::TopK};

/// The exact nearest rows of every query by brute force over the original rows, streamed; the truth that recall is
/// measured against. O(n x queries x d).
///
/// # Errors
/// As [`Searcher::query_batch`](crate::Searcher::query_batch), and for rows that cannot be read or used.
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
