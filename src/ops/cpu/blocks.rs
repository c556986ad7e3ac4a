//! Blocks of codes scored for a group of queries: bounds from byte tables, then the exact score of the rows that may enter.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{
    query::{Query, Scan},
    scan::{
        ByteTables, interleave,
        sums::{Needs, Quad, RUN, Sums},
    },
};
use crate::{
    format::rows::BLOCK,
    math::topk::TopK,
    model::{
        kinds::CodeKind,
        score::{scale_and_less, score},
    },
    ops::types::CodesRef,
};

/// Positions of one chart and the queries that look at them.
pub(super) struct Piece<'s, 'q, 'a, const Q: usize> {
    pub(super) scan: &'s Scan<'a>,
    pub(super) queries: &'s mut [&'q mut Query<'a>; Q],
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) chart: usize,
}

impl<const Q: usize> WithSimd for Piece<'_, '_, '_, Q> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let codes = self.scan.codes;
        // What a row needs follows from its cell and its factor's code alone.
        let only_factors = codes.shape.side_nibbles == codes.factor_nibbles();
        // What is not above 0 would turn bounds round.
        let above = |values: &[f32]| values.iter().all(|v| *v > 0.0);
        let by_need = only_factors && above(codes.factors) && above(codes.weights) && above(&codes.gains[..1]);
        if by_need && codes.shape.kind == CodeKind::Chain && codes.shape.symbols > 0 {
            self.by_need();
        } else {
            self.by_bound();
        }
    }
}

impl<const Q: usize> Piece<'_, '_, '_, Q> {
    pub(super) fn blocks(&self) -> Range<usize> {
        (self.from / BLOCK as u64) as usize..self.to.div_ceil(BLOCK as u64) as usize
    }

    /// The positions of a block that are looked at.
    fn rows(&self, block: usize) -> Range<u64> {
        let first = (block * BLOCK) as u64;
        self.from.max(first)..self.to.min(first + BLOCK as u64)
    }

    fn tables(&self) -> Vec<[Quad; Q]> {
        interleave(std::array::from_fn(|q| &self.queries[q].bytes[self.chart]))
    }

    /// Compares whole numbers: what a row's bytes must add up to is known before they are added.
    #[inline(always)]
    fn by_need(self) {
        let codes = self.scan.codes;
        let (shape, cells, stride) = (codes.shape, codes.labels.cells, codes.shape.bytes());
        let lines = Lines::new(codes);
        let tables = self.tables();
        let (mut needs, mut masks) = ([[0; 16]; Q], [[0; RUN]; Q]);
        let mut cell = codes.labels.cell_of(self.from);
        let blocks = self.blocks();
        // Without a threshold every row would be scored; it is low after one block, and as good as it gets after a few.
        let mut length = if self.queries.iter().any(|q| q.top.threshold() == f32::NEG_INFINITY) { 1 } else { RUN };
        let mut next = blocks.start;
        loop {
            let Range { start: run, end: together } = self.scan.run(next..blocks.end, length);
            if run == together {
                break;
            }
            let rows = self.rows(run);
            while cells[cell + 1] <= rows.start {
                cell += 1;
            }
            let mut last = cell;
            while cells[last + 1] < rows.end {
                last += 1;
            }
            // Blocks of one cell go together, a block of several by itself.
            let of_cell = if last == cell { (cells[cell + 1] / BLOCK as u64) as usize } else { 0 };
            let end = of_cell.min(together).max(run + 1);
            for q in 0..Q {
                let query = &*self.queries[q];
                needs[q] = needs_of(query, self.chart, cell, &lines);
                // Of several cells a row needs what the least demanding one asks for, to be looked at.
                for other in cell + 1..=last {
                    let other = needs_of(query, self.chart, other, &lines);
                    needs[q].iter_mut().zip(other).for_each(|(n, o)| *n = (*n).min(o));
                }
            }
            let part = &codes.blocks[run * stride..end * stride];
            self.scan.kernel.reaching(part, shape, &tables, &needs, &mut masks);
            for q in 0..Q {
                for b in run..end {
                    if masks[q][b - run] != 0 {
                        let rows = self.rows(b);
                        let first = (b * BLOCK) as u64;
                        let looked_at = (u64::MAX >> (64 - (rows.end - first))) & (u64::MAX << (rows.start - first));
                        let mask = masks[q][b - run] & self.scan.places(b) & looked_at as u32;
                        let block = &codes.blocks[b * stride..(b + 1) * stride];
                        offer(codes, block, self.queries[q], self.chart, mask, first, cell);
                    }
                }
            }
            next = end;
            length = (2 * length).min(RUN);
        }
    }

    /// Compares floats, whatever a row's gain makes of its sum.
    #[inline(always)]
    fn by_bound(self) {
        let codes = self.scan.codes;
        let (shape, cells, stride) = (codes.shape, codes.labels.cells, codes.shape.bytes());
        let tables = self.tables();
        let (mut sums, mut levels) = ([[[0; BLOCK]; RUN]; Q], Levels::new(codes));
        let mut cell = codes.labels.cell_of(self.from);
        let blocks = self.blocks();
        let mut next = blocks.start;
        loop {
            let Range { start: run, end } = self.scan.run(next..blocks.end, RUN);
            if run == end {
                break;
            }
            next = end;
            if shape.symbols > 0 {
                self.scan.kernel.sums(&codes.blocks[run * stride..end * stride], shape, &tables, &mut sums);
            }
            for b in run..end {
                let block = &codes.blocks[b * stride..(b + 1) * stride];
                let rows = self.rows(b);
                while cells[cell + 1] <= rows.start {
                    cell += 1;
                }
                levels.read(codes, block);
                for q in 0..Q {
                    let query = &mut *self.queries[q];
                    let bytes = &query.bytes[self.chart];
                    let mut bases = [query.bases[cell]; BLOCK];
                    if cells[cell + 1] < rows.end {
                        bases_of_cells(&mut bases, query.bases, cells, cell, rows.clone());
                    }
                    let bounds = levels.bounds(&sums[q][b - run], bytes, &bases);
                    let threshold = query.top.threshold();
                    if bounds.iter().fold(true, |below, bound| below & (*bound < threshold)) {
                        continue;
                    }
                    let first = (b * BLOCK) as u64;
                    let below = |row: u64| bounds[(row - first) as usize] < threshold;
                    let mask = rows.clone().fold(0, |mask, row| mask | u32::from(!below(row)) << (row - first));
                    let mask = mask & self.scan.places(b);
                    offer(codes, block, query, self.chart, mask, first, cell);
                }
            }
        }
    }
}

