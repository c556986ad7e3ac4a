//! The score's factor |u_hat|^-alpha: a badly coded row is short, and dividing by a power of its length puts it back
//! where it belongs among the others. Alpha is chosen on sample queries.

use rayon::prelude::*;

use super::quantize;
use crate::{
    math::{product::product_nt, rng::Random, topk::TopK},
    matrix::{Mat, MatRef},
    model::{Model, factor, kinds::Metric},
    neighbors::Neighbors,
    search::exact::Exact,
};

/// The k that recall is measured at.
pub(crate) const TARGET_K: usize = 10;
/// Rows and queries alpha is chosen on.
const ROWS: usize = 12_288;
const QUERIES: usize = 512;
const ALPHAS: [f32; 9] = [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2];
/// What is taken when there is nothing to choose on.
const DEFAULT_ALPHA: f32 = 0.7;
const PURPOSE_ROWS: u64 = 7;

/// The rows of the sample that calibration looks at.
pub(crate) fn sample(rows: usize, seed: u64) -> Vec<usize> {
    Random::new(seed, PURPOSE_ROWS).sample(rows, ROWS)
}

/// Copies of some rows and their gains.
pub(crate) fn gather(rows: MatRef<'_>, gains: &[f32], picked: &[usize]) -> (Mat, Vec<f32>) {
    let mut out = Mat::zeros(picked.len(), rows.dim());
    for (r, &i) in picked.iter().enumerate() {
        out.row_mut(r).copy_from_slice(rows.row(i));
    }
    (out, picked.iter().map(|&i| gains[i]).collect())
}

/// The neighbours by true scores of `queries` among `unit` rows; `skip` leaves row q out of query q's.
pub(crate) fn truth_scores(queries: &Mat, unit: MatRef<'_>, gains: &[f32], metric: Metric, skip: bool) -> Neighbors {
    let k = (TARGET_K + usize::from(skip)).min(unit.rows());
    let mut exact = Exact::new(queries.clone(), k, metric);
    exact.offer(0, unit, gains);
    exact.finish()
}

/// The alpha of highest recall on the sample queries, or on rows in their place.
pub(crate) fn choose_alpha(
    model: &Model,
    norms: &[f32],
    decoded: MatRef<'_>,
    unit: MatRef<'_>,
    gains: &[f32],
    queries: Option<MatRef<'_>>,
) -> f32 {
    // A query that is a row of the store is its own nearest neighbour whatever alpha is, which costs nothing.
    let source = queries.filter(|q| q.rows() >= 32).unwrap_or(unit);
    let count = source.rows().min(QUERIES);
    if unit.rows() < 8 * TARGET_K || count < 32 {
        return DEFAULT_ALPHA;
    }
    let mut chosen = Mat::zeros(count, unit.dim());
    for q in 0..count {
        chosen.row_mut(q).copy_from_slice(source.row(q * source.rows() / count));
    }
    let truth = truth_scores(&chosen, unit, gains, model.metric, false);
    const CHUNK: usize = 32;
    let mut products = Mat::zeros(count, unit.rows());
    products.as_mut_slice().par_chunks_mut(CHUNK * unit.rows()).enumerate().for_each(|(chunk, out)| {
        let first = chunk * CHUNK;
        product_nt(out, chosen.view().slice(first..first + out.len() / unit.rows()), decoded, 1.0);
    });
    let factors: Vec<Vec<f32>> =
        ALPHAS.par_iter().map(|&alpha| norms.iter().map(|&n| factor(n, alpha)).collect()).collect();
    // All alphas for one query, whose products are then at hand.
    let hits_of = |q: usize| -> [usize; ALPHAS.len()] {
        let mut scores = vec![0f32; unit.rows()];
        std::array::from_fn(|a| {
            let of_rows = scores.iter_mut().zip(products.row(q)).zip(gains).zip(&factors[a]);
            for (((score, p), gain), factor) in of_rows {
                let s = gain * factor * p;
                *score = if model.metric == Metric::L2 { 2.0 * s - gain * gain } else { s };
            }
            let mut top = TopK::new(truth.ids.dim());
            top.offer_all(&scores, 0, |row| row);
            top.into_sorted().iter().filter(|(_, row)| truth.ids.row(q).contains(row)).count()
        })
    };
    let hits: Vec<_> = (0..count).into_par_iter().map(hits_of).collect();
    let measured: [usize; ALPHAS.len()] = std::array::from_fn(|a| hits.iter().map(|hits| hits[a]).sum());
    // Neighbouring values of alpha differ by less than the error of one measurement, so they vote together.
    let smooth = |i: usize| {
        let (lo, hi) = (i.saturating_sub(1), (i + 1).min(ALPHAS.len() - 1));
        measured[lo] + 2 * measured[i] + measured[hi]
    };
    let best = (0..ALPHAS.len()).fold(0, |best, i| if smooth(i) > smooth(best) { i } else { best });
    ALPHAS[best]
}

/// The factor levels for rows of these decoded lengths.
pub(crate) fn factor_levels(norms: &[f32], alpha: f32) -> Vec<f32> {
    quantize::levels(&norms.iter().map(|&n| factor(n, alpha)).collect::<Vec<_>>())
}
