//! The symbols of least squared error of a chain code with up to two lags, found exactly in whole numbers.
//!
//! The squared error of a row is a constant, plus a term per symbol that is linear in the row, plus terms of two symbols one
//! or two steps apart that all rows share ([`Trellis`]). So the Viterbi algorithm over the 256 pairs of neighbouring
//! symbols needs no more per step than, for each pair and each new symbol, one addition and one minimum. Costs are 16 bits
//! wide, two to a lane, in units as fine as a symbol's neighbourhood allows. Whole
//! numbers make every instruction set give the same result.

use pulp::Simd;

use crate::{
    model::Code,
    ops::chain::{self, LAGS, STATES},
};

/// Two costs to a lane: those of an even earlier symbol in the low halves, of the next odd one in the high halves.
const HALVES: usize = STATES / 2;
/// Costs are cut off here. Three of them, which is what is added up before the cut, fit in 16 bits.
const RANGE: f32 = 21_800.0;
/// Steps below the cut that a cost which still matters keeps, so that rounding does not reach it.
const MARGIN: f32 = 100.0;
/// Rounding to a unit adds 0.25 % to the error when it is so many units per symbol (as the square of that), about as much
/// as the search in f32 misses.
const COARSE: f32 = 5.0;
/// Added to a number below 2^22, it leaves the number's nearest integer in the low bits.
const ROUND: f32 = 8_388_608.0;
const LOW: u32 = 0xFFFF;

/// A number for each state, on one line of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Lanes<T>([T; STATES]);

/// A cost for every pair of symbols: a line for two values of the earlier one, a lane for the later one.
type Pairs = [Lanes<u32>; HALVES];

/// What the rows share: a code made ready for the search.
pub(super) struct Trellis {
    /// For each direction its tables, lag after lag, zeros for lags that the code or the symbol does not have.
    tables: Vec<[Lanes<f32>; LAGS + 1]>,
    widths: Vec<u16>,
    /// What a symbol costs whatever the row is.
    alone: Vec<Lanes<f32>>,
    /// What a symbol costs together with the one before.
    near: Vec<Pairs>,
    /// What a symbol costs together with the one before that.
    far: Vec<Pairs>,
    /// For each symbol what a cost of 1 stands for, from before its choice to after it: powers of two.
    units: Vec<f32>,
    /// Errors below this are not much above what rounding makes of them, in rows that many symbols describe closely.
    pub(super) coarse: f32,
    /// What was subtracted from `near` and `far` to make them start at 0.
    constant: f32,
}

/// Buffers of one thread.
pub(super) struct Costs {
    /// For each symbol its own costs in this row, the same in both halves.
    own: Vec<Lanes<u32>>,
    /// The same before they are rounded.
    exact: Vec<Lanes<f32>>,
    /// Before each symbol and after the last, the least cost of a path to each pair of the last two.
    paths: Vec<Pairs>,
}

impl Costs {
    pub(super) fn new(symbols: usize) -> Costs {
        Costs {
            own: vec![Lanes([0; STATES]); symbols],
            exact: vec![Lanes([0.0; STATES]); symbols],
            paths: vec![[Lanes([0; STATES]); HALVES]; symbols + 1],
        }
    }
}

impl Trellis {
    pub(super) fn new(code: &Code) -> Trellis {
        let symbols = code.symbols();
        let costs = chain::Costs::new(code);
        let directions = code.widths.iter().enumerate().flat_map(|(t, &width)| (0..width).map(move |_| t));
        let tables: Vec<_> =
            directions.enumerate().map(|(direction, t)| chain::tables_of(code, direction, t).map(Lanes)).collect();
        // A path dearer than the best by more than all that the next choices can give back is never continued, so
        // costs above that need no telling apart.
        let reach = |t: usize| costs.reach[t];
        // A direction of large variance needs large costs, but only around its symbol; elsewhere they are finer, though
        // not finer than serves anything. Where no costs are shared any unit will do that tells a symbol's own apart.
        let mean = (0..symbols).map(reach).sum::<f32>() / symbols.max(1) as f32;
        let own = tables.iter().flatten().flat_map(|l| l.0).fold(0f32, |m, x| m.max(x * x));
        let least = mean.max(own / 64.0);
        let units: Vec<f32> = (0..symbols).map(|t| power_above(reach(t).max(least) / (RANGE - MARGIN))).collect();
        Trellis {
            tables,
            widths: code.widths.clone(),
            alone: costs.alone.iter().copied().map(Lanes).collect(),
            near: rounded(&costs.near, &units),
            far: rounded(&costs.far, &units),
            coarse: COARSE * units.iter().sum::<f32>(),
            units,
            constant: costs.constant,
        }
    }

