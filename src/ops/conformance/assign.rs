//! Laws of assign.

use vlc_reference::distance::{nearest, row, squared_l2};

use super::{Case, assert_near, assigned, grid, normals, random, up, wide};
use crate::{
    matrix::Mat,
    ops::{seam::Ops, types::Assignments},
};

const ROWS: [usize; 4] = [1, 255, 256, 257];
const ANCHORS: [usize; 7] = [1, 15, 16, 17, 1023, 1024, 1025];
const DIMS: [usize; 4] = [1, 3, 16, 33];

/// Distances that differ by less are a tie in f32: 1e-5 of the distance, and what the expanded form loses.
fn slack(distance: f64, x: &[f64], anchor: &[f64]) -> f64 {
    let lengths: f64 = x.iter().chain(anchor).map(|v| v * v).sum();
    1e-5 * distance + 4e-7 * lengths
}

fn assert_shape(found: &Assignments, n: usize, candidates: usize) {
    assert_eq!(found.candidates, candidates);
    assert_eq!(found.labels.len(), n * candidates);
    assert_eq!(found.distances.len(), n);
}

/// Checks the labels of every row against all distances in f64.
fn assert_nearest(found: &Assignments, rows: &Mat, anchors: &Mat, candidates: usize) {
    let (n, d, count) = (rows.rows(), rows.dim(), anchors.rows());
    assert_shape(found, n, candidates);
    let (x, a) = (wide(rows.as_slice()), wide(anchors.as_slice()));
    for i in 0..n {
        let at: Vec<f64> = (0..count).map(|k| squared_l2(row(&x, d, i), row(&a, d, k))).collect();
        let mut sorted = at.clone();
        sorted.sort_by(f64::total_cmp);
        let labels = &found.labels[i * candidates..(i + 1) * candidates];
        for (rank, &label) in labels.iter().enumerate() {
            let label = label as usize;
            assert!(!labels[..rank].contains(&(label as u32)), "row {i} has anchor {label} twice");
            let slack = slack(at[label], row(&x, d, i), row(&a, d, label));
            let gap = at[label] - sorted[rank];
            assert!(gap.abs() <= slack, "row {i}, rank {rank}: anchor {label} is {gap:.3e} off, {slack:.3e} allowed");
        }
        let label = labels[0] as usize;
        let scale = at[label].max(1e-6);
        assert_near(found.distances[i], at[label], 1e-5, scale, "distance");
        // Of anchors that are the same the lowest is named first.
        let first = (0..label).find(|&k| anchors.row(k) == anchors.row(label));
        assert_eq!(first, None, "row {i}: anchor {label} has a copy of lower number");
    }
}

/// Rows of hundreds of dimensions, as a device may take them in pieces; among anchors that lie apart, and among some so close together
/// that only full precision tells them apart, which leaves more rows in doubt than there is room for the doubtful.
pub(super) fn nearest_anchors_of_long_rows<O: Ops>(ops: &O) {
    for (s, (n, count, d)) in [(700, 300, 129), (300, 257, 385), (520, 130, 1601)].into_iter().enumerate() {
        for spread in [1.0, 1e-4] {
            for candidates in [1, 2, 3] {
                let seed = 150 + s as u64;
                let _case = Case::new(format!("seed {seed}, n {n}, anchors {count}, d {d}, {spread}, {candidates}"));
                let mut random = random(seed);
                let rows = normals(&mut random, n, d);
                let mut anchors = normals(&mut random, count, d);
                let middle = anchors.row(0).to_vec();
                for k in 1..count {
                    anchors.row_mut(k).iter_mut().zip(&middle).for_each(|(a, m)| *a = m + spread * *a);
                }
                let found = assigned(ops, &up(ops, &rows), &anchors, candidates);
                assert_nearest(&found, &rows, &anchors, candidates);
            }
        }
    }
}

