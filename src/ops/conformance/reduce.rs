//! Laws of reduce and update.

use vlc_reference::kmeans;

use super::{Case, assert_near, grid, normals, random, up, wide};
use crate::{
    matrix::Mat,
    ops::{seam::Ops, types::Step},
};

/// Makes two anchors of three copies of the one before them: ties go to the lower, so the cells of copies are empty.
fn with_copies(mut anchors: Mat) -> Mat {
    for k in 0..anchors.rows() {
        let first = anchors.row(k / 3 * 3).to_vec();
        anchors.row_mut(k).copy_from_slice(&first);
    }
    anchors
}

/// Checks the statistics of the cells that assign finds. `exact` says that nothing is rounded in distances.
fn assert_cells<O: Ops>(ops: &O, rows: &Mat, anchors: &Mat, candidates: usize, trim: f32, exact: bool) {
    let (d, count) = (rows.dim(), anchors.rows());
    let resident = up(ops, rows);
    let assigned = ops.assign(&resident, &up(ops, anchors), candidates).unwrap();
    let near = ops.assignments(&assigned).unwrap();
    let labels: Vec<usize> = near.nearest().map(|k| k as usize).collect();
    let (x, a) = (wide(rows.as_slice()), wide(anchors.as_slice()));
    let expected = kmeans::reduce(&x, &labels, &a, d, f64::from(trim));
    let stats = ops.reduce(&resident, &assigned, count, trim).unwrap();
    let (cells, means) = (ops.cells(&stats).unwrap(), ops.means(&stats).unwrap());
    assert_eq!((means.rows(), means.dim(), cells.variances.len()), (count, d, count));
    let counts: Vec<usize> = cells.counts.iter().map(|&c| c as usize).collect();
    assert_eq!(counts, expected.count);
    assert!(count == 1 || counts.contains(&0), "no cell is empty");
    let mut sums = vec![0.0; count];
    labels.iter().zip(&near.distances).for_each(|(&k, &distance)| sums[k] += f64::from(distance));
    for (k, &members) in counts.iter().enumerate() {
        // That of the distances found, which may be off the reference by what assign may be.
        let variance = sums[k] / (members * d).max(1) as f64;
        assert_near(cells.variances[k], variance, 1e-6, variance, "variance of the distances");
        let tolerance = if exact { 1e-6 } else { 1e-5 };
        assert_near(cells.variances[k], expected.variance[k], tolerance, expected.variance[k], "variance");
        for c in 0..d {
            // The reference keeps the anchor of an empty cell, the operation gives zeros.
            let mean = if members == 0 { 0.0 } else { expected.mean[k * d + c] };
            assert_near(means.row(k)[c], mean, 1e-6, mean.abs().max(0.1), "mean");
        }
    }
    let again = ops.reduce(&resident, &assigned, count, trim).unwrap();
    assert_eq!(ops.cells(&again).unwrap(), cells, "a second run differs");
    assert_eq!(ops.means(&again).unwrap(), means, "a second run differs");
}

pub(super) fn statistics_of_cells<O: Ops>(ops: &O) {
    let mut seed = 300;
    for n in [1, 255, 256, 257, 3000] {
        for (count, d) in [(1, 1), (16, 3), (17, 33), (1025, 16)] {
            seed += 1;
            let _case = Case::new(format!("seed {seed}, n {n}, K {count}, d {d}"));
            let mut random = random(seed);
            let (rows, anchors) = (normals(&mut random, n, d), normals(&mut random, count, d));
            let candidates = (1 + n % 3).min(count);
            assert_cells(ops, &rows, &with_copies(anchors), candidates, 0.0, false);
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
            assert_cells(ops, &rows, &with_copies(anchors), 1, trim, true);
        }
    }
}

/// Checks one step from `before` to `after`.
fn assert_step(before: &Mat, after: &Mat, counts: &[u32], means: &Mat, step: Step<'_>) {
    for (k, &count) in counts.iter().enumerate() {
        if count == 0 {
            assert_eq!(after.row(k), before.row(k), "the anchor of an empty cell moved");
            continue;
        }
        for c in 0..before.dim() {
            let [a, m] = [before, means].map(|x| f64::from(x.row(k)[c]));
            let e = step.noise.map_or(0.0, |noise| f64::from(noise.row(k)[c]));
            let expected = a + f64::from(step.learning_rate) * (m - a) + e;
            assert_near(after.row(k)[c], expected, 1e-6, a.abs() + m.abs() + e.abs(), "anchor");
        }
    }
}

