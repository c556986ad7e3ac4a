//! Blocks of codes scored for a group of queries: bounds from byte tables, then the exact score of the rows that may enter.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{
    scan::{RUN, Sums},
    score::{Query, Scan},
};
use crate::{CodeKind, format::BLOCK, ops::CodesRef};

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
        let (shape, cells) = (codes.shape, codes.labels.cells);
        let stride = shape.bytes();
        let (mut sums, mut levels) = ([[[0; BLOCK]; RUN]; Q], Levels::new(codes));
        let mut cell = codes.labels.cell_of(self.from);
        let blocks = (self.from / BLOCK as u64) as usize..self.to.div_ceil(BLOCK as u64) as usize;
        for run in blocks.clone().step_by(RUN) {
            let end = (run + RUN).min(blocks.end);
            if shape.symbols > 0 {
                let tables = std::array::from_fn(|q| self.queries[q].bytes[self.chart].quads.as_slice());
                self.scan.kernel.sums(&codes.blocks[run * stride..end * stride], shape, tables, &mut sums);
            }
            for b in run..end {
                let block = &codes.blocks[b * stride..(b + 1) * stride];
                let first = (b * BLOCK) as u64;
                let rows = self.from.max(first)..self.to.min(first + BLOCK as u64);
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
                    offer(codes, block, query, self.chart, &bounds, rows.clone(), cell);
                }
            }
        }
    }
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

/// Scores the rows of a block whose bounds reach the threshold.
#[cold]
#[inline(never)]
fn offer(
    codes: &CodesRef<'_>,
    block: &[u8],
    query: &mut Query<'_>,
    chart: usize,
    bounds: &[f32; BLOCK],
    rows: Range<u64>,
    mut cell: usize,
) {
    let per_chart = codes.shape.symbols * codes.alphabet;
    let tables = &query.tables[chart * per_chart..(chart + 1) * per_chart];
    for row in rows {
        let i = row as usize % BLOCK;
        if bounds[i] < query.top.threshold() {
            continue;
        }
        while codes.labels.cells[cell + 1] <= row {
            cell += 1;
        }
        let score = exact(codes, block, i, tables, query.bases[cell]);
        // Only the threshold of the rows scanned first is wanted, which does not depend on their numbers.
        query.top.offer(score, row, |position| if query.seeding { position } else { codes.labels.row(position) });
    }
}

/// The score of one row.
fn exact(codes: &CodesRef<'_>, block: &[u8], i: usize, tables: &[f32], base: f32) -> f32 {
    let shape = codes.shape;
    let mut sum = 0f32;
    match shape.kind {
        CodeKind::Chain => {
            let shift = 4 * (i / 16);
            for (plane, table) in block.as_chunks::<16>().0.iter().zip(tables.as_chunks::<16>().0) {
                sum += table[usize::from(plane[i % 16] >> shift & 15)];
            }
        }
        CodeKind::Pq8 => {
            for (plane, table) in block.as_chunks::<BLOCK>().0.iter().zip(tables.as_chunks::<256>().0) {
                sum += table[usize::from(plane[i])];
            }
        }
    }
    let mut score = base + sum;
    let with_factor = usize::from(!codes.factors.is_empty());
    if with_factor == 1 {
        score *= codes.factors[usize::from(shape.side(block, 0, i))];
    }
    let gain = codes.gains[gain_code(codes, block, i)];
    if codes.squared { 2.0 * gain * score - gain * gain } else { gain * score }
}

#[inline(always)]
fn gain_code(codes: &CodesRef<'_>, block: &[u8], i: usize) -> usize {
    let mut code = 0;
    for s in (usize::from(!codes.factors.is_empty())..codes.shape.side_nibbles).rev() {
        code = code << 4 | usize::from(codes.shape.side(block, s, i));
    }
    code
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
                self.scale[i] = if codes.squared { 2.0 * gain * factor } else { gain * factor };
                // A little less, as what is bounded is rounded on its way.
                self.less[i] = if codes.squared { gain * gain * (1.0 - 1e-6) } else { 0.0 };
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