/// What scores are of sums where gains are not kept: `gain F (base + W sum) - less`, with F and W by factor code.
struct Lines {
    gain: f32,
    less: f32,
    /// 1 / F and 1 / W of the factor codes that share a first nibble, for each second one.
    inverses: Vec<([f32; 16], [f32; 16])>,
}

impl Lines {
    fn new(codes: &CodesRef<'_>) -> Lines {
        let (gain, less) = scale_and_less(codes.squared, codes.gains[0], 1.0);
        let of = |part: usize| {
            let at = |f: usize| 16 * part + f;
            let factor = |f: usize| codes.factors.get(at(f)).copied().unwrap_or(1.0);
            (std::array::from_fn(|f| 1.0 / factor(f)), std::array::from_fn(|f| 1.0 / codes.weight(at(f))))
        };
        Lines { gain, less, inverses: (0..codes.factors.len().div_ceil(16).max(1)).map(of).collect() }
    }

    /// What `F (base + W sum)` must come to for a score, or less.
    #[inline(always)]
    fn before_gain(&self, score: f32) -> f32 {
        // A score near 0 may be the difference of two large numbers, with what rounding left of them.
        let rounding = if self.less > 0.0 { 4.0 * f32::EPSILON * (score.abs() + self.less) } else { 0.0 };
        (score + self.less - rounding) / self.gain
    }
}

/// What the rows of a cell need, by the first nibble of their factor's code, to reach the query's threshold.
#[inline(always)]
fn needs_of(query: &Query<'_>, chart: usize, cell: usize, lines: &Lines) -> Needs {
    let bytes = &query.bytes[chart];
    let (base, per_step) = (query.bases[cell], 1.0 / bytes.step);
    let threshold = lines.before_gain(query.top.threshold());
    let mut needs = [u16::MAX; 16];
    for (factors, weights) in &lines.inverses {
        for f in 0..16 {
            // At least one less than what divides out, whatever was rounded. What is no number has no low bits: it needs nothing.
            let sum = (threshold * factors[f] - base) * weights[f];
            let need = ((sum - bytes.high) * per_step - 1.5).clamp(0.0, 65_535.0);
            // 2^23 leaves the nearest integer in the low bits; a cast that minds the range takes several times as long.
            needs[f] = needs[f].min((need + 8_388_608.0).to_bits() as u16);
        }
    }
    needs
}

