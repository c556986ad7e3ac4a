//! Codes of rows.
//!
//! Chain codes are searched with the Viterbi algorithm over 16 states (the last symbol). Where a codeword depends on
//! more than one earlier symbol, each survivor carries its own past (per-survivor processing, Raheli et al., 1995),
//! and each state keeps [`SURVIVORS`] of them, from different predecessors.

use rayon::prelude::*;

use crate::{
    CodeKind, MatRef,
    model::Code,
    ops::{EncodeJob, Encoded},
};

const STATES: usize = 16;
/// Paths kept per state when codewords depend on two or more earlier symbols.
const SURVIVORS: usize = 4;
const MAX_LAGS: usize = 7;
/// Rows of a unit of parallel work.
const CHUNK: usize = 64;

pub(super) fn encode(rows: MatRef<'_>, job: EncodeJob<'_>) -> Encoded {
    let (n, symbols) = (rows.rows(), job.code.symbols());
    let mut out = Encoded { labels: vec![0; n], symbols: vec![0; n * symbols], errors: vec![0.0; n] };
    // A row without symbols still needs a place in every list that is split below.
    let stride = symbols.max(1);
    let mut codes = vec![0u8; n * stride];
    codes
        .par_chunks_mut(CHUNK * stride)
        .zip(out.labels.par_chunks_mut(CHUNK).zip(out.errors.par_chunks_mut(CHUNK)))
        .enumerate()
        .for_each_init(
            || Scratch::new(job.code),
            |scratch, (chunk, (codes, (labels, errors)))| {
                for (i, code) in codes.chunks_exact_mut(stride).enumerate() {
                    let row = chunk * CHUNK + i;
                    let tries = &job.tries[row * job.candidates..(row + 1) * job.candidates];
                    (labels[i], errors[i]) = best_try(rows.row(row), job, tries, scratch, &mut code[..symbols]);
                }
            },
        );
    if symbols > 0 {
        out.symbols = codes;
    }
    out
}

/// Encodes a row against each anchor of `tries` and keeps the best; of equally good ones the first.
fn best_try(row: &[f32], job: EncodeJob<'_>, tries: &[u32], scratch: &mut Scratch, code: &mut [u8]) -> (u32, f32) {
    let mut best = (tries[0], f32::INFINITY);
    let mut residual = std::mem::take(&mut scratch.residual);
    let mut found = std::mem::take(&mut scratch.found);
    for (i, &anchor) in tries.iter().enumerate() {
        if tries[..i].contains(&anchor) {
            continue;
        }
        for ((r, y), a) in residual.iter_mut().zip(row).zip(job.anchors.row(anchor as usize)) {
            *r = y - a;
        }
        match (job.code.kind, job.code.lags) {
            (CodeKind::Pq8, _) => independent(&residual, job.code, &mut found),
            (CodeKind::Chain, 0 | 1) => viterbi::<1>(&residual, job.code, scratch, &mut found),
            (CodeKind::Chain, _) => viterbi::<SURVIVORS>(&residual, job.code, scratch, &mut found),
        }
        scratch.decoded.fill(0.0);
        job.code.add_codeword(&found, &mut scratch.decoded);
        let error = residual.iter().zip(&scratch.decoded).map(|(r, d)| (r - d) * (r - d)).sum();
        if error < best.1 || i == 0 {
            best = (anchor, error);
            code.copy_from_slice(&found);
        }
    }
    scratch.residual = residual;
    scratch.found = found;
    best
}

/// Nearest codeword of every subspace on its own.
fn independent(residual: &[f32], code: &Code, symbols: &mut [u8]) {
    let entries = code.entries();
    let mut direction = 0;
    for (symbol, &width) in symbols.iter_mut().zip(&code.widths) {
        let width = usize::from(width);
        let mut costs = [0f32; 256];
        for v in direction..direction + width {
            for (cost, c) in costs.iter_mut().zip(&code.tables[v * entries..(v + 1) * entries]) {
                *cost += (residual[v] - c) * (residual[v] - c);
            }
        }
        let mut best = 0;
        for (c, cost) in costs.iter().enumerate() {
            if *cost < costs[best] {
                best = c;
            }
        }
        *symbol = best as u8;
        direction += width;
    }
}

/// Buffers of one thread.
struct Scratch {
    residual: Vec<f32>,
    decoded: Vec<f32>,
    found: Vec<u8>,
    /// For each step, state and survivor: the state and survivor it came from.
    back: Vec<u8>,
    target: Vec<f32>,
}

