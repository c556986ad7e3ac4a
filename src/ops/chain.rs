//! The squared error of a row's chain code of up to two lags, taken apart: a constant, a term per symbol that is linear in the
//! row, and terms of two symbols one or two steps apart that all rows share. What an exact search works with, on any device.

use rayon::prelude::*;

use crate::model::Code;

pub(super) const STATES: usize = 16;
/// Most lags that an exact search can do.
pub(super) const LAGS: usize = 2;

/// A cost for every pair of an earlier symbol and a later one.
pub(super) type Square = [[f32; STATES]; STATES];

/// What the rows share.
pub(super) struct Costs {
    /// What a symbol costs whatever the row is.
    pub(super) alone: Vec<[f32; STATES]>,
    /// What a symbol costs together with the one before; the least is 0.
    pub(super) near: Vec<Square>,
    /// What a symbol costs together with the one before that; the least is 0.
    pub(super) far: Vec<Square>,
    /// For each symbol how much dearer than the best a path may be before its choice and still be continued: what the next
    /// choices can give back at most.
    pub(super) reach: Vec<f32>,
    /// What was subtracted from `near` and `far` to make them start at 0.
    pub(super) constant: f32,
}

impl Costs {
    pub(super) fn new(code: &Code) -> Costs {
        let offsets = code.offsets();
        let tables: Vec<Vec<[[f32; STATES]; LAGS + 1]>> = (0..code.symbols())
            .map(|t| (offsets[t]..offsets[t + 1]).map(|direction| tables_of(code, direction, t)).collect())
            .collect();
        // The directions that symbol t reaches with a lag.
        let reached = |t: usize, lag: usize| tables.get(t + lag).map_or(&[][..], Vec::as_slice);
        let of_symbol = |t: usize| -> ([f32; STATES], Square, Square) {
            let mut alone = [0f32; STATES];
            for lag in 0..=LAGS {
                for table in reached(t, lag) {
                    alone.iter_mut().zip(&table[lag]).for_each(|(a, x)| *a += x * x);
                }
            }
            let (mut near, mut far) = ([[0f32; STATES]; STATES], [[0f32; STATES]; STATES]);
            for table in reached(t, 0) {
                add_products(&mut near, &table[1], &table[0]);
                add_products(&mut far, &table[2], &table[0]);
            }
            for table in reached(t, 1) {
                add_products(&mut near, &table[2], &table[1]);
            }
            (alone, near, far)
        };
        let parts: Vec<_> = (0..code.symbols()).into_par_iter().map(of_symbol).collect();
        let mut alone: Vec<_> = parts.iter().map(|(alone, ..)| *alone).collect();
        let mut near: Vec<_> = parts.iter().map(|(_, near, _)| *near).collect();
        let mut far: Vec<_> = parts.iter().map(|(.., far)| *far).collect();
        centre(&mut near, &mut alone, 1);
        centre(&mut far, &mut alone, 2);
        let (near_least, near_range) = ranges(&mut near);
        let (far_least, far_range) = ranges(&mut far);
        let at = |of: &[f32], t: usize| of.get(t).copied().unwrap_or(0.0);
        let reach = |t: usize| {
            let now = at(&near_range, t) + at(&far_range, t);
            now + at(&near_range, t + 1) + at(&far_range, t + 1) + at(&far_range, t + 2)
        };
        Costs { reach: (0..code.symbols()).map(reach).collect(), alone, near, far, constant: near_least + far_least }
    }
}

/// Adds to `square` what the values of an earlier symbol and a later one cost together.
fn add_products(square: &mut Square, earlier: &[f32; STATES], later: &[f32; STATES]) {
    for (row, p) in square.iter_mut().zip(earlier) {
        row.iter_mut().zip(later).for_each(|(cost, s)| *cost += 2.0 * p * s);
    }
}

/// The tables of a direction of symbol `t`, lag after lag; zeros for lags that the code or the symbol does not have.
pub(super) fn tables_of(code: &Code, direction: usize, t: usize) -> [[f32; STATES]; LAGS + 1] {
    let entries = code.entries();
    let stored = &code.tables[direction * entries..(direction + 1) * entries];
    let mut tables = [[0f32; STATES]; LAGS + 1];
    for lag in 0..=code.lags.min(t).min(LAGS) {
        tables[lag].copy_from_slice(&stored[lag * STATES..(lag + 1) * STATES]);
    }
    tables
}

/// Leaves to pairs of symbols `lag` steps apart only what neither costs by itself: smaller numbers, in finer steps.
fn centre(tables: &mut [Square], alone: &mut [[f32; STATES]], lag: usize) {
    const SHARE: f32 = 1.0 / STATES as f32;
    for t in lag..tables.len() {
        for p in 0..STATES {
            let mean = SHARE * tables[t][p].iter().sum::<f32>();
            tables[t][p].iter_mut().for_each(|x| *x -= mean);
            alone[t - lag][p] += mean;
        }
        let mut means = [0f32; STATES];
        for row in &tables[t] {
            means.iter_mut().zip(row).for_each(|(m, x)| *m += x);
        }
        means.iter_mut().for_each(|m| *m *= SHARE);
        for row in &mut tables[t] {
            row.iter_mut().zip(&means).for_each(|(x, m)| *x -= m);
        }
        alone[t].iter_mut().zip(&means).for_each(|(a, m)| *a += m);
    }
}

/// Makes every table start at 0; returns the sum of what was subtracted, and the largest of each.
fn ranges(tables: &mut [Square]) -> (f32, Vec<f32>) {
    let mut total = 0.0;
    let ranges = tables.iter_mut().map(|table| {
        let least = table.iter().flatten().fold(f32::INFINITY, |m, &x| m.min(x));
        total += least;
        table.iter_mut().flatten().for_each(|x| *x -= least);
        table.iter().flatten().fold(0f32, |m, &x| m.max(x))
    });
    let ranges = ranges.collect();
    (total, ranges)
}