    /// The error of the best symbols for `residual`, as exactly as the search tells errors apart; leaves in `costs` what
    /// [`Trellis::trace`] finds the symbols by.
    #[inline(always)]
    pub(super) fn search<S: Simd>(&self, simd: S, residual: &[f32], costs: &mut Costs) -> f32 {
        let own = self.own_costs(simd, residual, costs);
        // One lane at a time the compiler finds nothing to do at once; arrays of lanes it turns into what the target has.
        let found = if S::U32_LANES == 1 { self.forward(pulp::Scalar128b, costs) } else { self.forward(simd, costs) };
        squares(residual) + self.constant + own + found
    }

    /// Fills in what each symbol costs by itself in this row, each from 0; returns the sum of what was subtracted.
    #[inline(always)]
    fn own_costs<S: Simd>(&self, simd: S, residual: &[f32], costs: &mut Costs) -> f32 {
        let blocks = STATES / S::F32_LANES;
        let exact = &mut costs.exact[..];
        exact.copy_from_slice(&self.alone);
        let mut direction = 0;
        for (t, &width) in self.widths.iter().enumerate() {
            let to = direction + usize::from(width);
            for lag in 0..=LAGS.min(t) {
                let sums = S::as_mut_simd_f32s(&mut exact[t - lag].0).0;
                for (j, sum) in sums.iter_mut().enumerate().take(blocks) {
                    let mut total = *sum;
                    for (y, table) in residual[direction..to].iter().zip(&self.tables[direction..to]) {
                        let table = S::as_simd_f32s(&table[lag].0).0[j];
                        total = simd.add_f32s(total, simd.mul_f32s(simd.splat_f32s(-2.0 * y), table));
                    }
                    *sum = total;
                }
            }
            direction = to;
        }
        let (most, round) = (simd.splat_f32s(RANGE), simd.splat_f32s(ROUND));
        let mut total = simd.splat_f32s(0.0);
        for ((exact, own), unit) in exact.iter().zip(&mut costs.own).zip(&self.units) {
            let scale = simd.splat_f32s(1.0 / unit);
            let exact = S::as_simd_f32s(&exact.0).0;
            let mut least = exact[0];
            for &e in &exact[1..] {
                least = simd.min_f32s(least, e);
            }
            let mut turn = S::F32_LANES / 2;
            while turn > 0 {
                least = simd.min_f32s(least, simd.rotate_right_f32s(least, turn));
                turn /= 2;
            }
            total = simd.add_f32s(total, least);
            for (&e, own) in exact.iter().zip(S::as_mut_simd_u32s(&mut own.0).0) {
                let steps = simd.min_f32s(simd.mul_f32s(simd.sub_f32s(e, least), scale), most);
                let whole: S::u32s = bytemuck::cast(simd.add_f32s(steps, round));
                let low = simd.and_u32s(whole, simd.splat_u32s(LOW));
                *own = simd.or_u32s(low, simd.wrapping_dyn_shl_u32s(low, simd.splat_u32s(16)));
            }
        }
        let first: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&total));
        first[0]
    }

    /// The costs of all paths, step by step; returns that of the best.
    ///
    /// After each step the least cost before it is subtracted: no cost can have been lower, and it is known by then.
    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, costs: &mut Costs) -> f32 {
        let blocks = STATES / S::U32_LANES;
        let most = simd.splat_u32s(RANGE as u32 * 0x1_0001);
        let even = simd.splat_u32s(LOW);
        let odd = simd.splat_u32s(!LOW);
        let half = simd.splat_u32s(16);
        let mut less = simd.splat_u32s(0);
        let (mut lowered, mut unit) = (0.0, 1.0);
        costs.paths[0] = [Lanes([0; STATES]); HALVES];
        for (t, own) in costs.own.iter().enumerate() {
            let (before, after) = costs.paths.split_at_mut(t + 1);
            let (now, next) = (&mut before[t], &mut after[0]);
            let (near, far) = (&self.near[t], &self.far[t]);
            if unit != self.units[t] {
                // The subtraction cannot wait: what a new unit makes large is cut off.
                lowered += unit * (first::<S>(less) & LOW) as f32;
                if t > 0 {
                    rescale(simd, now, less, unit / self.units[t]);
                }
                unit = self.units[t];
                less = simd.splat_u32s(0);
            }
            let mut least = simd.splat_u32s(u32::MAX);
            for j in 0..blocks {
                let mut lanes = [less; HALVES];
                for h in 0..HALVES {
                    lanes[h] = S::as_simd_u32s(&far[h].0).0[j];
                }
                let own = sub16(simd, S::as_simd_u32s(&own.0).0[j], less);
                for h in 0..HALVES {
                    let (a, b) = (best(simd, now, &lanes, 2 * h), best(simd, now, &lanes, 2 * h + 1));
                    let straight = simd.or_u32s(simd.and_u32s(a, even), simd.and_u32s(b, odd));
                    let crossed =
                        simd.or_u32s(simd.wrapping_dyn_shr_u32s(a, half), simd.wrapping_dyn_shl_u32s(b, half));
                    let both = min16(simd, straight, crossed);
                    let with_near = simd.add_u32s(both, S::as_simd_u32s(&near[h].0).0[j]);
                    let cost = min16(simd, add16(simd, with_near, own), most);
                    least = min16(simd, least, cost);
                    S::as_mut_simd_u32s(&mut next[h].0).0[j] = cost;
                }
            }
            lowered += unit * (first::<S>(less) & LOW) as f32;
            least = min16(
                simd,
                least,
                simd.or_u32s(simd.wrapping_dyn_shr_u32s(least, half), simd.wrapping_dyn_shl_u32s(least, half)),
            );
            let mut turn = S::U32_LANES / 2;
            while turn > 0 {
                least = min16(simd, least, simd.rotate_right_u32s(least, turn));
                turn /= 2;
            }
            less = least;
        }
        lowered + unit * (first::<S>(less) & LOW) as f32
    }

    /// The symbols of the best path that [`Trellis::search`] found; of equally good ones those of lower symbols from the
    /// end.
    #[inline(never)]
    pub(super) fn trace(&self, costs: &Costs, symbols: &mut [u8]) {
        let n = symbols.len();
        if n == 0 {
            return;
        }
        let cost = |pairs: &Pairs, p: usize, s: usize| pairs[p / 2].0[s] >> (16 * (p % 2)) & LOW;
        let last = &costs.paths[n];
        let all = (0..STATES * STATES).map(|i| (cost(last, i % STATES, i / STATES), i));
        let (_, mut pair) = all.min().unwrap_or_default();
        for t in (0..n).rev() {
            let (s, p) = (pair / STATES, pair % STATES);
            symbols[t] = s as u8;
            // The cost in the high bits and the symbol in the low ones: the least of them names the symbol.
            let (mut even, mut odd) = (u32::MAX, u32::MAX);
            for (h, (now, far)) in costs.paths[t].iter().zip(&self.far[t]).enumerate() {
                let both = now.0[p].wrapping_add(far.0[s]);
                even = even.min((both << 16) | (2 * h as u32));
                odd = odd.min((both & !LOW) | (2 * h as u32 + 1));
            }
            pair = p * STATES + (even.min(odd) & 15) as usize;
        }
    }
}

