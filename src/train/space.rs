//! The space of training: rows less their mean, weighted by the metric, in as few coordinates as the sample needs.

use super::metric::MetricRoot;
use crate::{
    error::Error,
    math::{
        linalg::{mean, principal, product, subtract, to_f32, widen},
        product::product_nt,
    },
    matrix::{Mat, MatRef},
};

/// Maps between unit rows (d dimensions) and the space of training (r coordinates).
#[derive(Debug, Clone)]
pub(crate) struct Space {
    /// Of the unit rows of the sample.
    pub(crate) mean: Vec<f32>,
    /// r x d: to the space.
    pub(crate) whiten: Mat,
    /// r x d: row i is what coordinate i stands for among unit rows.
    pub(crate) back: Mat<f64>,
}

impl Space {
    /// For the metric of unit queries, or of the rows in their place. With fewer sample rows than dimensions, which is when
    /// the sample is the whole store, r is the number of dimensions that its rows span, and nothing is lost; otherwise
    /// r = d.
    pub(crate) fn new(queries: Option<MatRef<'_>>, unit: MatRef<'_>) -> Result<Space, Error> {
        Space::about(mean(unit), &MetricRoot::new(queries, unit)?, unit)
    }

    /// The same for a metric that is known and rows that lie about `mean`.
    pub(crate) fn about(mean: Vec<f32>, metric: &MetricRoot, rows: MatRef<'_>) -> Result<Space, Error> {
        let d = rows.dim();
        if rows.rows() >= d {
            return Ok(Space { mean, whiten: to_f32(&metric.root), back: metric.inverse.clone() });
        }
        let mut moved = widen(rows);
        for i in 0..moved.rows() {
            moved.row_mut(i).iter_mut().zip(&mean).for_each(|(x, m)| *x -= f64::from(*m));
        }
        let weighted = to_f32(&product(&moved, &metric.root));
        let (_, mut basis) = principal(weighted.view())?;
        if basis.rows() == 0 {
            // All rows are alike; any direction will do.
            basis = Mat::zeros(1, d);
            basis.row_mut(0)[0] = 1.0;
        }
        Ok(Space { mean, whiten: to_f32(&product(&basis, &metric.root)), back: product(&basis, &metric.inverse) })
    }

    /// A few unit rows in the space.
    pub(crate) fn of(&self, unit: MatRef<'_>) -> Mat {
        let mut out = Mat::zeros(unit.rows(), self.whiten.rows());
        product_nt(out.as_mut_slice(), subtract(unit, &self.mean).view(), self.whiten.view(), 1.0);
        out
    }
}
