//! The step of the anchors.

use super::reduce::CellStats;
use crate::{matrix::Mat, ops::types::Step};

pub(super) fn update(anchors: &mut Mat, stats: &CellStats, step: Step<'_>) {
    for k in 0..anchors.rows() {
        if stats.cells.counts[k] == 0 {
            continue;
        }
        for (a, m) in anchors.row_mut(k).iter_mut().zip(stats.means.row(k)) {
            // Exactly the mean at rate 1, without the rounding of a + (m - a).
            *a = if step.learning_rate == 1.0 { *m } else { *a + step.learning_rate * (m - *a) };
        }
        if let Some(noise) = step.noise {
            for (a, e) in anchors.row_mut(k).iter_mut().zip(noise.row(k)) {
                *a += e;
            }
        }
    }
}
