//! Which rows a filtered search may return.

use std::ops::Range;

use rayon::prelude::*;

use crate::format::rows::BLOCK;

/// The positions (places in the codes, see docs/format.md section 8) that a search may return.
#[derive(Debug)]
pub(crate) struct Allowed {
    words: Vec<u32>,
    /// Of each cell: how many are allowed before its first position; then of all.
    before: Vec<u64>,
}

#[allow(dead_code, reason = "who makes one is above the seam, and of the backends some ask more than others")]
impl Allowed {
    /// Bit `p % 32` of word `p / 32` says whether position p may be returned: a word is a block. `cells` as in
    /// [`RowIds`](crate::format::row_ids::RowIds): the first position of each cell, then n. Words that are missing allow nothing, what is
    /// behind n is ignored. O(n / 32 + cells).
    pub(crate) fn new(mut words: Vec<u32>, cells: &[u64]) -> Allowed {
        let n = cells.last().copied().unwrap_or(0);
        words.resize(n.div_ceil(BLOCK as u64) as usize, 0);
        if let Some(last) = words.last_mut() {
            *last &= u32::MAX >> (n.wrapping_neg() % BLOCK as u64);
        }
        let (mut at, mut passed) = (0, 0);
        let before = cells.iter().map(|&cell| {
            let block = (cell / BLOCK as u64) as usize;
            passed += words[at..block].iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
            at = block;
            let below = (1u32 << (cell % BLOCK as u64)) - 1;
            passed + words.get(block).map_or(0, |word| u64::from((word & below).count_ones()))
        });
        let before = before.collect();
        Allowed { words, before }
    }

    /// All positions that are allowed.
    pub(crate) fn count(&self) -> u64 {
        self.before.last().copied().unwrap_or(0)
    }

    /// Those of a cell.
    pub(crate) fn in_cell(&self, cell: usize) -> u64 {
        self.before[cell + 1] - self.before[cell]
    }

    /// A bit for each position, a word for each block; no bits behind n.
    pub(crate) fn words(&self) -> &[u32] {
        &self.words
    }

    /// Of these blocks those that hold an allowed position: the number of each, from the first on, and its word.
    pub(crate) fn chosen(&self, blocks: Range<usize>) -> Vec<[u32; 2]> {
        let words = self.words[blocks].par_iter().enumerate().filter(|(_, word)| **word != 0);
        words.map(|(block, &word)| [block as u32, word]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_counted_by_cell() {
        let cells = [0, 3, 3, 40, 64, 70];
        for all in [0usize, 1, 2, 3, 5, 31, 64, 69, 70] {
            let bit = |p: u64| p * 29 % 70 < all as u64;
            let words: Vec<u32> =
                (0..3).map(|w| (0..32).fold(0, |word, i| word | u32::from(bit(w * 32 + i)) << i)).collect();
            let allowed = Allowed::new(words, &cells);
            for (cell, bounds) in cells.windows(2).enumerate() {
                let expected = (bounds[0]..bounds[1]).filter(|&p| bit(p)).count();
                assert_eq!(allowed.in_cell(cell), expected as u64, "cell {cell}, {all} in all");
            }
            assert_eq!(allowed.count(), all as u64);
            assert_eq!(allowed.words().iter().map(|word| word.count_ones()).sum::<u32>(), all as u32);
        }
    }

    #[test]
    fn what_is_behind_the_rows_is_ignored() {
        for n in [1u64, 31, 32, 33, 64] {
            let allowed = Allowed::new(vec![u32::MAX; 5], &[0, n]);
            assert_eq!((allowed.count(), allowed.words().len() as u64), (n, n.div_ceil(32)));
            assert_eq!(Allowed::new(vec![], &[0, n]).count(), 0);
        }
        assert_eq!(Allowed::new(vec![u32::MAX], &[0]).count(), 0);
    }

    #[test]
    fn blocks_without_an_allowed_position_are_left_out() {
        let allowed = Allowed::new(vec![1, 0, 6, 0, 0, 8, 9], &[0, 224]);
        assert_eq!(allowed.chosen(0..7), [[0, 1], [2, 6], [5, 8], [6, 9]]);
        assert_eq!(allowed.chosen(1..6), [[1, 6], [4, 8]]);
        assert_eq!(allowed.chosen(3..5), [[0; 2]; 0]);
    }
}
