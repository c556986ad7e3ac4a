//! The rows of a store that are not deleted, in the order of their numbers: where their codes are.

use std::collections::VecDeque;

use crate::format::{Parsed, Segment, Walk};

/// Rows looked for together, at least.
const PART: u64 = 4096;

/// Where a row's code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The row's number.
    pub(crate) row: u64,
    pub(crate) segment: usize,
    /// Its anchor.
    pub(crate) cell: usize,
    /// Its position in the segment.
    pub(crate) position: u64,
}

/// A bit for each of `n` positions, set for those in `positions`.
#[derive(Debug)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn new(n: u64, positions: &[u64]) -> Bits {
        let mut words = vec![0; if positions.is_empty() { 0 } else { n.div_ceil(64) as usize }];
        positions.iter().for_each(|p| words[(p / 64) as usize] |= 1 << (p % 64));
        Bits(words)
    }

    pub(crate) fn has(&self, position: u64) -> bool {
        self.0.get((position / 64) as usize).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }
}

/// Walks over the live rows of a store.
pub(crate) struct Live<'a> {
    parsed: &'a Parsed,
    bytes: &'a [u8],
    segment: usize,
    walk: Option<(Walk<'a>, Bits)>,
    /// The next row of the segment that has not been looked for, counted from its first.
    next: u64,
    found: VecDeque<Place>,
}

impl<'a> Live<'a> {
    /// Starts with live row number `rank`, counted from 0. O(cells), and O(rows before it in its segment) where rows are missing.
    pub(crate) fn new(parsed: &'a Parsed, bytes: &'a [u8], mut rank: u64) -> Live<'a> {
        let mut live = Live { parsed, bytes, segment: 0, walk: None, next: 0, found: VecDeque::new() };
        while let Some(segment) = parsed.segments.get(live.segment).filter(|s| s.live() <= rank) {
            rank -= segment.live();
            live.segment += 1;
        }
        let whole = |s: &Segment| s.live() == s.span;
        if parsed.segments.get(live.segment).is_some_and(whole) {
            live.next = rank;
        } else {
            live.take(rank as usize);
        }
        live
    }

    /// The next `count` rows, fewer at the end.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Place> {
        while self.found.len() < count {
            let Some(segment) = self.parsed.segments.get(self.segment) else { break };
            if self.next >= segment.span {
                (self.segment, self.next, self.walk) = (self.segment + 1, 0, None);
                continue;
            }
            self.look(segment, (count - self.found.len()) as u64);
        }
        self.found.drain(..count.min(self.found.len())).collect()
    }

    /// Finds the rows among the next numbers of a segment.
    fn look(&mut self, segment: &'a Segment, wanted: u64) {
        let (mut from, number) = (self.next, self.segment);
        let (walk, dead) = self.walk.get_or_insert_with(|| {
            let dead = Bits::new(segment.n, &segment.deleted_positions(self.bytes));
            (Walk::new(segment.row_ids(self.bytes), from), dead)
        });
        // Of the numbers of a segment most may be missing.
        from = from.max(walk.next_row().unwrap_or(segment.span)).min(segment.span);
        let end = (from + wanted.max(PART)).min(segment.span);
        let mut places = vec![None; (end - from) as usize];
        walk.until(end, |row, cell, position| {
            // A damaged file may give rows that are passed.
            let slot = row.checked_sub(from).and_then(|at| places.get_mut(at as usize));
            if let Some(slot) = slot.filter(|_| !dead.has(position)) {
                *slot = Some(Place { row: segment.first + row, segment: number, cell, position });
            }
        });
        self.found.extend(places.into_iter().flatten());
        self.next = end;
    }
}
