//! The k best of a stream of scores.

use std::{cmp::Ordering, collections::BinaryHeap};

/// A candidate; the greatest is the worst, so that a heap of them gives up its worst first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    score: f32,
    row: u64,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The k largest scores of a stream; of equal ones those of lower rows. O(log k) for a score that enters.
#[derive(Debug)]
pub(crate) struct TopK {
    k: usize,
    heap: BinaryHeap<Candidate>,
    threshold: f32,
}

impl TopK {
    pub(crate) fn new(k: usize) -> Self {
        TopK { k, heap: BinaryHeap::with_capacity(k.min(1 << 16) + 1), threshold: f32::NEG_INFINITY }
    }

    /// The same for scores of at least `floor`, which the k-th largest is known to reach.
    pub(crate) fn above(k: usize, floor: f32) -> Self {
        TopK { threshold: floor, ..TopK::new(k) }
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// What a score must reach to enter.
    #[inline]
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// The k largest of both.
    pub(crate) fn merge(mut self, other: &TopK) -> TopK {
        other.heap.iter().for_each(|c| self.offer(c.score, c.row, |row| row));
        self
    }

    /// Offers the score at `place`; `row_of` turns a place into its row and is only asked for scores that may enter.
    #[inline]
    pub(crate) fn offer(&mut self, score: f32, place: u64, row_of: impl Fn(u64) -> u64) {
        // Not a number only where lengths near the largest float cancel: then it is the farthest.
        let score = if score.is_nan() { f32::NEG_INFINITY } else { score };
        if score < self.threshold || self.k == 0 {
            return;
        }
        // Adding zero makes -0 equal +0 in the total order, as they are in value.
        let entering = Candidate { score: score + 0.0, row: row_of(place) };
        if self.heap.len() < self.k {
            self.heap.push(entering);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && entering < *worst
        {
            *worst = entering;
        }
        if self.heap.len() == self.k {
            self.threshold = self.heap.peek().map_or(f32::NEG_INFINITY, |worst| worst.score);
        }
    }

    /// Offers the scores of the places from `first` on. Most are passed by, a block of them at a time.
    pub(crate) fn offer_all(&mut self, scores: &[f32], first: u64, row_of: impl Fn(u64) -> u64) {
        const BLOCK: usize = 32;
        for (b, block) in scores.chunks(BLOCK).enumerate() {
            let most = block.iter().fold(f32::NEG_INFINITY, |m, &s| if s > m { s } else { m });
            if most >= self.threshold {
                for (i, &score) in block.iter().enumerate() {
                    self.offer(score, first + (b * BLOCK + i) as u64, &row_of);
                }
            }
        }
    }

    /// Scores and rows, best first.
    pub(crate) fn into_sorted(self) -> Vec<(f32, u64)> {
        self.heap.into_sorted_vec().into_iter().map(|c| (c.score, c.row)).collect()
    }
}
