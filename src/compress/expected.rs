//! What recall a plan may expect.

use rayon::prelude::*;

use crate::{
    config::Config,
    math::{product::product_nt, rng::Random},
    matrix::{Mat, MatRef},
    model::kinds::Metric,
    train::sample::Prepared,
};

/// Of the random numbers; that of the planner's pilot, which they follow.
const PURPOSE: u64 = 11;

/// The squared error of the scores that decide, those near the top, in units of the mean over all rows and queries.
/// Fitted to what four budgets from 2 to 8 % bought on text embeddings; it predicts 2 % to 0.06 and
/// the others to 0.01.
const NEAR_ERROR: f64 = 1.6;

/// Recall@10 from the mean squared error of a score and how fast true scores fall with rank.
///
/// Near the top the score of rank r is close to a - b ln r, whatever n is, so recall depends on the error in units of b
/// alone. b is read off the pilot for each query; the rest is a small simulation with a fixed seed.
pub(crate) fn expected_recall(
    prepared: &Prepared<'_>,
    pilot: MatRef<'_>,
    distortion: f64,
    config: &Config<'_>,
) -> Option<f64> {
    const RANKS: usize = 400;
    const QUERIES: usize = 64;
    const DRAWS: usize = 4;
    let (near, far) = (4, 40.min(pilot.rows() / 4));
    if pilot.rows() < 200 || config.metric != Metric::Cosine {
        return None;
    }
    let queries = prepared.training_queries().unwrap_or(pilot);
    let count = queries.rows().min(QUERIES);
    let deviation = (NEAR_ERROR * distortion).sqrt();
    let logarithms: Vec<f64> = (0..RANKS).map(|r| (r as f64 + 0.5).ln()).collect();
    let mut chosen = Mat::zeros(count, queries.dim());
    (0..count).for_each(|q| chosen.row_mut(q).copy_from_slice(queries.row(q * queries.rows() / count)));
    let mut products = Mat::zeros(count, pilot.rows());
    let of_query = |(q, products): (usize, &mut [f32])| -> f64 {
        product_nt(products, chosen.view().slice(q..q + 1), pilot, 1.0);
        let mut random = Random::new(config.seed, PURPOSE + 1 + ((q as u64) << 8));
        let mut hits = 0;
        products.select_nth_unstable_by(far, |a, b| b.total_cmp(a));
        products[..=far].sort_unstable_by(|a, b| b.total_cmp(a));
        let fall = f64::from(products[near] - products[far]) / ((far + 1) as f64 / (near + 1) as f64).ln();
        for _ in 0..DRAWS {
            let mut noisy: Vec<(f64, usize)> =
                (0..RANKS).map(|r| (deviation * f64::from(random.normal()) - fall * logarithms[r], r)).collect();
            noisy.select_nth_unstable_by(9, |a, b| b.0.total_cmp(&a.0));
            hits += noisy[..10].iter().filter(|(_, r)| *r < 10).count();
        }
        hits as f64 / 10.0
    };
    // Added up in order, so that the sum does not depend on the threads.
    let found: Vec<f64> = products.as_mut_slice().par_chunks_mut(pilot.rows()).enumerate().map(of_query).collect();
    Some(found.iter().sum::<f64>() / (count * DRAWS) as f64)
}