/// The least cost of going on from state `p` to each state, over the symbol before it: still apart for even and odd ones.
#[inline(always)]
fn best<S: Simd>(simd: S, now: &Pairs, far: &[S::u32s; HALVES], p: usize) -> S::u32s {
    let mut best = simd.add_u32s(simd.splat_u32s(now[0].0[p]), far[0]);
    for h in 1..HALVES {
        best = min16(simd, best, simd.add_u32s(simd.splat_u32s(now[h].0[p]), far[h]));
    }
    best
}

fn rounded(tables: &[chain::Square], units: &[f32]) -> Vec<Pairs> {
    let pairs = |(t, unit): (&chain::Square, &f32)| {
        let whole = |x: f32| (x / unit).round() as u32;
        std::array::from_fn(|h| Lanes(std::array::from_fn(|s| whole(t[2 * h][s]) | whole(t[2 * h + 1][s]) << 16)))
    };
    tables.iter().zip(units).map(pairs).collect()
}

/// A power of two above `x` and at most twice that, of those whose inverse can be counted in.
fn power_above(x: f32) -> f32 {
    let x = x.clamp(1e-30, 1e30);
    2.0 * f32::from_bits(x.to_bits() >> 23 << 23)
}

/// Takes `less` from the costs and counts them in other units: times `by`, a power of two.
#[inline(always)]
fn rescale<S: Simd>(simd: S, paths: &mut Pairs, less: S::u32s, by: f32) {
    let most = simd.splat_f32s(RANGE);
    let (by, low, half) = (simd.splat_f32s(by), simd.splat_u32s(LOW), simd.splat_u32s(16));
    for cost in paths.iter_mut().flat_map(|line| S::as_mut_simd_u32s(&mut line.0).0) {
        let all = sub16(simd, *cost, less);
        let even = scaled(simd, simd.and_u32s(all, low), by, most);
        let odd = scaled(simd, simd.wrapping_dyn_shr_u32s(all, half), by, most);
        *cost = simd.or_u32s(even, simd.wrapping_dyn_shl_u32s(odd, half));
    }
}

