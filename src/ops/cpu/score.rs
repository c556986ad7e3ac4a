//! Search over codes: byte tables bound every row's score from above, the rows whose bound reaches the best so far are
//! scored in f32, the best k kept. The answer is that of scoring every row in f32, ties included.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    scan::{ByteTables, Kernel, RUN, Sums},
    simd::Level,
};
use crate::{
    CodeKind, Mat,
    format::BLOCK,
    ops::{CodesRef, ScoreTables},
    probe::{Reach, Scale, Spread},
    search::{Neighbors, TopK},
};

/// Queries that are scanned together: they share the unpacking of codes.
const GROUP: usize = 4;
/// Queries of a unit of parallel work.
const CHUNK: usize = 32;
/// Bytes of codes that stay in cache while the groups of a chunk pass over them.
const TILE: usize = 512 << 10;
/// Rows of a part of the codes, where there are more threads than queries.
const PART: u64 = 1 << 17;
/// Rows that are scanned first, those of the best cells, for a threshold that keeps most others out: at least this many.
const SEED: u64 = 256;
/// Best cells scanned first at most.
const SEED_CELLS: usize = 16;

pub(super) fn score(level: Level, codes: &CodesRef<'_>, queries: &ScoreTables, k: usize) -> Neighbors {
    let count = queries.tables.rows();
    let n = codes.labels.n;
    let k = k.min(n as usize);
    let mut neighbors = Neighbors { ids: Mat::zeros(count, k), scores: Mat::zeros(count, k) };
    if k == 0 || count == 0 {
        return neighbors;
    }
    let scan = Scan { level, kernel: Kernel::of(level), codes, pieces: pieces(codes) };
    let threads = rayon::current_num_threads();
    let chunk = count.div_ceil(threads).next_multiple_of(GROUP).min(CHUNK);
    let chunks: Vec<usize> = (0..count).step_by(chunk).collect();
    let parts = match queries.reach {
        Reach::All => (threads / chunks.len()).clamp(1, n.div_ceil(PART) as usize) as u64,
        _ => 1,
    };
    let jobs: Vec<(usize, u64)> = chunks.iter().flat_map(|&c| (0..parts).map(move |p| (c, p))).collect();
    let found: Vec<Vec<TopK>> = jobs
        .into_par_iter()
        .map(|(first, part)| {
            // Whole blocks in every part.
            let at = |part: u64| (n * part / parts).next_multiple_of(BLOCK as u64).min(n);
            let (from, to) = (at(part), if part + 1 == parts { n } else { at(part + 1) });
            let members = first..(first + chunk).min(count);
            scan.all(members.map(|q| Query::new(codes, queries, q, k)).collect(), queries.reach, from, to)
        })
        .collect();
    for (job, tops) in found.chunks(parts as usize).enumerate() {
        for q in 0..tops[0].len() {
            let row = chunks[job] + q;
            let merged = tops.iter().map(|part| &part[q]).fold(TopK::new(k), TopK::merge);
            for (i, (score, id)) in merged.into_sorted().into_iter().enumerate() {
                (neighbors.ids.row_mut(row)[i], neighbors.scores.row_mut(row)[i]) = (id, score);
            }
        }
    }
    neighbors
}

/// A query with what it has found.
struct Query<'a> {
    tables: &'a [f32],
    bases: &'a [f32],
    /// Of each chart.
    bytes: Vec<ByteTables>,
    top: TopK,
    /// Whether only a threshold is looked for.
    seeding: bool,
}

impl<'a> Query<'a> {
    fn new(codes: &CodesRef<'_>, queries: &'a ScoreTables, q: usize, k: usize) -> Query<'a> {
        let (tables, bases) = (queries.tables.row(q), queries.bases.row(q));
        let largest = bases.iter().fold(0f32, |m, b| m.max(b.abs()));
        let charts = usize::from(codes.anchor_chart.iter().copied().max().unwrap_or(0)) + 1;
        let per_chart = codes.shape.symbols * codes.alphabet;
        let of_chart =
            |g: usize| ByteTables::new(&tables[g * per_chart..(g + 1) * per_chart], codes.alphabet, largest);
        Query { tables, bases, bytes: (0..charts).map(of_chart).collect(), top: TopK::new(k), seeding: false }
    }
}

/// A float in its total order.
#[derive(PartialEq)]
struct Ordered(f32);

impl Eq for Ordered {}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Ranges of positions whose cells share a chart: first position, end, chart.
fn pieces(codes: &CodesRef<'_>) -> Vec<(u64, u64, usize)> {
    let mut out: Vec<(u64, u64, usize)> = Vec::new();
    for (bounds, &chart) in codes.labels.cells.windows(2).zip(codes.anchor_chart) {
        let chart = usize::from(chart);
        match out.last_mut() {
            Some(last) if last.2 == chart || bounds[0] == bounds[1] => last.1 = bounds[1],
            _ => out.push((bounds[0], bounds[1], chart)),
        }
    }
    out
}

