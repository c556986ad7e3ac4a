//! Codeword tables: encoding and least squares in turn, with momentum.
//!
//! What the tables need is rounds, not rows: plain alternation creeps, and after 20 rounds over all rows it is still 3 % of the
//! distortion above where it is heading. So the early rounds take few rows each, others every time, and extrapolate the
//! tables along their last change; the last rounds take many and settle.

use rayon::prelude::*;

use super::anneal::anneal;
use crate::{
    config::AnnealingConfig,
    error::Error,
    math::{linalg::solve_ridge, rng::Random},
    matrix::{Mat, MatRef, copy_rows},
    model::{Code, kinds::CodeKind},
    ops::{
        seam::Ops,
        types::{Effort, EncodeJob, Tries},
    },
};

/// Rounds of encoding and least squares, the rows of each, how far it extrapolates, how hard it searches.
const SCHEDULE: [(usize, usize, f32, Effort); 4] = [
    (20, 2048, 0.8, Effort::Quick),
    (8, 4096, 0.8, Effort::Quick),
    (4, 8192, 0.8, Effort::Full),
    (2, 16_384, 0.0, Effort::Full),
];
/// Rounds in all.
pub(crate) const ROUNDS: usize = SCHEDULE[0].0 + SCHEDULE[1].0 + SCHEDULE[2].0 + SCHEDULE[3].0;
/// Standard deviation of the random start of each lag's table, in units of the direction's.
const START: [f32; 8] = [0.7, 0.5, 0.35, 0.25, 0.2, 0.15, 0.1, 0.1];
const RIDGE: f64 = 0.1;

/// Trains the tables for residuals `rows` (m x active, directions in the order of the subspaces of `widths`).
/// `each` is called after every round and may stop the call.
pub(crate) fn train<O: Ops>(
    ops: &O,
    rows: MatRef<'_>,
    kind: CodeKind,
    lags: usize,
    widths: Vec<u16>,
    seed: u64,
    mut each: impl FnMut(usize) -> Result<(), Error>,
) -> Result<Code, Error> {
    let tables = match kind {
        CodeKind::Pq8 => independent(ops, rows, &widths, seed, &mut each)?,
        CodeKind::Chain => chain(ops, rows, lags, &widths, seed, &mut each)?,
    };
    Ok(Code::quantize(kind, lags, widths, &tables))
}

fn chain<O: Ops>(
    ops: &O,
    rows: MatRef<'_>,
    lags: usize,
    widths: &[u16],
    seed: u64,
    each: &mut impl FnMut(usize) -> Result<(), Error>,
) -> Result<Vec<f32>, Error> {
    let mut code = Code {
        kind: CodeKind::Chain,
        lags,
        widths: widths.to_vec(),
        scale: Vec::new(),
        table_codes: Vec::new(),
        tables: Vec::new(),
    };
    let entries = code.entries();
    let mut random = Random::new(seed, 3);
    for deviation in deviations(rows) {
        for e in 0..entries {
            code.tables.push(deviation * START[e / 16] * random.normal());
        }
    }
    // In random order, any stretch of rows is a sample of them.
    let mut order: Vec<usize> = (0..rows.rows()).collect();
    random.shuffle(&mut order);
    let resident = ops.upload(rows)?;
    let zero = Mat::zeros(1, rows.dim());
    let mut last = code.tables.clone();
    let (mut first, mut done) = (0, 0);
    for (rounds, count, momentum, effort) in SCHEDULE {
        let count = count.min(order.len());
        for _ in 0..rounds {
            if first + count > order.len() {
                first = 0;
            }
            let picked = &order[first..first + count];
            let batch = copy_rows(rows, picked);
            first += count;
            let picked: Vec<u32> = picked.iter().map(|&i| i as u32).collect();
            let (anchors, tries) = (zero.view(), Tries::First);
            let job = EncodeJob { code: &code, anchors, tries, candidates: 1, effort, lengths: None };
            let encoded = ops.encode(&ops.select(&resident, &picked)?, job)?;
            let fitted = least_squares(&code, &encoded.symbols, batch.view())?;
            // The first tables are not on the way to anywhere.
            let momentum = if done == 0 { 0.0 } else { momentum };
            for ((table, new), old) in code.tables.iter_mut().zip(&fitted).zip(&last) {
                *table = new + momentum * (new - old);
            }
            last = fitted;
            done += 1;
            each(done)?;
        }
    }
    Ok(code.tables)
}

fn deviations(rows: MatRef<'_>) -> Vec<f32> {
    let mut sums = vec![0f64; rows.dim()];
    // Threads share out the columns, so that each is summed in the order of the rows.
    const COLUMNS: usize = 32;
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(part, sums)| {
        for i in 0..rows.rows() {
            let row = &rows.row(i)[part * COLUMNS..];
            sums.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x) * f64::from(x));
        }
    });
    sums.iter().map(|s| (s / rows.rows().max(1) as f64).sqrt() as f32).collect()
}