/// The nearest whole numbers to `by` times these below 2^16, cut off at `most`.
#[inline(always)]
fn scaled<S: Simd>(simd: S, whole: S::u32s, by: S::f32s, most: S::f32s) -> S::u32s {
    let round = simd.splat_f32s(ROUND);
    let bits: S::u32s = simd.or_u32s(whole, bytemuck::cast(round));
    let value = simd.sub_f32s(bytemuck::cast(bits), round);
    let value = simd.min_f32s(simd.mul_f32s(value, by), most);
    simd.and_u32s(bytemuck::cast(simd.add_f32s(value, round)), simd.splat_u32s(LOW))
}

/// The sum of squares, in 16 partial sums.
#[inline(always)]
pub(super) fn squares(values: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(s, v)| *s += v * v);
    }
    sums.iter_mut().zip(rest).for_each(|(s, v)| *s += v * v);
    sums.iter().sum()
}

/// The first lane.
#[inline(always)]
fn first<S: Simd>(a: S::u32s) -> u32 {
    let lanes: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&a));
    lanes[0]
}

/// The lesser of each half.
#[inline(always)]
fn min16<S: Simd>(simd: S, a: S::u32s, b: S::u32s) -> S::u32s {
    bytemuck::cast(simd.min_u16s(bytemuck::cast(a), bytemuck::cast(b)))
}

/// The sum of each half, modulo 2^16.
#[inline(always)]
fn add16<S: Simd>(simd: S, a: S::u32s, b: S::u32s) -> S::u32s {
    bytemuck::cast(simd.add_u16s(bytemuck::cast(a), bytemuck::cast(b)))
}

/// The difference of each half, modulo 2^16.
#[inline(always)]
fn sub16<S: Simd>(simd: S, a: S::u32s, b: S::u32s) -> S::u32s {
    bytemuck::cast(simd.sub_u16s(bytemuck::cast(a), bytemuck::cast(b)))
}