pub(super) fn update_moves_anchors<O: Ops>(ops: &O) {
    for (seed, (n, count, d)) in [(9, 1, 1), (100, 16, 3), (1000, 257, 33)].into_iter().enumerate() {
        for rate in [0.1f32, 0.5, 1.0] {
            for noisy in [false, true] {
                let seed = 500 + seed as u64;
                let _case = Case::new(format!("seed {seed}, K {count}, d {d}, rate {rate}, noise {noisy}"));
                let mut random = random(seed);
                let rows = up(ops, &normals(&mut random, n, d));
                let before = with_copies(normals(&mut random, count, d));
                let noise = normals(&mut random, count, d);
                let mut anchors = up(ops, &before);
                let assigned = ops.assign(&rows, &anchors, 1).unwrap();
                let stats = ops.reduce(&rows, &assigned, count, 0.1).unwrap();
                let step = Step { learning_rate: rate, noise: noisy.then(|| noise.view()) };
                ops.update(&mut anchors, &stats, step).unwrap();
                let (after, means) = (ops.download(&anchors).unwrap(), ops.means(&stats).unwrap());
                assert_step(&before, &after, &ops.cells(&stats).unwrap().counts, &means, step);
                if rate == 1.0 && !noisy {
                    let mut moved = (0..count).filter(|&k| after.row(k) != before.row(k));
                    assert!(moved.all(|k| after.row(k) == means.row(k)), "not exactly the mean");
                }
            }
        }
    }
}

/// The loop of the anchors, all of it on the device: every step starts where the last one ended, and a copy stays behind.
pub(super) fn updates_of_resident_anchors_add_up<O: Ops>(ops: &O) {
    let _case = Case::new("seed 550".into());
    let mut random = random(550);
    let rows = up(ops, &normals(&mut random, 2000, 5));
    let first = with_copies(normals(&mut random, 30, 5));
    let mut anchors = up(ops, &first);
    let kept = ops.copy(&anchors).unwrap();
    let mut before = first.clone();
    let mut energy = f64::INFINITY;
    for _ in 0..5 {
        let assigned = ops.assign(&rows, &anchors, 2).unwrap();
        let lower = ops.energy(&assigned).unwrap();
        assert!(lower < energy, "the energy went from {energy} to {lower}");
        energy = lower;
        let stats = ops.reduce(&rows, &assigned, 30, 0.0).unwrap();
        let step = Step { learning_rate: 1.0, noise: None };
        ops.update(&mut anchors, &stats, step).unwrap();
        let after = ops.download(&anchors).unwrap();
        assert_step(&before, &after, &ops.cells(&stats).unwrap().counts, &ops.means(&stats).unwrap(), step);
        before = after;
    }
    assert_eq!(ops.download(&kept).unwrap(), first, "the copy moved");
}

/// Rows of which nothing is left: every anchor is as near, and there is nothing to average.
pub(super) fn rows_without_columns<O: Ops>(ops: &O) {
    let _case = Case::new("seed 560".into());
    let mut random = random(560);
    let full = up(ops, &normals(&mut random, 300, 5));
    let rows = ops.project(&full, &[0.0; 5], Mat::zeros(0, 5).view()).unwrap();
    let empty = ops.download(&rows).unwrap();
    assert_eq!((empty.rows(), empty.dim()), (300, 0));
    let mut anchors = up(ops, &Mat::zeros(3, 0));
    let assigned = ops.assign(&rows, &anchors, 1).unwrap();
    let near = ops.assignments(&assigned).unwrap();
    assert!(near.labels.iter().all(|&label| label == 0) && near.distances.iter().all(|&distance| distance == 0.0));
    let stats = ops.reduce(&rows, &assigned, 3, 0.1).unwrap();
    let cells = ops.cells(&stats).unwrap();
    assert_eq!(cells.counts, [300, 0, 0]);
    assert!(cells.variances.iter().all(|&variance| variance == 0.0), "{:?}", cells.variances);
    ops.update(&mut anchors, &stats, Step { learning_rate: 1.0, noise: None }).unwrap();
    let means = ops.means(&stats).unwrap();
    assert_eq!((means.rows(), means.dim()), (3, 0));
}
