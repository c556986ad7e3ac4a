//! Codeword tables: encoding and least squares in turn, with momentum.
//!
//! Plain alternation creeps: after 20 rounds it is still 3 % of the distortion above where it is heading. Extrapolating the tables
//! along their last change (momentum 0.8, none in the last rounds) gets there in the same time; noise on tables or rows did not.

use rayon::prelude::*;

use super::{anneal::anneal, linalg::solve_ridge, rng::Random};
use crate::{
    AnnealingConfig, CodeKind, Error, Mat, MatRef,
    model::Code,
    ops::{Effort, EncodeJob, Ops},
};

/// Rounds of encoding and least squares.
pub(crate) const ROUNDS: usize = 24;
const MOMENTUM: f32 = 0.8;
/// Rounds at the end that search as hard as the encoder does.
const FULL: usize = 6;
/// Rounds at the end without momentum.
const SETTLE: usize = 2;
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
    let resident = ops.upload(rows)?;
    let zero = Mat::zeros(1, rows.dim());
    let tries = vec![0u32; rows.rows()];
    let columns = transpose(rows);
    let mut last = code.tables.clone();
    for round in 0..ROUNDS {
        let effort = if round + FULL >= ROUNDS { Effort::Full } else { Effort::Quick };
        let job = EncodeJob { code: &code, anchors: zero.view(), tries: &tries, candidates: 1, effort };
        let encoded = ops.encode(&resident, job)?;
        let fitted = least_squares(&code, &encoded.symbols, &columns, rows.rows())?;
        let momentum = if round == 0 || round + SETTLE >= ROUNDS { 0.0 } else { MOMENTUM };
        for ((table, new), old) in code.tables.iter_mut().zip(&fitted).zip(&last) {
            *table = new + momentum * (new - old);
        }
        last = fitted;
        each(round + 1)?;
    }
    Ok(code.tables)
}

fn deviations(rows: MatRef<'_>) -> Vec<f32> {
    let mut sums = vec![0f64; rows.dim()];
    for i in 0..rows.rows() {
        for (s, &x) in sums.iter_mut().zip(rows.row(i)) {
            *s += f64::from(x) * f64::from(x);
        }
    }
    sums.iter().map(|s| (s / rows.rows().max(1) as f64).sqrt() as f32).collect()
}

/// One row per direction.
fn transpose(rows: MatRef<'_>) -> Mat {
    let mut out = Mat::zeros(rows.dim(), rows.rows());
    for i in 0..rows.rows() {
        for (j, &x) in rows.row(i).iter().enumerate() {
            out.row_mut(j)[i] = x;
        }
    }
    out
}

/// The tables of least squared error for the given symbols. Each subspace is a regression on the one-hot of the symbols
/// it depends on: 16 (lags + 1) unknowns per direction, one Gram matrix for all its directions.
fn least_squares(code: &Code, symbols: &[u8], columns: &Mat, n: usize) -> Result<Vec<f32>, Error> {
    let (count, entries, offsets) = (code.symbols(), code.entries(), code.offsets());
    let parts: Vec<Vec<f32>> = (0..count)
        .into_par_iter()
        .map(|t| {
            let width = usize::from(code.widths[t]);
            if width == 0 {
                return Ok(Vec::new());
            }
            let lags = code.lags.min(t);
            let features = |i: usize| -> [usize; 8] {
                std::array::from_fn(|lag| {
                    16 * lag + if lag <= lags { usize::from(symbols[i * count + t - lag]) } else { 0 }
                })
            };
            let mut gram = Mat::<f64>::zeros(entries, entries);
            let mut right = Mat::<f64>::zeros(entries, width);
            for i in 0..n {
                let on = features(i);
                for &a in &on[..=lags] {
                    for &b in &on[..=lags] {
                        gram.row_mut(a)[b] += 1.0;
                    }
                    for v in 0..width {
                        right.row_mut(a)[v] += f64::from(columns.row(offsets[t] + v)[i]);
                    }
                }
            }
            let fitted = solve_ridge(&gram, &right, RIDGE)?;
            let by_direction = (0..width).flat_map(|v| (0..entries).map(move |e| (v, e)));
            Ok(by_direction.map(|(v, e)| fitted.row(e)[v] as f32).collect())
        })
        .collect::<Result<_, Error>>()?;
    Ok(parts.concat())
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
                seed: seed.wrapping_add(t as u64),
                ..AnnealingConfig::default()
            };
            let (found, _) = anneal(ops, part.view(), &config, |_| Ok(()))?;
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
