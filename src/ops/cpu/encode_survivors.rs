//! The search for the symbols of a chain code of least squared error.
//!
//! The Viterbi algorithm over 16 states (the last symbol). Where a codeword depends on more than one earlier symbol, each
//! survivor carries its own past (per-survivor processing, Raheli et al., 1995), and each state keeps a few survivors
//! that come from different states. Lanes are states; every instruction set gives the same result, as nothing is
//! reassociated or contracted.

use pulp::Simd;

use crate::model::Code;

pub(super) const STATES: usize = 16;
/// Most survivors per state.
pub(super) const SURVIVORS: usize = 4;
const MAX_LAGS: usize = 7;

/// Buffers of one thread.
pub(super) struct Paths {
    /// For each step, survivor and state: the survivor and state it came from.
    back: Vec<u8>,
    /// Of each path: its cost with the squared length of what the next codeword must meet.
    base: [f32; STATES * SURVIVORS],
    /// For each direction of the subspace and each path: that target times -2.
    twice: Vec<[f32; STATES * SURVIVORS]>,
}

impl Paths {
    pub(super) fn new(code: &Code) -> Self {
        let widest = usize::from(code.widths.iter().copied().max().unwrap_or(0));
        Paths {
            back: vec![0; code.symbols() * STATES * SURVIVORS],
            base: [0.0; STATES * SURVIVORS],
            twice: vec![[0.0; STATES * SURVIVORS]; widest],
        }
    }
}

/// Paths that end in each state, the best first.
#[derive(Clone, Copy)]
struct Survivors<const L: usize> {
    cost: [[f32; STATES]; L],
    /// Number of the path it came from: state x L + survivor.
    from: [[u32; STATES]; L],
    /// The latest symbols, four bits each, the last one lowest.
    past: [[u32; STATES]; L],
}

/// Writes the symbols of a path of least cost, of those that keeping L survivors per state finds.
#[inline(always)]
pub(super) fn viterbi<S: Simd, const L: usize>(
    simd: S,
    residual: &[f32],
    code: &Code,
    paths: &mut Paths,
    symbols: &mut [u8],
) {
    let entries = code.entries();
    let none = Survivors { cost: [[f32::INFINITY; STATES]; L], from: [[0; STATES]; L], past: [[0; STATES]; L] };
    let mut now = none;
    let mut direction = 0;
    for (t, &width) in code.widths.iter().enumerate() {
        let width = usize::from(width);
        let tables = &code.tables[direction * entries..(direction + width) * entries];
        let wanted = &residual[direction..direction + width];
        let mut next = none;
        if t == 0 {
            // One path of no symbols: as if it came from path 0.
            paths.base.fill(f32::INFINITY);
            paths.base[0] = wanted.iter().map(|y| y * y).sum();
            paths.twice.iter_mut().zip(wanted).for_each(|(u, y)| u[0] = -2.0 * y);
        } else {
            targets(&now, wanted, tables, entries, code.lags.min(t), paths);
        }
        // A width known to the compiler lets it keep the tables in registers.
        match width {
            1 => extend::<S, L, 1>(simd, paths, tables, entries, 1, &mut next),
            2 => extend::<S, L, 2>(simd, paths, tables, entries, 2, &mut next),
            3 => extend::<S, L, 3>(simd, paths, tables, entries, 3, &mut next),
            4 => extend::<S, L, 4>(simd, paths, tables, entries, 4, &mut next),
            _ => extend::<S, L, 0>(simd, paths, tables, entries, width, &mut next),
        }
        for l in 0..L {
            for s in 0..STATES {
                let from = next.from[l][s] as usize;
                next.past[l][s] = now.past[from % L][from / L] << 4 | s as u32;
                paths.back[(t * L + l) * STATES + s] = from as u8;
            }
        }
        now = next;
        direction += width;
    }
    let (mut state, mut survivor) = (0, 0);
    for s in 1..STATES {
        if now.cost[0][s] < now.cost[0][state] {
            state = s;
        }
    }
    for t in (0..symbols.len()).rev() {
        symbols[t] = state as u8;
        let from = usize::from(paths.back[(t * L + survivor) * STATES + state]);
        (state, survivor) = (from / L, from % L);
    }
}

