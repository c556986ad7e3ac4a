//! Training: from a sample of rows to a model. The loops are written once, generic over the backend.

mod allocate;
mod anneal;
mod calibrate;
mod center;
mod chart;
mod linalg;
mod metric;
mod quantize;
mod relocate;
mod rng;
mod space;
mod tables;
mod transform;

pub(crate) use allocate::{Shape, allocate, symbol_bits};
pub(crate) use anneal::{anneal as anneal_on, check_settings as check_annealing};
pub(crate) use calibrate::{TARGET_K, choose_alpha, factor, factor_levels, gather, sample as calibration_sample};
pub(crate) use center::center;
pub(crate) use chart::{ChartCode, ChartRows, Spectrum, train_chart};
pub(crate) use linalg::{mean, principal, product_nt, solve_ridge, to_f32, widen};
pub(crate) use metric::MetricRoot;
pub(crate) use rng::Random;
pub(crate) use space::Space;
pub(crate) use tables::ROUNDS;
pub(crate) use transform::{Trained, Training, train};

use crate::{
    AnnealingConfig, Assignments, Backend, DeviceChoice, Error, Mat, MatRef,
    ops::{Ops, WithOps, dispatch},
};

/// Anchors (coarse centroids): K points of the space of the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct AnchorSet {
    anchors: Mat,
    energy: f64,
}

impl AnchorSet {
    /// The anchors, K x d.
    #[must_use]
    pub fn anchors(&self) -> MatRef<'_> {
        self.anchors.view()
    }

    pub(crate) fn into_anchors(self) -> Mat {
        self.anchors
    }

    /// Mean squared L2 distance of the training rows to their nearest anchors.
    #[must_use]
    pub fn energy(&self) -> f64 {
        self.energy
    }
}

/// Finds `config.anchors` anchors for `rows` (n x d) by annealed, robust k-means, and which is nearest to each row.
///
/// O(iterations n K d) time; memory for a copy of the rows.
///
/// # Errors
/// [`Error::Config`] when a setting is out of its range or there are fewer rows than anchors; [`Error::Input`] when a
/// value is not finite; [`Error::Unavailable`] and [`Error::Device`] as the backend has it.
pub fn anneal(
    rows: MatRef<'_>,
    config: &AnnealingConfig,
    backend: Backend,
) -> Result<(AnchorSet, Assignments), Error> {
    struct Job<'a>(MatRef<'a>, &'a AnnealingConfig);
    impl WithOps for Job<'_> {
        type Output = (AnchorSet, Assignments);
        fn run<O: Ops>(self, ops: O) -> Result<Self::Output, Error> {
            anneal_on(&ops, self.0, self.1, |_| Ok(()))
        }
    }
    if let Some(at) = rows.as_slice().iter().position(|v| !v.is_finite()) {
        let error = crate::InputError::new(None, "the value is not finite: drop or mend the row");
        return Err(error.at_row(at / rows.dim()).at_column(at % rows.dim()).into());
    }
    dispatch(backend, DeviceChoice::Best, Job(rows, config))
}
