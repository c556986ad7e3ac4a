//! Laws of reduce and update.

use vlc_reference::{distance::squared_l2, kmeans};

use super::{Case, assert_near, grid, normals, random, up, wide};
use crate::{
    Mat,
    ops::{Assignments, CellStats, Ops, Step},
    train::Random,
};

/// Random cells (some stay empty), the true distances of their rows, and further candidates that play no part.
fn assigned(random: &mut Random, rows: &Mat, anchors: &Mat, candidates: usize) -> Assignments {
    let (n, count) = (rows.rows(), anchors.rows());
    let labels: Vec<u32> = (0..n * candidates).map(|_| (random.below(count) / 3 * 3) as u32).collect();
    let distances = (0..n).map(|i| {
        let anchor = anchors.row(labels[i * candidates] as usize);
        squared_l2(&wide(rows.row(i)), &wide(anchor)) as f32
    });
    let distances = distances.collect();
    Assignments { labels, distances, candidates }
}

fn assert_cells<O: Ops>(ops: &O, rows: &Mat, assigned: &Assignments, anchors: &Mat, trim: f32) {
    let (d, count) = (rows.dim(), anchors.rows());
    let labels: Vec<usize> = assigned.nearest().map(|k| k as usize).collect();
    let (x, a) = (wide(rows.as_slice()), wide(anchors.as_slice()));
    let expected = kmeans::reduce(&x, &labels, &a, d, f64::from(trim));
    let found = ops.reduce(&up(ops, rows), assigned, count, trim).unwrap();
    assert_eq!((found.means.rows(), found.means.dim(), found.variances.len()), (count, d, count));
    let counts: Vec<usize> = found.counts.iter().map(|&c| c as usize).collect();
    assert_eq!(counts, expected.count);
    for (k, &members) in counts.iter().enumerate() {
        assert_near(found.variances[k], expected.variance[k], 1e-6, expected.variance[k], "variance");
        for c in 0..d {
            // The reference keeps the anchor of an empty cell, the operation gives zeros.
            let mean = if members == 0 { 0.0 } else { expected.mean[k * d + c] };
            assert_near(found.means.row(k)[c], mean, 1e-6, mean.abs().max(0.1), "mean");
        }
    }
    let again = ops.reduce(&up(ops, rows), assigned, count, trim).unwrap();
    assert_eq!(again, found, "a second run differs");
}

pub(super) fn statistics_of_cells<O: Ops>(ops: &O) {
    let mut seed = 300;
    for n in [1, 255, 256, 257, 3000] {
        for (count, d) in [(1, 1), (16, 3), (17, 33), (1025, 16)] {
            seed += 1;
            let _case = Case::new(format!("seed {seed}, n {n}, K {count}, d {d}"));
            let mut random = random(seed);
            let (rows, anchors) = (normals(&mut random, n, d), normals(&mut random, count, d));
            let candidates = 1 + n % 3;
            let assigned = assigned(&mut random, &rows, &anchors, candidates);
            assert_cells(ops, &rows, &assigned, &anchors, 0.0);
        }
    }
}

/// On a grid many rows of a cell are equally far, and which of them are dropped shows in the mean.
pub(super) fn trimming_with_ties<O: Ops>(ops: &O) {
    let mut seed = 400;
    for trim in [0.02, 0.1, 0.25, 0.5] {
        for (n, count, d) in [(1, 1, 1), (2, 1, 2), (257, 4, 1), (500, 9, 2), (2000, 7, 3)] {
            seed += 1;
            let _case = Case::new(format!("seed {seed}, trim {trim}, n {n}, K {count}, d {d}"));
            let mut random = random(seed);
            let (rows, anchors) = (grid(&mut random, n, d), grid(&mut random, count, d));
            let assigned = assigned(&mut random, &rows, &anchors, 1);
            assert_cells(ops, &rows, &assigned, &anchors, trim);
        }
    }
}

pub(super) fn update_moves_anchors<O: Ops>(ops: &O) {
    for (seed, (count, d)) in [(1, 1), (16, 3), (257, 33)].into_iter().enumerate() {
        for rate in [0.1f32, 0.5, 1.0] {
            for noisy in [false, true] {
                let seed = 500 + seed as u64;
                let _case = Case::new(format!("seed {seed}, K {count}, d {d}, rate {rate}, noise {noisy}"));
                let mut random = random(seed);
                let before = normals(&mut random, count, d);
                let stats = CellStats {
                    counts: (0..count).map(|k| (k % 3) as u32).collect(),
                    means: normals(&mut random, count, d),
                    variances: vec![1.0; count],
                };
                let noise = normals(&mut random, count, d);
                let step = Step { learning_rate: rate, noise: noisy.then(|| noise.view()) };
                let mut after = before.clone();
                ops.update(&mut after, &stats, step).unwrap();
                for k in 0..count {
                    if stats.counts[k] == 0 {
                        assert_eq!(after.row(k), before.row(k), "the anchor of an empty cell moved");
                        continue;
                    }
                    for c in 0..d {
                        let [a, m] = [&before, &stats.means].map(|x| f64::from(x.row(k)[c]));
                        let e = if noisy { f64::from(noise.row(k)[c]) } else { 0.0 };
                        let expected = a + f64::from(rate) * (m - a) + e;
                        let scale = a.abs() + m.abs() + e.abs();
                        assert_near(after.row(k)[c], expected, 1e-6, scale, "anchor");
                    }
                }
            }
        }
    }
}
