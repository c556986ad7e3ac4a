//! Robust statistics of each cell: rows are grouped by cell, then every cell sums its own rows in row order.

use rayon::prelude::*;

use crate::{
    matrix::{Mat, MatRef},
    ops::types::{Assignments, Cells},
};

/// What the rows of each cell say about its anchor.
pub(crate) struct CellStats {
    pub(super) cells: Cells,
    /// Mean of the rows kept after trimming; the zero vector for an empty cell.
    pub(super) means: Mat,
}

pub(super) fn reduce(rows: MatRef<'_>, assigned: &Assignments, anchors: usize, trim: f32) -> CellStats {
    let mut starts = vec![0usize; anchors + 1];
    for label in assigned.nearest() {
        starts[label as usize + 1] += 1;
    }
    for k in 0..anchors {
        starts[k + 1] += starts[k];
    }
    let mut members = vec![0u32; rows.rows()];
    let mut next = starts.clone();
    for (row, label) in assigned.nearest().enumerate() {
        members[next[label as usize]] = row as u32;
        next[label as usize] += 1;
    }
    let mut means = Mat::zeros(anchors, rows.dim());
    let mut variances = vec![0f32; anchors];
    // Rows without columns have no means, and no variance.
    means.as_mut_slice().par_chunks_mut(rows.dim().max(1)).zip(&mut variances).enumerate().for_each(
        |(k, (mean, variance))| {
            let cell = &members[starts[k]..starts[k + 1]];
            if cell.is_empty() {
                return;
            }
            let distance = |row: u32| assigned.distances[row as usize];
            let sum: f64 = cell.iter().map(|&row| f64::from(distance(row))).sum();
            *variance = (sum / (cell.len() * rows.dim()) as f64) as f32;
            let dropped = (f64::from(trim) * cell.len() as f64).floor() as usize;
            let mut kept = cell.to_vec();
            if dropped > 0 {
                kept.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)).then(a.cmp(&b)));
                kept.truncate(cell.len() - dropped);
                kept.sort_unstable();
            }
            let mut total = vec![0f64; rows.dim()];
            for &row in &kept {
                for (t, &x) in total.iter_mut().zip(rows.row(row as usize)) {
                    *t += f64::from(x);
                }
            }
            for (m, t) in mean.iter_mut().zip(total) {
                *m = (t / kept.len() as f64) as f32;
            }
        },
    );
    let counts = starts.windows(2).map(|w| (w[1] - w[0]) as u32).collect();
    CellStats { cells: Cells { counts, variances }, means }
}