/// The tables of least squared error for the given symbols. Each subspace is a regression on the one-hot of the symbols
/// it depends on: 16 (lags + 1) unknowns per direction, one Gram matrix for all its directions, which holds how often two
/// symbols come together.
fn least_squares(code: &Code, symbols: &[u8], rows: MatRef<'_>) -> Result<Vec<f32>, Error> {
    let (n, count, entries, offsets) = (rows.rows(), code.symbols(), code.entries(), code.offsets());
    let parts: Vec<Vec<f32>> = (0..count)
        .into_par_iter()
        .map(|t| {
            let width = usize::from(code.widths[t]);
            if width == 0 {
                return Ok(Vec::new());
            }
            let lags = code.lags.min(t);
            let columns: Vec<Vec<u8>> =
                (0..=lags).map(|lag| symbols.iter().skip(t - lag).step_by(count).copied().collect()).collect();
            let mut targets = Vec::with_capacity(n * width);
            (0..n).for_each(|i| targets.extend_from_slice(&rows.row(i)[offsets[t]..offsets[t] + width]));
            let mut gram = Mat::<f64>::zeros(entries, entries);
            let mut right = Mat::<f64>::zeros(entries, width);
            for a in 0..=lags {
                for b in a..=lags {
                    let together = joint_counts(&columns[a], &columns[b]);
                    for (xy, &c) in together.iter().enumerate() {
                        let (x, y) = (16 * a + xy / 16, 16 * b + xy % 16);
                        gram.row_mut(x)[y] = f64::from(c);
                        gram.row_mut(y)[x] = f64::from(c);
                    }
                }
                let sums = &mut right.as_mut_slice()[16 * a * width..16 * (a + 1) * width];
                // A width known to the compiler lets it add up a row's directions together.
                match width {
                    1 => sum_by_symbol::<1>(&columns[a], &targets, 1, sums),
                    2 => sum_by_symbol::<2>(&columns[a], &targets, 2, sums),
                    3 => sum_by_symbol::<3>(&columns[a], &targets, 3, sums),
                    4 => sum_by_symbol::<4>(&columns[a], &targets, 4, sums),
                    _ => sum_by_symbol::<0>(&columns[a], &targets, width, sums),
                }
            }
            let fitted = solve_ridge(&gram, &right, RIDGE)?;
            let by_direction = (0..width).flat_map(|v| (0..entries).map(move |e| (v, e)));
            Ok(by_direction.map(|(v, e)| fitted.row(e)[v] as f32).collect())
        })
        .collect::<Result<_, Error>>()?;
    Ok(parts.concat())
}

/// How often each pair of symbols comes together.
fn joint_counts(a: &[u8], b: &[u8]) -> [u32; 256] {
    let mut counts = [0; 256];
    a.iter().zip(b).for_each(|(x, y)| counts[usize::from(x << 4 | y)] += 1);
    counts
}

/// The sum of the targets of the rows of each symbol. `W` is their width, or 0 when it is only known as `width`.
fn sum_by_symbol<const W: usize>(symbols: &[u8], targets: &[f32], width: usize, sums: &mut [f64]) {
    let width = if W > 0 { W } else { width };
    for (&s, target) in symbols.iter().zip(targets.chunks_exact(width)) {
        let sum = &mut sums[usize::from(s) * width..][..width];
        sum.iter_mut().zip(target).for_each(|(sum, y)| *sum += f64::from(*y));
    }
}

/// 256 centroids per subspace.
fn independent<O: Ops>(
    ops: &O,
    rows: MatRef<'_>,
    widths: &[u16],
    seed: u64,
    each: &mut impl FnMut(usize) -> Result<(), Error>,
) -> Result<Vec<f32>, Error> {
    let mut tables = Vec::new();
    let mut direction = 0;
    for (t, &width) in widths.iter().enumerate() {
        let width = usize::from(width);
        if width > 0 {
            let mut part = Mat::zeros(rows.rows(), width);
            for i in 0..rows.rows() {
                part.row_mut(i).copy_from_slice(&rows.row(i)[direction..direction + width]);
            }
            let config = AnnealingConfig {
                anchors: Some(rows.rows().min(256)),
                iterations: 15,
                temperature: 0.0,
                ..AnnealingConfig::default()
            };
            let (found, _) = anneal(ops, part.view(), &config, seed.wrapping_add(t as u64), |_| Ok(()))?;
            for v in 0..width {
                tables.extend((0..256).map(|c| {
                    // Fewer rows than codewords: the rest repeat the first, which wins every tie.
                    let c = if c < found.anchors().rows() { c } else { 0 };
                    found.anchors().row(c)[v]
                }));
            }
        }
        direction += width;
        each((t + 1) * ROUNDS / widths.len())?;
    }
    Ok(tables)
}
