//! How near what a search finds is, beside how much of the truth it is.

use rayon::prelude::*;

use crate::{
    error::Error,
    math::product::{dot, squared_distance},
    matrix::MatRef,
    model::kinds::Metric,
    neighbors::Neighbors,
    read::source::RowSource,
};

/// How near the rows found are to their queries, as a share of how near the true nearest are: 1 where they are as near.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SimilarityRatio {
    /// The mean over all queries.
    pub mean: f64,
    /// The mean over the worst twentieth of them.
    pub worst: f64,
}

/// The mean similarity of the first `k` rows found over that of the true `k`, by the original rows, for each query: of cosines, of inner products, or,
/// for l2, the mean distance of the true ones over that of those found. `found` and `truth` name rows by number, as
/// [`exact_neighbors`](crate::search::exact::exact_neighbors) does. O(queries k d), and a read of each row found.
///
/// # Errors
/// Those of rows that cannot be read.
pub fn similarity_ratio(
    rows: &dyn RowSource,
    queries: MatRef<'_>,
    found: &Neighbors,
    truth: &Neighbors,
    k: usize,
    metric: Metric,
) -> Result<SimilarityRatio, Error> {
    let k = k.min(truth.ids.dim()).min(found.ids.dim());
    let mean_of = |query: &[f32], ids: &[u64]| -> Result<f64, Error> {
        let mut row = vec![0f32; rows.dim()];
        let mut sum = 0.0;
        for &id in ids {
            rows.read(id as usize, &mut row)?;
            sum += f64::from(similarity(metric, query, &row));
        }
        Ok(sum / ids.len().max(1) as f64)
    };
    let of_query = |q: usize| -> Result<f64, Error> {
        let query = queries.row(q);
        let (own, best) = (mean_of(query, &found.ids.row(q)[..k])?, mean_of(query, &truth.ids.row(q)[..k])?);
        let (share, of) = if metric == Metric::L2 { (best, own) } else { (own, best) };
        Ok(if share == of { 1.0 } else { share / of })
    };
    let ratios: Vec<Result<f64, Error>> = (0..queries.rows()).into_par_iter().map(of_query).collect();
    let mut ratios = ratios.into_iter().collect::<Result<Vec<f64>, Error>>()?;
    ratios.sort_by(f64::total_cmp);
    let mean = |part: &[f64]| if part.is_empty() { 1.0 } else { part.iter().sum::<f64>() / part.len() as f64 };
    Ok(SimilarityRatio { mean: mean(&ratios), worst: mean(&ratios[..ratios.len().div_ceil(20)]) })
}

/// For l2 the distance.
fn similarity(metric: Metric, query: &[f32], row: &[f32]) -> f32 {
    match metric {
        Metric::Cosine => dot(query, row) / (dot(query, query) * dot(row, row)).sqrt().max(f32::MIN_POSITIVE),
        Metric::Dot => dot(query, row),
        Metric::L2 => squared_distance(query, row).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{matrix::Mat, search::exact::exact_neighbors};

    #[test]
    fn it_is_one_for_the_truth_and_less_for_others() {
        let values: Vec<f32> = (0..400u64).map(|i| ((i * i * 37 % 1009) as f32 / 500.0) + 0.1).collect();
        let rows = Mat::new(values, 50, 8).unwrap();
        let queries = rows.view().slice(3..13);
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            let truth = exact_neighbors(&rows.view(), queries, 20, metric).unwrap();
            let ratio =
                |found: &Neighbors| similarity_ratio(&rows.view(), queries, found, &truth, 5, metric).unwrap();
            assert_eq!(ratio(&truth), SimilarityRatio { mean: 1.0, worst: 1.0 });
            // The last of the truth first.
            let mut worse = truth.clone();
            for q in 0..10 {
                worse.ids.row_mut(q)[0] = truth.ids.row(q)[19];
            }
            let found = ratio(&worse);
            assert!(found.mean < 1.0 && found.worst <= found.mean && found.worst > 0.0, "{metric}: {found:?}");
        }
    }
}
