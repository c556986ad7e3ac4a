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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::rng::Random;

    /// What a sort of everything gives.
    fn sorted(scores: &[f32], k: usize) -> Vec<(f32, u64)> {
        let known = |&score: &f32| if score.is_nan() { f32::NEG_INFINITY } else { score + 0.0 };
        let mut all: Vec<(f32, u64)> = scores.iter().map(known).zip(0..).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all.truncate(k);
        all
    }

    fn bits(found: Vec<(f32, u64)>) -> Vec<(u32, u64)> {
        found.into_iter().map(|(score, row)| (score.to_bits(), row)).collect()
    }

    /// Few different scores, so that ties are cut off; among them both zeros, infinities and what is no number.
    fn scores(random: &mut Random, n: usize) -> Vec<f32> {
        const SPECIAL: [f32; 5] = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        (0..n).map(|_| SPECIAL.get(random.below(9)).copied().unwrap_or(random.below(7) as f32 - 3.0)).collect()
    }

    #[test]
    fn the_best_of_a_stream_are_those_of_a_sort() {
        let mut random = Random::new(1, 71);
        for n in [0, 1, 2, 31, 32, 33, 100, 300] {
            for k in [0, 1, 2, 10, 99, 400] {
                let all = scores(&mut random, n);
                let expected = bits(sorted(&all, k));
                // One by one, and in any order of the rows.
                let mut order: Vec<usize> = (0..n).collect();
                random.shuffle(&mut order);
                let mut top = TopK::new(k);
                order.iter().for_each(|&row| top.offer(all[row], row as u64 + 5, |place| place - 5));
                assert_eq!(top.k(), k);
                let worst = if k > 0 && n >= k { f32::from_bits(expected[k - 1].0) } else { f32::NEG_INFINITY };
                assert_eq!(top.threshold().to_bits(), worst.to_bits(), "n = {n}, k = {k}");
                assert_eq!(bits(top.into_sorted()), expected, "n = {n}, k = {k}");
                // In blocks, and in two parts that are put together.
                let (front, back) = all.split_at(n / 3);
                let part = |scores: &[f32], first: usize| {
                    let mut top = TopK::new(k);
                    top.offer_all(scores, 100 + first as u64, |place| place - 100);
                    top
                };
                assert_eq!(bits(part(&all, 0).into_sorted()), expected, "n = {n}, k = {k}");
                let merged = part(front, 0).merge(&part(back, front.len()));
                assert_eq!(bits(merged.into_sorted()), expected, "n = {n}, k = {k}, merged");
            }
        }
    }

    #[test]
    fn what_is_below_the_floor_does_not_enter() {
        let mut top = TopK::above(3, 0.5);
        assert_eq!((top.threshold(), top.k()), (0.5, 3));
        for (row, score) in [0.25, 0.5, 0.75, 0.4].into_iter().enumerate() {
            let asked = std::cell::Cell::new(false);
            top.offer(score, row as u64, |row| {
                asked.set(true);
                row
            });
            assert_eq!(asked.get(), score >= 0.5, "a row is asked for where it may enter");
        }
        assert_eq!(top.into_sorted(), [(0.75, 2), (0.5, 1)]);
    }

    /// A block whose best does not reach the threshold is passed over.
    #[test]
    fn blocks_below_the_threshold_are_not_looked_at() {
        let mut top = TopK::above(1, 1.0);
        let looked = std::cell::Cell::new(0);
        let mut all = [0.5f32; 96];
        all[40] = 1.0;
        top.offer_all(&all, 0, |row| {
            looked.set(looked.get() + 1);
            row
        });
        assert_eq!((looked.get(), top.into_sorted()), (1, vec![(1.0, 40)]));
    }
}
