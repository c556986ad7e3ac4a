//! What an error costs. An error e of a row changes its score for a query q by <q, e>, whose mean square over queries
//! is e^T M e with M the second moment of the queries. Square roots of M turn that into a plain squared length.

use crate::{
    error::Error,
    math::linalg::{principal, product_tn},
    matrix::{Mat, MatRef},
};

/// Weight of the queries' second moment against the identity; from 0.3 to 0.5 recall is flat.
const BLEND_QUERIES: f64 = 0.4;
/// Weight of the rows' own second moment where there are no queries: rows stand in for queries of the same space.
const BLEND_ROWS: f64 = 0.3;
/// Queries at which half of the weight is given: fewer say little about directions.
const HALF_WEIGHT: f64 = 100.0;
/// Least eigenvalue of M, as a share of the largest.
const FLOOR: f64 = 1e-3;

/// M^(1/2) and its inverse, d x d, symmetric.
#[derive(Debug, Clone)]
pub(crate) struct MetricRoot {
    pub(crate) root: Mat<f64>,
    pub(crate) inverse: Mat<f64>,
}

impl MetricRoot {
    /// From unit queries, or from unit rows in their place. O(n d^2 + d^3).
    pub(crate) fn new(queries: Option<MatRef<'_>>, rows: MatRef<'_>) -> Result<MetricRoot, Error> {
        let (from, weight) = match queries {
            Some(q) if q.rows() > 0 => (q, BLEND_QUERIES * q.rows() as f64 / (q.rows() as f64 + HALF_WEIGHT)),
            _ => (rows, BLEND_ROWS),
        };
        let d = from.dim();
        let (values, vectors) = principal(from)?;
        let trace: f64 = values.iter().sum();
        let weight = if trace > 0.0 { weight } else { 0.0 };
        // Eigenvalues of M: the identity's share everywhere, more along the directions of the queries.
        let plain = (1.0 - weight) / d as f64;
        let along: Vec<f64> = values.iter().map(|v| plain + weight * v / trace.max(f64::MIN_POSITIVE)).collect();
        let least = FLOOR * along.iter().copied().fold(plain, f64::max);
        let power = |exponent: f64| -> Mat<f64> {
            let of = |value: f64| value.max(least).powf(exponent);
            let mut scaled = vectors.clone();
            for (e, value) in along.iter().enumerate() {
                let weight = of(*value) - of(plain);
                scaled.row_mut(e).iter_mut().for_each(|v| *v *= weight);
            }
            let mut out = product_tn(&scaled, &vectors);
            (0..d).for_each(|i| out.row_mut(i)[i] += of(plain));
            out
        };
        Ok(MetricRoot { root: power(0.5), inverse: power(-0.5) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_inverse_cancel_and_queries_weigh() {
        let rows = Mat::new(vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0], 2, 3).unwrap();
        let queries = Mat::new([1.0, 0.0, 0.0].repeat(1000), 1000, 3).unwrap();
        let m = MetricRoot::new(Some(queries.view()), rows.view()).unwrap();
        for i in 0..3 {
            for j in 0..3 {
                let product: f64 = (0..3).map(|k| m.root.row(i)[k] * m.inverse.row(k)[j]).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9);
            }
        }
        assert!(m.root.row(0)[0] > 1.4 * m.root.row(1)[1], "an error along the queries costs more");
    }
}