/// Fills in what the anchors add to the rows of a block in several cells.
#[cold]
fn bases_of_cells(out: &mut [f32; BLOCK], bases: &[f32], cells: &[u64], mut cell: usize, rows: Range<u64>) {
    for row in rows {
        while cells[cell + 1] <= row {
            cell += 1;
        }
        out[row as usize % BLOCK] = bases[cell];
    }
}

/// Positions of one cell that are likely to score high: those of the highest bounds.
pub(super) struct Likely<'s, 'a> {
    pub(super) scan: &'s Scan<'a>,
    pub(super) query: &'s Query<'a>,
    pub(super) cell: usize,
    /// Rows of the cell that are looked at, at most, but for the rest of a block.
    pub(super) most: u64,
    pub(super) top: &'s mut TopK,
}

impl WithSimd for Likely<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Likely { scan, query, cell, most, top } = self;
        let (codes, bytes) = (scan.codes, &query.bytes[usize::from(scan.codes.anchor_chart[cell])]);
        let (shape, stride) = (codes.shape, codes.shape.bytes());
        let first = codes.labels.cells[cell];
        let rows = first..codes.labels.cells[cell + 1];
        let (tables, base) = (interleave([bytes]), [query.bases[cell]; BLOCK]);
        let (mut sums, mut levels) = ([[[0; BLOCK]; RUN]; 1], Levels::new(codes));
        let blocks = (rows.start / BLOCK as u64) as usize..rows.end.div_ceil(BLOCK as u64) as usize;
        let (mut next, mut seen) = (blocks.start, 0);
        while seen < most {
            let length = RUN.min((most - seen).div_ceil(BLOCK as u64) as usize);
            let Range { start: run, end } = scan.run(next..blocks.end, length);
            if run == end {
                break;
            }
            next = end;
            if shape.symbols > 0 {
                scan.kernel.sums(&codes.blocks[run * stride..end * stride], shape, &tables, &mut sums);
            }
            for b in run..end {
                levels.read(codes, &codes.blocks[b * stride..(b + 1) * stride]);
                let bounds = levels.bounds(&sums[0][b - run], bytes, &base);
                let first = (b * BLOCK) as u64;
                let places = scan.places(b);
                for row in rows.start.max(first)..rows.end.min(first + BLOCK as u64) {
                    if places >> (row - first) & 1 == 1 {
                        top.offer(bounds[(row - first) as usize], row, |position| position);
                        seen += 1;
                    }
                }
            }
        }
    }
}

/// The score of the row at a position.
pub(super) fn score_at(codes: &CodesRef<'_>, query: &Query<'_>, position: u64) -> f32 {
    let (block, i) = codes.block(position);
    scored(codes, block, i, codes.product(query.tables, query.bases, position))
}

/// Scores the rows of `mask` in a block whose place 0 is the position `first`; `cell` is that of the first of its positions that is
/// looked at, or one before.
#[cold]
#[inline(never)]
fn offer(
    codes: &CodesRef<'_>,
    block: &[u8],
    query: &mut Query<'_>,
    chart: usize,
    mut mask: u32,
    first: u64,
    mut cell: usize,
) {
    let per_chart = codes.shape.symbols * codes.alphabet;
    let tables = &query.tables[chart * per_chart..(chart + 1) * per_chart];
    while mask != 0 {
        let i = mask.trailing_zeros();
        mask &= mask - 1;
        let row = first + u64::from(i);
        while codes.labels.cells[cell + 1] <= row {
            cell += 1;
        }
        let weight = codes.weight(codes.factor_code(block, i as usize));
        let product = query.bases[cell] + weight * codes.shape.sum(block, i as usize, tables);
        let score = scored(codes, block, i as usize, product);
        query.top.offer(score, row, |position| codes.labels.row(position));
    }
}

/// The score of the row at place `i` of a block.
fn scored(codes: &CodesRef<'_>, block: &[u8], i: usize, mut product: f32) -> f32 {
    if !codes.factors.is_empty() {
        product *= codes.factors[codes.factor_code(block, i)];
    }
    score(codes.squared, codes.gains[gain_code(codes, block, i)], 1.0, product)
}

#[inline(always)]
fn gain_code(codes: &CodesRef<'_>, block: &[u8], i: usize) -> usize {
    codes.shape.gain_code(block, codes.factor_nibbles(), i)
}