struct Scan<'a> {
    level: Level,
    kernel: Kernel,
    codes: &'a CodesRef<'a>,
    pieces: Vec<(u64, u64, usize)>,
}

impl<'a> Scan<'a> {
    /// Scans the positions `from..to` for all queries.
    fn all(&self, mut queries: Vec<Query<'a>>, reach: Reach, from: u64, to: u64) -> Vec<TopK> {
        if reach != Reach::All {
            queries.iter_mut().for_each(|query| self.probe(query, reach));
            return queries.into_iter().map(|q| q.top).collect();
        }
        for query in &mut queries {
            self.seed(query);
        }
        let rows = (TILE / self.codes.shape.bytes().max(1)).max(RUN).next_multiple_of(RUN) * BLOCK;
        for tile in (from..to).step_by(rows) {
            let end = (tile + rows as u64).min(to);
            for group in queries.chunks_mut(GROUP) {
                match group {
                    [a, b, c, d] => self.range([a, b, c, d], tile, end),
                    [a, b, c] => self.range([a, b, c], tile, end),
                    [a, b] => self.range([a, b], tile, end),
                    rest => rest.iter_mut().for_each(|a| self.range([a], tile, end)),
                }
            }
        }
        queries.into_iter().map(|q| q.top).collect()
    }

    /// Scans the cells within reach, those of the highest anchors first.
    fn probe(&self, query: &mut Query<'a>, reach: Reach) {
        let codes = self.codes;
        let per_chart = codes.shape.symbols * codes.alphabet;
        let scale = Scale::new(codes.factors, codes.gains, codes.squared);
        let spreads: Vec<Spread> = (0..query.bytes.len())
            .map(|g| Spread::new(&query.tables[g * per_chart..(g + 1) * per_chart], codes.alphabet))
            .collect();
        let spread = |cell: usize| spreads[usize::from(codes.anchor_chart[cell])];
        let cells = codes.labels.cells;
        let mut ranked: BinaryHeap<(Ordered, Reverse<usize>)> = (0..query.bases.len())
            .filter(|&cell| cells[cell] < cells[cell + 1])
            .map(|cell| (Ordered(query.bases[cell] + spread(cell).mean), Reverse(cell)))
            .collect();
        let (mut probed, mut rows) = (0, 0);
        while let Some((_, Reverse(cell))) = ranked.pop() {
            let within = match reach {
                Reach::All => true,
                Reach::Cells(most) => probed < most,
                Reach::Margin(margin) => {
                    let needed = scale.needed(query.top.threshold());
                    let distance = spread(cell).distance(needed, query.bases[cell]);
                    // What is not a number says nothing against the cell.
                    distance <= margin || distance.is_nan()
                }
            };
            if !within && rows >= query.top.k() as u64 {
                // Another chart's cells may spread more.
                match spreads.len() {
                    1 => break,
                    _ => continue,
                }
            }
            self.range([query], cells[cell], cells[cell + 1]);
            probed += 1;
            rows += cells[cell + 1] - cells[cell];
        }
    }

    /// Finds the k-th best score among the rows of the best cells, which bounds that of all rows from below.
    fn seed(&self, query: &mut Query<'a>) {
        let (cells, k) = (self.codes.labels.cells, query.top.k());
        let wanted = SEED.max(4 * k as u64);
        if self.codes.labels.n < 16 * wanted {
            return;
        }
        let mut best = [(f32::NEG_INFINITY, usize::MAX); SEED_CELLS];
        for (cell, &base) in query.bases.iter().enumerate() {
            if base > best[SEED_CELLS - 1].0 && cells[cell] < cells[cell + 1] {
                let at = best.partition_point(|b| b.0 >= base);
                best[at..].rotate_right(1);
                best[at] = (base, cell);
            }
        }
        let mut rows = 0;
        query.seeding = true;
        for (_, cell) in best.into_iter().take_while(|b| b.1 != usize::MAX) {
            if rows >= wanted {
                break;
            }
            self.range([query], cells[cell], cells[cell + 1]);
            rows += cells[cell + 1] - cells[cell];
        }
        query.seeding = false;
        query.top = TopK::above(k, query.top.threshold());
    }

    /// Scans the positions `from..to` for Q queries.
    fn range<const Q: usize>(&self, mut queries: [&mut Query<'a>; Q], from: u64, to: u64) {
        let first = self.pieces.partition_point(|piece| piece.1 <= from);
        for &(start, end, chart) in self.pieces[first..].iter().take_while(|piece| piece.0 < to) {
            let (from, to) = (from.max(start), to.min(end));
            self.level.run(Piece { scan: self, queries: &mut queries, from, to, chart });
        }
    }
}

/// Positions of one chart and the queries that look at them.
struct Piece<'s, 'q, 'a, const Q: usize> {
    scan: &'s Scan<'a>,
    queries: &'s mut [&'q mut Query<'a>; Q],
    from: u64,
    to: u64,
    chart: usize,
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
    rows: std::ops::Range<u64>,
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
    rows: std::ops::Range<u64>,
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
