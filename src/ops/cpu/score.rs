//! Search over codes: byte tables bound every row's score from above, the rows whose bound reaches the best so far are
//! scored in f32, the best k kept. The answer is that of scoring every row in f32, ties included.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    blocks::{Likely, Piece, score_at},
    query::{Query, Scan},
    scan::{Kernel, MOST_QUERIES, sums::RUN},
    simd::Level,
};
use crate::{
    format::rows::BLOCK,
    math::topk::TopK,
    matrix::Mat,
    neighbors::Neighbors,
    ops::{
        allowed::Allowed,
        types::{CodesRef, ScoreTables},
    },
};

/// Queries of a unit of parallel work.
const CHUNK: usize = 32;
/// Bytes of codes that stay in cache while the groups of a chunk pass over them.
const TILE: usize = 512 << 10;
/// Rows of a part of the codes, where there are more threads than queries.
const PART: u64 = if cfg!(test) { 1 << 11 } else { 1 << 17 };
/// Rows that are scanned first, those of the best cells, for a threshold that keeps most others out: at least this many.
const SEED: u64 = 256;
/// Best cells scanned first at most.
const SEED_CELLS: usize = 16;

/// `backwards` scans from the last row to the first: a scan that turns round where the last one ended finds the codes it passed
/// there still in cache.
pub(super) fn score(
    level: Level,
    codes: &CodesRef<'_>,
    queries: &ScoreTables,
    k: usize,
    backwards: bool,
) -> Neighbors {
    let count = queries.tables.rows();
    let n = codes.labels.n;
    let k = k.min(queries.rows(n) as usize);
    let mut neighbors = Neighbors { ids: Mat::zeros(count, k), scores: Mat::zeros(count, k) };
    if k == 0 || count == 0 {
        return neighbors;
    }
    let allowed = queries.allowed.as_deref();
    let scan = Scan { level, kernel: Kernel::of(level), codes, pieces: pieces(codes), allowed, backwards };
    let threads = rayon::current_num_threads();
    // Of a probing query others share only a part.
    let most = if queries.reach.is_some() { 8 * CHUNK } else { CHUNK };
    let chunk = count.div_ceil(threads).next_multiple_of(MOST_QUERIES).min(most);
    let chunks: Vec<usize> = (0..count).step_by(chunk).collect();
    let parts = match queries.reach {
        None => (threads / chunks.len()).clamp(1, n.div_ceil(PART) as usize) as u64,
        Some(_) => 1,
    };
    let jobs: Vec<(usize, u64)> = chunks.iter().flat_map(|&c| (0..parts).map(move |p| (c, p))).collect();
    let found: Vec<Vec<TopK>> = jobs
        .into_par_iter()
        .map(|(first, part)| {
            // Whole blocks in every part.
            let at = |part: u64| (n * part / parts).next_multiple_of(BLOCK as u64).min(n);
            let (from, to) = (at(part), if part + 1 == parts { n } else { at(part + 1) });
            let members = first..(first + chunk).min(count);
            let members: Vec<Query<'_>> = members.map(|q| Query::new(&scan, queries, q, k)).collect();
            scan.all(members, queries, first, from, to)
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

/// Splits into groups of `most` (a power of two), then of lesser powers of two.
fn groups<T>(mut items: &mut [T], mut most: usize) -> impl Iterator<Item = &mut [T]> {
    std::iter::from_fn(move || {
        while most > items.len() && most > 1 {
            most /= 2;
        }
        let (group, rest) = std::mem::take(&mut items).split_at_mut_checked(most)?;
        items = rest;
        Some(group)
    })
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

impl<'a> Scan<'a> {
    /// Scans the positions `from..to` for all queries, those of `tables` from `first` on.
    fn all(&self, mut queries: Vec<Query<'a>>, tables: &ScoreTables, first: usize, from: u64, to: u64) -> Vec<TopK> {
        if let Some(most) = tables.reach {
            self.probe(&mut queries, tables, first, most);
            return queries.into_iter().map(|q| q.top).collect();
        }
        queries.iter_mut().for_each(|query| self.seed(query, SEED_CELLS));
        let mut numbers: Vec<usize> = (0..queries.len()).collect();
        let rows = (TILE / self.codes.shape.bytes().max(1)).max(RUN).next_multiple_of(RUN) * BLOCK;
        let tiles = (to - from).div_ceil(rows as u64);
        for t in 0..tiles {
            let tile = from + rows as u64 * if self.backwards { tiles - 1 - t } else { t };
            let end = (tile + rows as u64).min(to);
            for group in groups(&mut numbers, self.kernel.queries()) {
                self.several(&mut queries, group, tile, end);
            }
        }
        queries.into_iter().map(|q| q.top).collect()
    }

    /// Scans for every query the `most` cells of highest anchors, more where these hold fewer than k rows. Cell after cell, so
    /// that queries share those they have in common.
    fn probe(&self, queries: &mut [Query<'a>], tables: &ScoreTables, first: usize, most: usize) {
        let cells = self.codes.labels.cells;
        let mut askers: Vec<Vec<usize>> = vec![Vec::new(); cells.len() - 1];
        for (q, query) in queries.iter_mut().enumerate() {
            for cell in tables.looked_at(first + q, cells, most, query.top.k()) {
                askers[cell].push(q);
            }
            self.seed(query, most);
        }
        for (bounds, askers) in cells.windows(2).zip(&mut askers) {
            for group in groups(askers, self.kernel.queries()) {
                self.several(queries, group, bounds[0], bounds[1]);
            }
        }
    }

    /// Scans the positions `from..to` for the queries of these numbers, which are a power of two up to eight.
    fn several(&self, queries: &mut [Query<'a>], numbers: &[usize], from: u64, to: u64) {
        match *numbers {
            [a, b, c, d, e, f, g, h] => {
                if let Ok(group) = queries.get_disjoint_mut([a, b, c, d, e, f, g, h]) {
                    self.range(group, from, to);
                }
            }
            [a, b, c, d] => {
                if let Ok(group) = queries.get_disjoint_mut([a, b, c, d]) {
                    self.range(group, from, to);
                }
            }
            [a, b] => {
                if let Ok(group) = queries.get_disjoint_mut([a, b]) {
                    self.range(group, from, to);
                }
            }
            _ => numbers.iter().for_each(|&a| self.range([&mut queries[a]], from, to)),
        }
    }

    /// Scores the k likeliest rows of the best cells, `most` of them at most; the worst of them bounds the k-th best score from
    /// below.
    fn seed(&self, query: &mut Query<'a>, most: usize) {
        let (cells, k) = (self.codes.labels.cells, query.top.k());
        let size = |cell: usize| self.allowed.map_or(cells[cell + 1] - cells[cell], |a| a.in_cell(cell));
        let wanted = SEED.max(4 * k as u64);
        if self.allowed.map_or(self.codes.labels.n, Allowed::count) < 16 * wanted {
            return;
        }
        let mut best = [(f32::NEG_INFINITY, usize::MAX); SEED_CELLS];
        for (cell, &base) in query.bases.iter().enumerate() {
            // In the order that probing takes them, so that no cell left out by it sets the threshold.
            if base.total_cmp(&best[SEED_CELLS - 1].0).is_gt() && size(cell) > 0 {
                let at = best.partition_point(|b| b.0.total_cmp(&base).is_ge());
                best[at..].rotate_right(1);
                best[at] = (base, cell);
            }
        }
        let (mut rows, mut likely) = (0, TopK::new(k));
        for (_, cell) in best.into_iter().take(most).take_while(|b| b.1 != usize::MAX) {
            if rows >= wanted {
                break;
            }
            self.level.run(Likely { scan: self, query, cell, most: 2 * wanted, top: &mut likely });
            rows += size(cell);
        }
        let likely = likely.into_sorted();
        let mut worst = if likely.len() == k { f32::INFINITY } else { f32::NEG_INFINITY };
        for (_, position) in likely {
            let score = score_at(self.codes, query, position);
            worst = if score >= worst { worst } else { score };
        }
        // What is no number would let nothing in.
        query.top = TopK::above(k, if worst.is_nan() { f32::NEG_INFINITY } else { worst });
    }

    /// Of some blocks the first that stand together and have rows to look at, `most` of them at most; empty where there are none.
    #[inline(always)]
    pub(super) fn run(&self, blocks: Range<usize>, most: usize) -> Range<usize> {
        let Some(allowed) = self.allowed else {
            return blocks.start..blocks.end.min(blocks.start + most);
        };
        let words = &allowed.words()[blocks.clone()];
        let skipped = words.iter().position(|word| *word != 0).unwrap_or(words.len());
        let length = words[skipped..].iter().take(most).take_while(|word| **word != 0).count();
        blocks.start + skipped..blocks.start + skipped + length
    }

    /// Which places of a block may be found.
    #[inline(always)]
    pub(super) fn places(&self, block: usize) -> u32 {
        self.allowed.map_or(u32::MAX, |allowed| allowed.words()[block])
    }

    /// Scans the positions `from..to` for Q queries.
    fn range<const Q: usize>(&self, mut queries: [&mut Query<'a>; Q], from: u64, to: u64) {
        let first = self.pieces.partition_point(|piece| piece.1 <= from);
        for &(start, end, chart) in self.pieces[first..].iter().take_while(|piece| piece.0 < to) {
            let (from, to) = (from.max(start), to.min(end));
            let piece = Piece { scan: self, queries: &mut queries, from, to, chart };
            if !self.run(piece.blocks(), 1).is_empty() {
                self.level.run(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_powers_of_two() {
        let sizes = |n: usize, most: usize| groups(&mut vec![0; n], most).map(|g| g.len()).collect::<Vec<_>>();
        assert_eq!(sizes(23, 8), [8, 8, 4, 2, 1]);
        assert_eq!(sizes(3, 1), [1, 1, 1]);
        assert_eq!(sizes(0, 8), []);
    }
}