impl Scratch {
    fn new(code: &Code) -> Self {
        let widest = code.widths.iter().copied().max().unwrap_or(0);
        Scratch {
            residual: vec![0.0; code.active()],
            decoded: vec![0.0; code.active()],
            found: vec![0; code.symbols()],
            back: vec![0; code.symbols() * STATES * SURVIVORS],
            target: vec![0.0; widest.into()],
        }
    }
}

/// A path that ends in some state: its cost and the symbols before the last.
#[derive(Clone, Copy)]
struct Survivors<const L: usize> {
    cost: [[f32; STATES]; L],
    from: [[u8; STATES]; L],
}

impl<const L: usize> Survivors<L> {
    const NONE: Self = Survivors { cost: [[f32::INFINITY; STATES]; L], from: [[0; STATES]; L] };

    /// Offers every state a path of `cost` that comes `from`; each keeps its best, ascending.
    #[inline]
    fn offer(&mut self, cost: [f32; STATES], from: [u8; STATES]) {
        let (mut cost, mut from) = (cost, from);
        for l in 0..L {
            for s in 0..STATES {
                let better = cost[s] < self.cost[l][s];
                let (old_cost, old_from) = (self.cost[l][s], self.from[l][s]);
                self.cost[l][s] = if better { cost[s] } else { old_cost };
                self.from[l][s] = if better { from[s] } else { old_from };
                cost[s] = if better { old_cost } else { cost[s] };
                from[s] = if better { old_from } else { from[s] };
            }
        }
    }
}

/// The cost of ending a path of cost `base` with each symbol, where `target` is what the symbol's own table must meet.
#[inline]
fn step_costs(base: f32, target: &[f32], tables: &[f32], entries: usize) -> [f32; STATES] {
    let mut cost = [base; STATES];
    for (v, u) in target.iter().enumerate() {
        let table = &tables[v * entries..v * entries + STATES];
        for (c, a) in cost.iter_mut().zip(table) {
            *c += (u - a) * (u - a);
        }
    }
    cost
}

/// The symbols of least squared error, kept up to [`SURVIVORS`] paths per state.
fn viterbi<const L: usize>(residual: &[f32], code: &Code, scratch: &mut Scratch, symbols: &mut [u8]) {
    let entries = code.entries();
    // The symbols of each path that later codewords depend on, latest first.
    let mut past = [[[0u8; MAX_LAGS]; STATES]; L];
    let mut paths = Survivors::<L>::NONE;
    let mut direction = 0;
    for (t, &width) in code.widths.iter().enumerate() {
        let width = usize::from(width);
        let tables = &code.tables[direction * entries..(direction + width) * entries];
        let wanted = &residual[direction..direction + width];
        let target = &mut scratch.target[..width];
        let mut next = Survivors::<L>::NONE;
        if t == 0 {
            next.cost[0] = step_costs(0.0, wanted, tables, entries);
        }
        let lags = code.lags.min(t);
        for p in 0..STATES {
            let mut cost = [f32::INFINITY; STATES];
            let mut from = [0u8; STATES];
            for l in 0..L {
                let base = paths.cost[l][p];
                if base == f32::INFINITY {
                    continue;
                }
                for (v, (u, y)) in target.iter_mut().zip(wanted).enumerate() {
                    *u = *y;
                    for lag in 1..=lags {
                        *u -= tables[v * entries + STATES * lag + usize::from(past[l][p][lag - 1])];
                    }
                }
                let offered = step_costs(base, target, tables, entries);
                for s in 0..STATES {
                    let better = offered[s] < cost[s];
                    cost[s] = if better { offered[s] } else { cost[s] };
                    from[s] = if better { (p * L + l) as u8 } else { from[s] };
                }
            }
            if t > 0 {
                next.offer(cost, from);
            }
        }
        let mut next_past = past;
        for l in 0..L {
            for s in 0..STATES {
                let (p, from_l) = (usize::from(next.from[l][s]) / L, usize::from(next.from[l][s]) % L);
                next_past[l][s] = past[from_l][p];
                next_past[l][s].rotate_right(1);
                next_past[l][s][0] = s as u8;
                scratch.back[(t * L + l) * STATES + s] = next.from[l][s];
            }
        }
        past = next_past;
        paths = next;
        direction += width;
    }
    let (mut state, mut survivor) = (0, 0);
    for s in 1..STATES {
        if paths.cost[0][s] < paths.cost[0][state] {
            state = s;
        }
    }
    for t in (0..symbols.len()).rev() {
        symbols[t] = state as u8;
        let from = usize::from(scratch.back[(t * L + survivor) * STATES + state]);
        (state, survivor) = (from / L, from % L);
    }
}
