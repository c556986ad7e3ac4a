//! Statistics of given assignments against sums in f64, in rows of several parts and of extreme values.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{assign::Assigned, device::Device, device_tests::device, reduce::reduce, rows::Rows, update::update};
use crate::{math::rng::Random, matrix::Mat, ops::types::Step};

/// A device on which no buffer has more bytes than this.
fn limited(bytes: usize) -> Option<Device> {
    device().map(|device| device.limited(bytes))
}

/// Rows, their labels (several candidates, of which the first counts) and distances.
struct Case {
    rows: Mat,
    labels: Vec<u32>,
    distances: Vec<f32>,
    candidates: usize,
    cells: usize,
}

impl Case {
    fn new(seed: u64, (n, dim): (usize, usize), cells: usize, value: fn(&mut Random, usize) -> f32) -> Case {
        let mut random = Random::new(seed, 7);
        let values = (0..n * dim).map(|i| value(&mut random, i % dim)).collect();
        let candidates = 1 + n % 3;
        // Half of the rows in the first cell, and ties of distances.
        let label = |random: &mut Random| random.below(2 * cells).saturating_sub(cells) as u32;
        let labels = (0..n * candidates).map(|_| label(&mut random)).collect();
        let distances = (0..n).map(|_| (random.normal() * 16.0).round().abs() / 7.0).collect();
        Case { rows: Mat::new(values, n, dim).unwrap(), labels, distances, candidates, cells }
    }

    fn check(&self, device: &Device, trim: f32) {
        let (n, dim) = (self.rows.rows(), self.rows.dim());
        let rows = Rows::upload(device, self.rows.view()).unwrap();
        let assigned = Assigned {
            labels: device.upload(&self.labels).unwrap(),
            distances: device.upload(&self.distances).unwrap(),
            n,
            candidates: self.candidates,
        };
        let stats = reduce(device, &rows, &assigned, self.cells, trim).unwrap();
        let (cells, means) = (stats.cells(device).unwrap(), stats.means(device).unwrap());
        assert_eq!((means.rows(), means.dim(), cells.variances.len()), (self.cells, dim, self.cells));
        let largest: Vec<f64> =
            (0..dim).map(|c| (0..n).map(|i| f64::from(self.rows.row(i)[c]).abs()).fold(0.0, f64::max)).collect();
        let mut members = vec![Vec::new(); self.cells];
        (0..n).for_each(|i| members[self.labels[i * self.candidates] as usize].push(i));
        for (k, cell) in members.iter_mut().enumerate() {
            assert_eq!(cells.counts[k] as usize, cell.len());
            let energy: f64 = cell.iter().map(|&i| f64::from(self.distances[i])).sum();
            let variance = energy / (cell.len().max(1) * dim.max(1)) as f64;
            let gap = (f64::from(cells.variances[k]) - variance).abs();
            assert!(gap <= 2e-7 * variance, "cell {k}: {} instead of {variance}", cells.variances[k]);
            cell.sort_by(|&a, &b| self.distances[a].total_cmp(&self.distances[b]).then(a.cmp(&b)));
            cell.truncate(cell.len() - (f64::from(trim) * cell.len() as f64).floor() as usize);
            for c in 0..dim {
                let sum: f64 = cell.iter().map(|&i| f64::from(self.rows.row(i)[c])).sum();
                let mean = sum / cell.len().max(1) as f64;
                let gap = (f64::from(means.row(k)[c]) - mean).abs();
                // Half a unit of the result and what is below the unit of the column, half of the smallest float.
                let bound =
                    mean.abs() * 2f64.powi(-24) * 1.0001 + largest[c] * 2f64.powi(-44) + 2f64.powi(-150) * 1.01;
                assert!(gap <= bound, "cell {k}, column {c}: {} instead of {mean}", means.row(k)[c]);
            }
        }
        let again = reduce(device, &rows, &assigned, self.cells, trim).unwrap();
        assert_eq!(again.cells(device).unwrap(), cells);
        assert_eq!(again.means(device).unwrap(), means);
    }
}