/// What is left of `wanted` for the next symbol's own table, for every path.
#[inline(always)]
fn targets<const L: usize>(
    now: &Survivors<L>,
    wanted: &[f32],
    tables: &[f32],
    entries: usize,
    lags: usize,
    paths: &mut Paths,
) {
    for p in 0..STATES {
        for l in 0..L {
            paths.base[p * L + l] = now.cost[l][p];
        }
    }
    // Where each path's symbols stand in a direction's table, lag after lag; the first lag is the state itself.
    let mut at = [[0u8; STATES * SURVIVORS]; MAX_LAGS];
    for (lag, at) in at[..lags].iter_mut().enumerate() {
        for p in 0..STATES {
            for l in 0..L {
                at[p * L + l] = (now.past[l][p] >> (4 * lag) & 15) as u8;
            }
        }
    }
    for (v, (y, twice)) in wanted.iter().zip(&mut paths.twice).enumerate() {
        let mut left = [*y; STATES * SURVIVORS];
        for (lag, at) in at[..lags].iter().enumerate() {
            let start = v * entries + STATES * (lag + 1);
            let table = &tables[start..start + STATES];
            for (u, &s) in left[..STATES * L].iter_mut().zip(&at[..STATES * L]) {
                *u -= table[usize::from(s & 15)];
            }
        }
        for ((u, base), twice) in left.iter().zip(&mut paths.base).zip(twice).take(STATES * L) {
            *base += u * u;
            *twice = -2.0 * u;
        }
    }
}

/// Every path goes on to every state: |u - a|^2 = |u|^2 - 2 <u, a> + |a|^2, the last added once the paths are chosen.
/// `W` is the width of the subspace, or 0 when it is only known as `width`.
#[inline(always)]
fn extend<S: Simd, const L: usize, const W: usize>(
    simd: S,
    paths: &Paths,
    tables: &[f32],
    entries: usize,
    width: usize,
    next: &mut Survivors<L>,
) {
    let width = if W > 0 { W } else { width };
    let tables = &tables[..width * entries];
    let twice = &paths.twice[..width];
    for j in 0..STATES / S::F32_LANES {
        let table = |v: usize| S::as_simd_f32s(&tables[v * entries..v * entries + STATES]).0[j];
        let mut cost = [simd.splat_f32s(f32::INFINITY); L];
        let mut from = [simd.splat_u32s(0); L];
        for p in 0..STATES {
            let mut c = simd.splat_f32s(f32::INFINITY);
            let mut f = simd.splat_u32s(0);
            for path in p * L..(p + 1) * L {
                let mut offered = simd.splat_f32s(paths.base[path]);
                for v in 0..width {
                    let u = simd.splat_f32s(twice[v][path]);
                    offered = simd.add_f32s(offered, simd.mul_f32s(u, table(v)));
                }
                let better = simd.less_than_f32s(offered, c);
                c = simd.select_f32s(better, offered, c);
                f = simd.select_u32s(better, simd.splat_u32s(path as u32), f);
            }
            for l in 0..L {
                let better = simd.less_than_f32s(c, cost[l]);
                let (old_cost, old_from) = (cost[l], from[l]);
                cost[l] = simd.select_f32s(better, c, old_cost);
                from[l] = simd.select_u32s(better, f, old_from);
                c = simd.select_f32s(better, old_cost, c);
                f = simd.select_u32s(better, old_from, f);
            }
        }
        let mut squares = simd.splat_f32s(0.0);
        for v in 0..width {
            squares = simd.add_f32s(squares, simd.mul_f32s(table(v), table(v)));
        }
        for l in 0..L {
            S::as_mut_simd_f32s(&mut next.cost[l]).0[j] = simd.add_f32s(cost[l], squares);
            S::as_mut_simd_u32s(&mut next.from[l]).0[j] = from[l];
        }
    }
}