/// What a block's factors and gains make of sums: `of_base * base + of_sum * sum - less`.
struct Levels {
    of_base: [f32; BLOCK],
    of_sum: [f32; BLOCK],
    less: [f32; BLOCK],
}

impl Levels {
    fn new(codes: &CodesRef<'_>) -> Levels {
        let (gain, less) = scale_and_less(codes.squared, codes.gains[0], 1.0);
        Levels { of_base: [gain; BLOCK], of_sum: [gain; BLOCK], less: [less * (1.0 - 1e-6); BLOCK] }
    }

    #[inline(always)]
    fn read(&mut self, codes: &CodesRef<'_>, block: &[u8]) {
        if codes.shape.side_nibbles == 0 {
            return;
        }
        for i in 0..BLOCK {
            let code = codes.factor_code(block, i);
            let factor = if codes.factors.is_empty() { 1.0 } else { codes.factors[code] };
            let (scale, less) = scale_and_less(codes.squared, codes.gains[gain_code(codes, block, i)], factor);
            (self.of_base[i], self.of_sum[i]) = (scale, scale * codes.weight(code));
            // A little less, as what is bounded is rounded on its way.
            self.less[i] = less * (1.0 - 1e-6);
            if scale < 0.0 || self.of_sum[i] < 0.0 {
                // What bounds a sum from above says nothing of what a number below 0 makes of it.
                (self.of_base[i], self.of_sum[i], self.less[i]) = (0.0, 0.0, f32::NEG_INFINITY);
            }
        }
    }

    /// What no row's score is above.
    #[inline(always)]
    fn bounds(&self, sums: &Sums, bytes: &ByteTables, bases: &[f32; BLOCK]) -> [f32; BLOCK] {
        let mut out = [0.0; BLOCK];
        for i in 0..BLOCK {
            let sum = f32::from(sums[i]) * bytes.step + bytes.high;
            out[i] = sum * self.of_sum[i] + bases[i] * self.of_base[i] - self.less[i];
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        math::{rng::Random, topk::TopK},
        ops::cpu::simd::Level,
    };

    /// A step more and rounding could lose a row; a step less and rows are scored in vain.
    #[test]
    fn needs_are_one_to_two_steps_below_what_divides_out() {
        let mut random = Random::new(1, 7);
        let factor = |f: usize| 0.5 + 0.0625 * f as f32;
        let (inverse, ones) = (std::array::from_fn(|f| 1.0 / factor(f)), [1.0; 16]);
        let weights: [f32; 16] = std::array::from_fn(|f| 0.5 + 0.125 * f as f32);
        // Of the second nibbles that the last has, its own codes need less than others: the least of them counts.
        let weighted = weights.map(|w| 1.0 / w);
        let lines = |inverses: Vec<_>, gain, less| Lines { gain, less, inverses };
        for _ in 0..500 {
            let tables: Vec<f32> = (0..16 * 5).map(|_| random.normal()).collect();
            let bytes = ByteTables::new(Level::Portable, &tables, 16, 255, 4.0);
            let bases = [random.normal()];
            let (low, step) = (f64::from(bases[0] + bytes.high), f64::from(bytes.step));
            let threshold = (low + step * 1275.0 * random.uniform()) as f32;
            let query = Query { tables: &tables, bases: &bases, bytes: vec![bytes], top: TopK::above(1, threshold) };
            let needed = |f: usize, weight: f32, score: f64| {
                let sum = (score / f64::from(factor(f)) - f64::from(query.bases[0])) / f64::from(weight);
                (sum - (low - f64::from(query.bases[0]))) / step
            };
            let is_at = |need: u16, exact: f64| {
                let range = (exact - 2.01).max(0.0)..=(exact - 0.99).max(0.0);
                assert!(range.contains(&need.into()), "{need} where {exact} divides out");
            };
            let plain = needs_of(&query, 0, 0, &lines(vec![(inverse, ones)], 1.0, 0.0));
            let several = needs_of(&query, 0, 0, &lines(vec![(inverse, ones), (inverse, weighted)], 1.0, 0.0));
            let with_gain = needs_of(&query, 0, 0, &lines(vec![(inverse, weighted)], 4.0, 4.0));
            for f in 0..16 {
                let score = f64::from(threshold);
                is_at(plain[f], needed(f, 1.0, score));
                is_at(several[f], needed(f, 1.0, score).min(needed(f, weights[f], score)));
                is_at(with_gain[f], needed(f, weights[f], (score + 4.0) / 4.0));
            }
        }
    }
}