pub(super) fn nearest_anchors_of_real_values<O: Ops>(ops: &O) {
    let mut seed = 0;
    for n in ROWS {
        for count in ANCHORS {
            for d in DIMS {
                seed += 1;
                let mut random = random(seed);
                let rows = normals(&mut random, n, d);
                let mut anchors = normals(&mut random, count, d);
                // Copies at both ends, in different blocks where there are several.
                if count > 2 {
                    let first = anchors.row(0).to_vec();
                    anchors.row_mut(count - 1).copy_from_slice(&first);
                    anchors.row_mut(count / 2).copy_from_slice(&first);
                }
                let resident = up(ops, &rows);
                for candidates in [1, 2, 4, count] {
                    if candidates > count || candidates > 4 && count > 17 {
                        continue;
                    }
                    let _case = Case::new(format!("seed {seed}, n {n}, K {count}, d {d}, candidates {candidates}"));
                    let found = assigned(ops, &resident, &anchors, candidates);
                    assert_nearest(&found, &rows, &anchors, candidates);
                }
            }
        }
    }
}

/// On a grid nothing is rounded, so labels and distances are exactly those of the reference.
pub(super) fn ties_go_to_the_lower_anchor<O: Ops>(ops: &O) {
    for (seed, (n, count, d)) in
        [(257, 1025, 1), (256, 40, 2), (300, 17, 3), (255, 1024, 3), (33, 1, 5), (64, 200, 16)]
            .into_iter()
            .enumerate()
    {
        let seed = 100 + seed as u64;
        let mut random = random(seed);
        let (rows, anchors) = (grid(&mut random, n, d), grid(&mut random, count, d));
        let (x, a) = (wide(rows.as_slice()), wide(anchors.as_slice()));
        let resident = up(ops, &rows);
        let (labels, distances) = nearest(&x, &a, d);
        for candidates in [1, 3, 8, count] {
            if candidates > count {
                continue;
            }
            let _case = Case::new(format!("seed {seed}, n {n}, K {count}, d {d}, candidates {candidates}"));
            let found = assigned(ops, &resident, &anchors, candidates);
            assert_shape(&found, n, candidates);
            let first: Vec<usize> = found.nearest().map(|k| k as usize).collect();
            assert_eq!(first, labels);
            assert_eq!(wide(&found.distances), distances);
            for i in 0..n {
                let mut order: Vec<usize> = (0..count).collect();
                let at = |k: usize| squared_l2(row(&x, d, i), row(&a, d, k));
                order.sort_by(|&k, &l| at(k).total_cmp(&at(l)).then(k.cmp(&l)));
                let of_row = &found.labels[i * candidates..(i + 1) * candidates];
                assert!(of_row.iter().zip(&order).all(|(&f, &o)| f as usize == o), "row {i}: {of_row:?}");
            }
        }
    }
}

/// Rows that all but coincide with an anchor: the distance is small, not the rest of a cancellation.
pub(super) fn close_anchors_are_measured_directly<O: Ops>(ops: &O) {
    let _case = Case::new("seed 200".into());
    let mut random = random(200);
    let anchors = normals(&mut random, 50, 33);
    let mut rows = Mat::zeros(300, 33);
    for i in 0..300 {
        for (c, x) in rows.row_mut(i).iter_mut().enumerate() {
            let off = if i < 150 { 0.0 } else { 1e-4 * random.normal() };
            *x = anchors.row(i % 50)[c] + off;
        }
    }
    let found = assigned(ops, &up(ops, &rows), &anchors, 1);
    for i in 0..300 {
        assert_eq!(found.labels[i] as usize, i % 50);
        let exact = squared_l2(&wide(rows.row(i)), &wide(anchors.row(i % 50)));
        assert_near(found.distances[i], exact, 1e-4, exact, "distance");
    }
}

pub(super) fn energy_is_the_mean_distance<O: Ops>(ops: &O) {
    for (seed, n) in [0, 1, 255, 256, 257, 5000].into_iter().enumerate() {
        for candidates in [1, 2] {
            let _case = Case::new(format!("seed {}, n {n}, candidates {candidates}", 250 + seed));
            let mut random = random(250 + seed as u64);
            let (rows, anchors) = (normals(&mut random, n, 7), normals(&mut random, 20, 7));
            let found = ops.assign(&up(ops, &rows), &up(ops, &anchors), candidates).unwrap();
            let distances = ops.assignments(&found).unwrap().distances;
            let mean = wide(&distances).iter().sum::<f64>() / n.max(1) as f64;
            let energy = ops.energy(&found).unwrap();
            assert!((energy - mean).abs() <= 1e-6 * mean, "{energy} instead of {mean}");
        }
    }
}
