//! Robust k-means: what one iteration learns about each cell.

use crate::distance::{row, squared_l2};

/// What [`reduce`] found in the K cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Cells {
    /// K x d: the mean of the kept members; the anchor itself where none is kept.
    pub mean: Vec<f64>,
    /// K: the mean over *all* members of |row - anchor|^2 / d; 0 for an empty cell.
    pub variance: Vec<f64>,
    /// K: the number of members, trimmed ones included.
    pub count: Vec<usize>,
}

/// The members of cell `k` in ascending order: { i : label_i = k }.
pub fn members(labels: &[usize], k: usize) -> Vec<usize> {
    let mut cell = Vec::new();
    for i in 0..labels.len() {
        if labels[i] == k {
            cell.push(i);
        }
    }
    cell
}

/// Statistics per cell, robust to outliers. With S_k the members of cell k and D_k the
/// floor(trim * |S_k|) of them that are farthest from anchor k (of two equally far ones the higher
/// row number is dropped first):
///
/// ```text
/// mean_k     = sum over i in S_k \ D_k of row_i / |S_k \ D_k|
/// variance_k = sum over i in S_k of |row_i - anchor_k|^2 / (|S_k| d)
/// count_k    = |S_k|
/// ```
///
/// `rows`: n x d, `labels`: n numbers below K, `anchors`: K x d, `trim`: 0 to 1.
pub fn reduce(rows: &[f64], labels: &[usize], anchors: &[f64], d: usize, trim: f64) -> Cells {
    assert_eq!(rows.len(), labels.len() * d, "one label per row");
    let mut cells = Cells { mean: anchors.to_vec(), variance: Vec::new(), count: Vec::new() };
    for k in 0..anchors.len() / d {
        let anchor = row(anchors, d, k);
        let mut far: Vec<(f64, usize)> = Vec::new();
        for i in members(labels, k) {
            far.push((squared_l2(row(rows, d, i), anchor), i));
        }
        // Farthest first; among equals the higher row number first.
        far.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));

        let count = far.len();
        let dropped = (trim * count as f64).floor() as usize;
        let kept = &far[dropped.min(count)..];
        if !kept.is_empty() {
            for c in 0..d {
                let mut sum = 0.0;
                for (_, i) in kept {
                    sum += rows[i * d + c];
                }
                cells.mean[k * d + c] = sum / kept.len() as f64;
            }
        }
        let mut sum = 0.0;
        for (distance, _) in &far {
            sum += distance;
        }
        cells.variance.push(if count == 0 { 0.0 } else { sum / (count as f64 * d as f64) });
        cells.count.push(count);
    }
    cells
}

/// The mean squared distance of the rows to their anchors:
/// energy = (1 / n) sum over i of |row_i - anchor_(label_i)|^2.
///
/// `rows`: n x d with n >= 1, `labels`: n, `anchors`: K x d.
pub fn energy(rows: &[f64], labels: &[usize], anchors: &[f64], d: usize) -> f64 {
    assert_eq!(rows.len(), labels.len() * d, "one label per row");
    let mut sum = 0.0;
    for i in 0..labels.len() {
        sum += squared_l2(row(rows, d, i), row(anchors, d, labels[i]));
    }
    sum / labels.len() as f64
}
