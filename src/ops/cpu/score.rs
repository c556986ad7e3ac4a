//! Exhaustive search over codes: every row's score from per-query tables, the best k kept.

use rayon::prelude::*;

use crate::{
    CodeKind, Mat,
    format::BLOCK,
    ops::{CodesRef, ScoreTables},
    search::{Neighbors, TopK},
};

pub(super) fn score(codes: &CodesRef<'_>, queries: &ScoreTables, k: usize) -> Neighbors {
    let count = queries.tables.rows();
    let k = k.min(codes.labels.n as usize);
    let mut neighbors = Neighbors { ids: Mat::zeros(count, k), scores: Mat::zeros(count, k) };
    if k == 0 {
        return neighbors;
    }
    let one = |query: usize, ids: &mut [u64], scores: &mut [f32]| {
        let best = scan(codes, queries.tables.row(query), queries.bases.row(query), k);
        for (i, (score, row)) in best.into_iter().enumerate() {
            (ids[i], scores[i]) = (row, score);
        }
    };
    let ids = neighbors.ids.as_mut_slice().par_chunks_mut(k);
    let scores = neighbors.scores.as_mut_slice().par_chunks_mut(k);
    ids.zip(scores).enumerate().for_each(|(query, (ids, scores))| one(query, ids, scores));
    neighbors
}

/// One query over all blocks.
fn scan(codes: &CodesRef<'_>, tables: &[f32], bases: &[f32], k: usize) -> Vec<(f32, u64)> {
    let per_chart = codes.shape.symbols * codes.alphabet;
    let mut top = TopK::new(k);
    let mut cell = 0;
    let (mut sums, mut scores) = ([0f32; BLOCK], [0f32; BLOCK]);
    let cells = codes.labels.cells;
    let bytes = codes.shape.bytes();
    for b in 0..(codes.labels.n as usize).div_ceil(BLOCK) {
        // A code of no symbols and no side nibbles has blocks of no bytes.
        let block = &codes.blocks[b * bytes..(b + 1) * bytes];
        let first = (b * BLOCK) as u64;
        let last = (first + BLOCK as u64).min(codes.labels.n);
        let mut summed = None;
        let mut at = first;
        // A block may hold the end of one cell and the start of others.
        while at < last {
            while cells[cell + 1] <= at {
                cell += 1;
            }
            let until = cells[cell + 1].min(last);
            let chart = usize::from(codes.anchor_chart[cell]);
            if summed != Some(chart) {
                sums = block_sums(codes, block, &tables[chart * per_chart..(chart + 1) * per_chart]);
                summed = Some(chart);
            }
            for i in (at - first) as usize..(until - first) as usize {
                scores[i] = bases[cell] + sums[i];
            }
            at = until;
        }
        finish(codes, block, &mut scores);
        for (i, &score) in scores[..(last - first) as usize].iter().enumerate() {
            top.offer(score, first + i as u64, |position| codes.labels.row(position));
        }
    }
    top.into_sorted()
}

/// Sum of the tables' entries for each place of a block.
fn block_sums(codes: &CodesRef<'_>, block: &[u8], tables: &[f32]) -> [f32; BLOCK] {
    let mut sums = [0f32; BLOCK];
    match codes.shape.kind {
        CodeKind::Chain => {
            let (low, high) = sums.split_at_mut(BLOCK / 2);
            for (plane, table) in block.chunks_exact(16).zip(tables.chunks_exact(16)) {
                for i in 0..16 {
                    low[i] += table[usize::from(plane[i] & 15)];
                    high[i] += table[usize::from(plane[i] >> 4)];
                }
            }
        }
        CodeKind::Pq8 => {
            for (plane, table) in block.chunks_exact(BLOCK).zip(tables.chunks_exact(256)) {
                for (sum, &c) in sums.iter_mut().zip(plane) {
                    *sum += table[usize::from(c)];
                }
            }
        }
    }
    sums
}

/// Applies each row's factor and gain.
fn finish(codes: &CodesRef<'_>, block: &[u8], scores: &mut [f32; BLOCK]) {
    let with_factor = usize::from(!codes.factors.is_empty());
    for (i, score) in scores.iter_mut().enumerate() {
        if with_factor == 1 {
            *score *= codes.factors[usize::from(codes.shape.side(block, 0, i))];
        }
        let mut gain_code = 0;
        for s in (with_factor..codes.shape.side_nibbles).rev() {
            gain_code = gain_code << 4 | usize::from(codes.shape.side(block, s, i));
        }
        let gain = codes.gains[gain_code];
        *score = if codes.squared { 2.0 * gain * *score - gain * gain } else { gain * *score };
    }
}
