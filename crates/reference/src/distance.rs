//! Distances, the nearest anchor, exact nearest neighbours and recall.

use std::cmp::Ordering;

/// What "near" means. The numbers in a file are 0, 1 and 2 in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// <a, b> / (|a| |b|)
    Cosine,
    /// <a, b>
    Dot,
    /// -|a - b|^2
    L2,
}

/// |a - b|^2 = sum over c of (a_c - b_c)^2. `a`, `b`: d.
pub fn squared_l2(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "two vectors of different dimension");
    let mut sum = 0.0;
    for c in 0..a.len() {
        sum += (a[c] - b[c]) * (a[c] - b[c]);
    }
    sum
}

/// <a, b> = sum over c of a_c b_c. `a`, `b`: d.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "two vectors of different dimension");
    let mut sum = 0.0;
    for c in 0..a.len() {
        sum += a[c] * b[c];
    }
    sum
}

/// a / |a|, and the zero vector for the zero vector. `a`: d.
pub fn normalised(a: &[f64]) -> Vec<f64> {
    let length = dot(a, a).sqrt();
    a.iter().map(|x| if length > 0.0 { x / length } else { 0.0 }).collect()
}

/// Row `i` of a matrix with `d` columns.
pub fn row(matrix: &[f64], d: usize, i: usize) -> &[f64] {
    &matrix[i * d..(i + 1) * d]
}

/// The nearest anchor of every row, and its squared distance:
/// label_i = the k that minimises |row_i - anchor_k|^2; the lowest k of several equal ones.
///
/// `rows`: n x d, `anchors`: K x d with K >= 1. Returns n labels and n squared distances.
pub fn nearest(rows: &[f64], anchors: &[f64], d: usize) -> (Vec<usize>, Vec<f64>) {
    assert!(d > 0 && !anchors.is_empty(), "there is nothing to be near to");
    let mut labels = Vec::new();
    let mut distances = Vec::new();
    for i in 0..rows.len() / d {
        let mut best = (0, f64::INFINITY);
        for k in 0..anchors.len() / d {
            let distance = squared_l2(row(rows, d, i), row(anchors, d, k));
            if distance < best.1 {
                best = (k, distance);
            }
        }
        labels.push(best.0);
        distances.push(best.1);
    }
    (labels, distances)
}

/// How near `x` is to `q`, larger is nearer. A zero vector has cosine 0 with everything.
/// `q`, `x`: d.
pub fn similarity(metric: Metric, q: &[f64], x: &[f64]) -> f64 {
    match metric {
        Metric::Cosine => dot(&normalised(q), &normalised(x)),
        Metric::Dot => dot(q, x),
        Metric::L2 => -squared_l2(q, x),
    }
}

/// The `k` largest scores as (index, score), largest first, ties to the lower index; all of them
/// when there are fewer than `k`. Zeros of either sign tie; a NaN comes last.
pub fn largest(scores: &[f64], k: usize) -> Vec<(usize, f64)> {
    let mut order: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
    order.sort_by(|(i, a), (j, b)| {
        let by_score = match (a.is_nan(), b.is_nan()) {
            (false, false) => b.partial_cmp(a).unwrap_or(Ordering::Equal),
            (a_is_nan, b_is_nan) => a_is_nan.cmp(&b_is_nan),
        };
        by_score.then(i.cmp(j))
    });
    order.truncate(k);
    order
}

/// The exact `k` nearest rows of `query` as (row, similarity), nearest first, ties to the lower
/// row. `rows`: n x d, `query`: d.
pub fn top_k(rows: &[f64], query: &[f64], metric: Metric, k: usize) -> Vec<(usize, f64)> {
    let d = query.len();
    assert!(d > 0 && rows.len().is_multiple_of(d), "rows and query differ in dimension");
    let mut scores = Vec::new();
    for i in 0..rows.len() / d {
        scores.push(similarity(metric, query, row(rows, d, i)));
    }
    largest(&scores, k)
}

/// recall@k = |first k of `truth` that are among the first k of `found`| / |first k of `truth`|;
/// 1 when there is nothing to find.
pub fn recall(found: &[usize], truth: &[usize], k: usize) -> f64 {
    let found = &found[..k.min(found.len())];
    let truth = &truth[..k.min(truth.len())];
    if truth.is_empty() {
        return 1.0;
    }
    let mut hits = 0;
    for id in truth {
        if found.contains(id) {
            hits += 1;
        }
    }
    f64::from(hits) / truth.len() as f64
}
