//! Blocks of codes scored for a group of queries: bounds from byte tables, then the exact score of the rows that may enter.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{
    query::{Query, Scan},
    scan::{
        interleave,
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
        let with_factor = !codes.factors.is_empty();
        let only_factors = codes.shape.side_nibbles == usize::from(with_factor) && !codes.squared;
        // What a row needs follows from its cell and factor alone; a factor that is not above 0 would turn bounds round.
        let by_need = only_factors && codes.factors.iter().all(|f| *f > 0.0);
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
        let mut inverse = [1f32; 16];
        inverse.iter_mut().zip(codes.factors).for_each(|(i, f)| *i = 1.0 / f);
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
                needs[q] = needs_of(query, self.chart, cell, &inverse);
                // Of several cells a row needs what the least demanding one asks for, to be looked at.
                for other in cell + 1..=last {
                    let other = needs_of(query, self.chart, other, &inverse);
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
                    let mut lows = [query.bases[cell] + bytes.high; BLOCK];
                    if cells[cell + 1] < rows.end {
                        lows_of_cells(&mut lows, query.bases, bytes.high, cells, cell, rows.clone());
                    }
                    let bounds = levels.bounds(&sums[q][b - run], bytes.step, &lows);
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

/// What the rows of a cell need, by factor code, to reach the query's threshold.
#[inline(always)]
fn needs_of(query: &Query<'_>, chart: usize, cell: usize, inverse: &[f32; 16]) -> Needs {
    let (threshold, bytes) = (query.top.threshold(), &query.bytes[chart]);
    let (low, per_step) = (query.bases[cell] + bytes.high, 1.0 / bytes.step);
    // At least one less than what divides out, whatever was rounded. What is no number has no low bits: it needs nothing.
    std::array::from_fn(|f| {
        let need = ((threshold * inverse[f] - low) * per_step - 1.5).clamp(0.0, 65_535.0);
        // 2^23 leaves the nearest integer in the low bits; a cast that minds the range takes several times as long.
        (need + 8_388_608.0).to_bits() as u16
    })
}

/// Fills in what the anchors add to the rows of a block in several cells.
#[cold]
fn lows_of_cells(
    lows: &mut [f32; BLOCK],
    bases: &[f32],
    high: f32,
    cells: &[u64],
    mut cell: usize,
    rows: Range<u64>,
) {
    for row in rows {
        while cells[cell + 1] <= row {
            cell += 1;
        }
        lows[row as usize % BLOCK] = bases[cell] + high;
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
        let (tables, low) = (interleave([bytes]), [query.bases[cell] + bytes.high; BLOCK]);
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
                let bounds = levels.bounds(&sums[0][b - run], bytes.step, &low);
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
        let product = query.bases[cell] + codes.shape.sum(block, i as usize, tables);
        let score = scored(codes, block, i as usize, product);
        query.top.offer(score, row, |position| codes.labels.row(position));
    }
}

/// The score of the row at place `i` of a block.
fn scored(codes: &CodesRef<'_>, block: &[u8], i: usize, mut product: f32) -> f32 {
    if !codes.factors.is_empty() {
        product *= codes.factors[usize::from(codes.shape.side(block, 0, i))];
    }
    score(codes.squared, codes.gains[gain_code(codes, block, i)], 1.0, product)
}

#[inline(always)]
fn gain_code(codes: &CodesRef<'_>, block: &[u8], i: usize) -> usize {
    codes.shape.gain_code(block, usize::from(!codes.factors.is_empty()), i)
}

/// What a block's factors and gains make of sums: `scale * s - less`.
struct Levels {
    factors: [f32; 16],
    scale: [f32; BLOCK],
    less: [f32; BLOCK],
}

impl Levels {
    fn new(codes: &CodesRef<'_>) -> Levels {
        let mut factors = [1.0; 16];
        factors[..codes.factors.len()].copy_from_slice(codes.factors);
        Levels { factors, scale: [1.0; BLOCK], less: [0.0; BLOCK] }
    }

    #[inline(always)]
    fn read(&mut self, codes: &CodesRef<'_>, block: &[u8]) {
        let with_factor = !codes.factors.is_empty();
        if with_factor {
            let side: [u8; 16] = std::array::from_fn(|i| block[codes.shape.side_at() + i]);
            for i in 0..16 {
                self.scale[i] = self.factors[usize::from(side[i] & 15)];
                self.scale[16 + i] = self.factors[usize::from(side[i] >> 4)];
            }
        }
        if codes.shape.side_nibbles > usize::from(with_factor) {
            for i in 0..BLOCK {
                let factor = if with_factor { self.scale[i] } else { 1.0 };
                let gain = codes.gains[gain_code(codes, block, i)];
                let less;
                (self.scale[i], less) = scale_and_less(codes.squared, gain, factor);
                // A little less, as what is bounded is rounded on its way.
                self.less[i] = less * (1.0 - 1e-6);
            }
        }
    }

    /// What no row's score is above.
    #[inline(always)]
    fn bounds(&self, sums: &Sums, step: f32, lows: &[f32; BLOCK]) -> [f32; BLOCK] {
        let mut out = [0.0; BLOCK];
        for i in 0..BLOCK {
            out[i] = (f32::from(sums[i]) * step + lows[i]) * self.scale[i] - self.less[i];
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        math::{rng::Random, topk::TopK},
        ops::cpu::{scan::ByteTables, simd::Level},
    };

    /// A step more and rounding could lose a row; a step less and rows are scored in vain.
    #[test]
    fn needs_are_one_to_two_steps_below_what_divides_out() {
        let mut random = Random::new(1, 7);
        let inverse: [f32; 16] = std::array::from_fn(|f| 1.0 / (0.5 + 0.0625 * f as f32));
        for _ in 0..500 {
            let tables: Vec<f32> = (0..16 * 5).map(|_| random.normal()).collect();
            let bytes = ByteTables::new(Level::Portable, &tables, 16, 255, 4.0);
            let bases = [random.normal()];
            let (low, step) = (f64::from(bases[0] + bytes.high), f64::from(bytes.step));
            let threshold = (low + step * 1275.0 * random.uniform()) as f32;
            let query = Query { tables: &tables, bases: &bases, bytes: vec![bytes], top: TopK::above(1, threshold) };
            for (need, inverse) in needs_of(&query, 0, 0, &inverse).into_iter().zip(inverse) {
                let exact = (f64::from(threshold) * f64::from(inverse) - low) / step;
                let range = (exact - 2.01).max(0.0)..=(exact - 0.99).max(0.0);
                assert!(range.contains(&need.into()), "{need} where {exact} divides out");
            }
        }
    }
}