fn normal(random: &mut Random, _column: usize) -> f32 {
    random.normal()
}

/// Columns of zeros, of huge and of tiny values, of values far apart, and of one sign.
fn extreme(random: &mut Random, column: usize) -> f32 {
    match column % 7 {
        0 => 0.0,
        1 => random.normal() * 1e37,
        2 => random.normal() * 1e-41,
        3 => random.normal() * 10f32.powi(random.below(60) as i32 - 30),
        4 => -1.0 - random.normal().abs(),
        5 => random.normal() * 1e-37,
        _ => 0.1,
    }
}

#[test]
fn statistics_of_given_cells() {
    let Some(device) = device() else { return };
    let mut seed = 0;
    for (shape, cells) in [((0, 3), 4), ((1, 1), 1), ((2, 1), 1), ((300, 3), 1), ((5000, 2), 1000), ((6000, 33), 7)] {
        for trim in [0.0, 0.1, 0.3, 0.999] {
            seed += 1;
            Case::new(seed, shape, cells, normal).check(&device, trim);
        }
    }
    Case::new(99, (3, 0), 2, normal).check(&device, 0.0);
    // More counts than the prefix sum takes at a time, of digits and of parts.
    Case::new(98, (300_000, 1), 5000, normal).check(&device, 0.1);
}

#[test]
fn extreme_values() {
    let Some(device) = device() else { return };
    for (seed, (n, cells)) in [(3, 2), (700, 40), (20_000, 3)].into_iter().enumerate() {
        for trim in [0.0, 0.2] {
            Case::new(100 + seed as u64, (n, 14), cells, extreme).check(&device, trim);
        }
    }
}

/// Rows, means and columns of which no binding holds all.
#[test]
fn rows_in_parts() {
    let Some(device) = limited(40_000) else { return };
    for (seed, (shape, cells)) in [((9000, 17), 5), ((2000, 40), 700), ((4500, 3), 3)].into_iter().enumerate() {
        for trim in [0.0, 0.25] {
            Case::new(200 + seed as u64, shape, cells, extreme).check(&device, trim);
        }
    }
}

#[test]
fn steps_of_anchors_in_parts() {
    let Some(device) = limited(40_000) else { return };
    let case = Case::new(300, (2000, 40), 700, normal);
    let rows = Rows::upload(&device, case.rows.view()).unwrap();
    let assigned = Assigned {
        labels: device.upload(&case.labels).unwrap(),
        distances: device.upload(&case.distances).unwrap(),
        n: 2000,
        candidates: case.candidates,
    };
    let stats = reduce(&device, &rows, &assigned, 700, 0.0).unwrap();
    let (counts, means) = (stats.cells(&device).unwrap().counts, stats.means(&device).unwrap());
    let (before, noise) = (Case::new(301, (700, 40), 1, normal).rows, Case::new(302, (700, 40), 1, normal).rows);
    for (learning_rate, noise) in [(1.0, None), (0.3, None), (0.3, Some(noise.view()))] {
        let mut anchors = Rows::upload(&device, before.view()).unwrap();
        update(&device, &mut anchors, &stats, Step { learning_rate, noise }).unwrap();
        let after = anchors.download(&device).unwrap();
        for k in 0..700 {
            for c in 0..40 {
                let [a, m] = [&before, &means].map(|x| x.row(k)[c]);
                let expected = if counts[k] == 0 {
                    a
                } else {
                    a + learning_rate * (m - a) + noise.map_or(0.0, |noise| noise.row(k)[c])
                };
                let tolerance = if learning_rate == 1.0 || counts[k] == 0 { 0.0f32 } else { 1e-6 };
                let found = after.row(k)[c];
                let expected = if learning_rate == 1.0 && counts[k] > 0 { m } else { expected };
                assert!((found - expected).abs() <= tolerance * (1.0 + a.abs() + m.abs()), "{found}, not {expected}");
            }
        }
    }
}
