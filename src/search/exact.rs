//! Brute force over the original rows: the truth that recall is measured against.

use std::ops::ControlFlow;

use rayon::prelude::*;

use super::tables::possible;
use crate::{
    error::Error,
    math::{product::product_nt, topk::TopK},
    matrix::{Mat, MatRef},
    model::{kinds::Metric, score::score},
    neighbors::Neighbors,
    read::{prepare::prepare_queries, source::RowSource},
};

/// The exact nearest rows of every query by brute force over the original rows, streamed; the truth that recall is
/// measured against. O(n x queries x d).
///
/// # Errors
/// As [`Searcher::search`](crate::index::searcher::Searcher::search), and for rows that cannot be read or used.
pub fn exact_neighbors(
    rows: &dyn RowSource,
    queries: MatRef<'_>,
    k: usize,
    metric: Metric,
) -> Result<Neighbors, Error> {
    exact_neighbors_with(rows, queries, k, metric, |_, _| ControlFlow::Continue(()))
}

/// As [`exact_neighbors`]; `progress` is told how many rows of how many have been looked at, some thousands at a time, and may end it.
///
/// # Errors
/// As [`exact_neighbors`], and [`Error::Cancelled`] where `progress` asked for it.
pub fn exact_neighbors_with(
    rows: &dyn RowSource,
    queries: MatRef<'_>,
    k: usize,
    metric: Metric,
    progress: impl Fn(u64, u64) -> ControlFlow<()>,
) -> Result<Neighbors, Error> {
    if k == 0 {
        return Err(Error::Config("k must be at least 1".into()));
    }
    let mut center = vec![0f32; rows.dim()];
    if metric == Metric::L2 {
        // Any point will do; one amid the rows keeps the digits of their distances.
        let mut first = Mat::zeros(rows.rows().min(4096), rows.dim());
        rows.read(0, first.as_mut_slice())?;
        center = crate::math::center::center(first.view());
    }
    let prepared = prepare_queries(queries, metric, &center, rows.dim(), 0)?;
    let mut exact = Exact::new(prepared.rows, k.min(rows.rows()), metric);
    crate::read::prepare::for_each_chunk(rows, |first, chunk| {
        if progress(first as u64, rows.rows() as u64).is_break() {
            return Err(Error::Cancelled);
        }
        let mut unit = Mat::zeros(chunk.rows(), chunk.dim());
        let mut gains = Vec::with_capacity(chunk.rows());
        for i in 0..chunk.rows() {
            let gain = crate::read::prepare::unit_row(chunk.row(i), metric, &center, unit.row_mut(i))
                .map_err(|e| e.at(rows.path(), first + i))?;
            gains.push(if metric == Metric::Cosine { 1.0 } else { gain });
        }
        exact.offer(first as u64, unit.view(), &gains);
        Ok(())
    })?;
    let mut found = exact.finish();
    let width = found.scores.dim().max(1);
    for (row, constant) in found.scores.as_mut_slice().chunks_exact_mut(width).zip(prepared.constants) {
        row.iter_mut().for_each(|score| *score = possible(metric, *score - constant));
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
        const QUERY_CHUNK: usize = 16;
        let (queries, squared) = (self.queries.view(), self.metric == Metric::L2);
        self.tops.par_chunks_mut(QUERY_CHUNK).enumerate().for_each(|(c, tops)| {
            let queries = queries.slice(c * QUERY_CHUNK..c * QUERY_CHUNK + tops.len());
            let mut products = vec![0f32; tops.len() * unit.rows()];
            product_nt(&mut products, queries, unit, 1.0);
            for (top, products) in tops.iter_mut().zip(products.chunks_exact_mut(unit.rows().max(1))) {
                products.iter_mut().zip(gains).for_each(|(p, &gain)| *p = score(squared, gain, 1.0, *p));
                top.offer_all(products, first, |row| row);
            }
        });
    }

    /// The queries, as rows have to be multiplied with them for [`Exact::offer_products`].
    pub(crate) fn queries(&self) -> MatRef<'_> {
        self.queries.view()
    }

    /// As [`Exact::offer`], from the products of the rows with the queries (rows x queries).
    pub(crate) fn offer_products(&mut self, first: u64, products: MatRef<'_>, gains: &[f32]) {
        const QUERY_CHUNK: usize = 16;
        let squared = self.metric == Metric::L2;
        self.tops.par_chunks_mut(QUERY_CHUNK).enumerate().for_each(|(c, tops)| {
            let own = c * QUERY_CHUNK..c * QUERY_CHUNK + tops.len();
            // Until every query has as many as it wants, its threshold lets all pass.
            let mut thresholds = [f32::INFINITY; QUERY_CHUNK];
            thresholds.iter_mut().zip(&*tops).for_each(|(t, top)| *t = top.threshold());
            for (i, &gain) in gains.iter().enumerate() {
                let mut scores = [f32::NEG_INFINITY; QUERY_CHUNK];
                let row = &products.row(i)[own.clone()];
                scores.iter_mut().zip(row).for_each(|(s, &p)| *s = score(squared, gain, 1.0, p));
                // What is no number is offered too, which says what becomes of it.
                let below = scores.iter().zip(&thresholds).fold(true, |below, (s, t)| below & (s < t));
                if !below {
                    for ((top, &score), threshold) in tops.iter_mut().zip(&scores).zip(&mut thresholds) {
                        top.offer(score, first + i as u64, |row| row);
                        *threshold = top.threshold();
                    }
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
