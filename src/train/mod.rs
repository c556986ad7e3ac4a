//! Training: from a sample of rows to a model. The loops are written once, generic over the backend.

pub(crate) mod allocate;
pub(crate) mod anneal;
pub(crate) mod calibrate;
pub(crate) mod chart;
pub(crate) mod metric;
pub(crate) mod pairs;
pub(crate) mod pilot;
pub(crate) mod quantize;
pub(crate) mod relocate;
pub(crate) mod sample;
pub(crate) mod sizes;
pub(crate) mod space;
pub(crate) mod tables;
pub(crate) mod transform;

pub(crate) use anneal::{anneal as anneal_on, check_settings as check_annealing};

use crate::{
    backend::Compute,
    config::AnnealingConfig,
    error::Error,
    matrix::MatRef,
    ops::{
        run,
        seam::{Ops, WithOps},
        types::Assignments,
    },
};
use anneal::AnchorSet;

/// Finds `config.anchors` anchors for `rows` (n x d) by annealed, robust k-means, and which is nearest to each row. The same rows, settings and seed give the
/// same anchors.
///
/// O(iterations n K d) time; memory for a copy of the rows.
///
/// # Errors
/// [`Error::Config`] when a setting is out of its range or there are fewer rows than anchors; [`Error::Input`] when a
/// value is not finite; [`Error::Unavailable`] and [`Error::Device`] as the backend has it.
pub fn anneal(
    rows: MatRef<'_>,
    config: &AnnealingConfig,
    seed: u64,
    compute: impl Into<Compute>,
) -> Result<(AnchorSet, Assignments), Error> {
    struct Job<'a>(MatRef<'a>, &'a AnnealingConfig, u64);
    impl WithOps for Job<'_> {
        type Output = (AnchorSet, Assignments);
        fn run<O: Ops>(self, ops: O) -> Result<Self::Output, Error> {
            anneal_on(&ops, self.0, self.1, self.2, |_| Ok(()))
        }
    }
    if let Some(at) = rows.as_slice().iter().position(|v| !v.is_finite()) {
        let error = crate::error::InputError::new(None, "the value is not finite: drop or mend the row");
        return Err(error.at_row(at / rows.dim()).at_column(at % rows.dim()).into());
    }
    run(&compute.into(), Job(rows, config, seed))
}
