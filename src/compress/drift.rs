//! How well a model fits rows that came later.

use crate::{backend::Backend, format::parse::Parsed, model::Model};

/// What an append gave.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct AppendReport {
    /// Rows added.
    pub rows: u64,
    /// The number of the first of them.
    pub first_row: u64,
    /// Rows the file has now.
    pub n: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Mean squared L2 error of the new rows, as unit vectors; what their lengths are off by is counted, as a share of them.
    pub energy: f64,
    /// The same of the rows the model was trained on, their lengths aside.
    pub trained_energy: f64,
    /// Whether the model no longer fits the rows that come: an error of more than [`DRIFT`] times that which rows like the training
    /// rows would have.
    pub drifted: bool,
    /// The least and the greatest length above 0 of the new rows (dot; for l2 of what they are away from the model's center). `None`
    /// where lengths are not kept, and where all are 0.
    pub lengths: Option<(f32, f32)>,
    /// The same of the rows the model was made of, but for a few that were longer or shorter by far.
    pub trained_lengths: Option<(f32, f32)>,
    /// All of it.
    pub seconds: f64,
    /// Where the arithmetic ran.
    pub backend: Backend,
}

impl AppendReport {
    /// Whether rows are longer or shorter, by [`LONGER`] times, than any that the model was made of.
    #[must_use]
    pub fn unlike_lengths(&self) -> bool {
        unlike_lengths(self.lengths, self.trained_lengths)
    }
}

/// The error of new rows, as a multiple of that of rows like the training rows, from which on a model counts as outgrown.
pub const DRIFT: f64 = 1.2;

/// How many times longer than all the rows a model was made of, or shorter, rows are that [`AppendReport::unlike_lengths`] tells of.
pub const LONGER: f32 = 1.1;

/// Whether rows of this error are such as the model of a file no longer fits.
pub(crate) fn has_drifted(parsed: &Parsed, energy: f64) -> bool {
    energy > DRIFT * expected_energy(parsed)
}

pub(crate) fn unlike_lengths(lengths: Option<(f32, f32)>, trained: Option<(f32, f32)>) -> bool {
    lengths.zip(trained).is_some_and(|((lo, hi), (least, most))| hi > LONGER * most || LONGER * lo < least)
}

/// The lengths that a model was made of.
pub(crate) fn trained_lengths(model: &Model) -> Option<(f32, f32)> {
    (model.side.gain_nibbles > 0).then_some(model.side.gain_range)
}

/// The error that rows like the training rows are to have, though the model has not seen them: K means and d directions fit the N rows
/// they were made of by about (K + d) / N closer than all, and others by as much less. What a learned decoder makes of rows it has not seen
/// was measured when it was trained.
pub(crate) fn expected_energy(parsed: &Parsed) -> f64 {
    let meta = &parsed.meta;
    let parameters = f64::from(meta.anchors) + f64::from(meta.dim);
    let unseen = parsed.learned.as_ref().map(|learned| learned.unseen_energy);
    unseen.filter(|e| e.is_finite()).unwrap_or(meta.energy)
        * (1.0 + 2.0 * parameters / meta.training_rows.max(1) as f64)
}
