//! The pilot: a small sample of rows, from which sizes are planned and training starts.

use super::{chart::Spectrum, space::Space};
use crate::matrix::Mat;

/// Anchors of the chosen number as the planner found them, and the residuals they leave: where training starts.
#[derive(Debug)]
pub(crate) struct Pilot {
    pub(crate) space: Space,
    /// Among unit rows, K x d.
    pub(crate) anchors: Mat,
    /// Of rows that the anchors were not found on, in the space.
    pub(crate) spectrum: Spectrum,
}
