//! Which row is at a position, and at which position a row is (docs/format.md, section 8).

use std::convert::Infallible;

use super::elias_fano::{Cursor, Layout, Sequence};
use crate::error::ParseError;

/// Rows that [`RowIds::verify`] looks at together.
const PART: u64 = 1 << 20;
/// Numbers to a row from which on the rows are few enough to be sorted.
const SPARSE: u64 = 1 << 10;

/// The rows of every cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowIds<'a> {
    /// Positions.
    pub(crate) n: u64,
    /// Row numbers are below this; n of them stand here.
    pub(crate) span: u64,
    /// Section `CELL`, parsed: the first position of each cell, then n.
    pub(crate) cells: &'a [u64],
    /// Where in `packed` each cell starts, then where the last one ends; of [`starts`].
    pub(crate) starts: &'a [u64],
    /// Section `ROWS`.
    pub(crate) packed: &'a [u8],
    /// Whether positions are to be taken for rows.
    pub(crate) by_position: bool,
}

/// Where each cell starts in section `ROWS`, and where the last one ends.
pub(crate) fn starts(span: u64, cells: &[u64]) -> Vec<u64> {
    let mut end = 0;
    let mut out = Vec::with_capacity(cells.len());
    out.push(end);
    for pair in cells.windows(2) {
        end += Layout::new(span, pair[1] - pair[0]).bytes();
        out.push(end);
    }
    out
}

impl<'a> RowIds<'a> {
    /// The same where the row at a position is the position: for whoever looks up something else there.
    pub(crate) fn positions(self) -> RowIds<'a> {
        RowIds { by_position: true, ..self }
    }

    /// The cell that holds a position. O(log cells).
    pub(crate) fn cell_of(&self, position: u64) -> usize {
        self.cells.partition_point(|&start| start <= position) - 1
    }

    /// The row at a position. O(log n).
    ///
    /// On a damaged file the answer is any row number.
    pub(crate) fn row(&self, position: u64) -> u64 {
        if self.by_position {
            return position;
        }
        let cell = self.cell_of(position);
        self.sequence(cell).get(position - self.cells[cell])
    }

    /// Gives position and row of all rows of a cell, ascending.
    pub(crate) fn rows_of(&self, cell: usize, mut each: impl FnMut(u64, u64)) {
        let Ok(()) = self.try_rows_of(cell, |position, row| -> Result<(), Infallible> {
            each(position, row);
            Ok(())
        });
    }

    /// The same until there is an error.
    pub(crate) fn try_rows_of<E>(
        &self,
        cell: usize,
        mut each: impl FnMut(u64, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let sequence = self.sequence(cell);
        let mut cursor = sequence.seek(0);
        for position in self.cells[cell]..self.cells[cell + 1] {
            // A damaged cell may end early.
            each(position, cursor.row.min(self.span - 1))?;
            sequence.advance(&mut cursor);
        }
        Ok(())
    }

    /// The position of row `row` in a cell, if it is there.
    pub(crate) fn position_in(&self, cell: usize, row: u64) -> Option<u64> {
        let cursor = self.sequence(cell).seek(row);
        (cursor.row == row).then(|| self.cells[cell] + cursor.member)
    }

    fn sequence(&self, cell: usize) -> Sequence<'a> {
        let bytes = &self.packed[self.starts[cell] as usize..self.starts[cell + 1] as usize];
        Sequence::new(Layout::new(self.span, self.cells[cell + 1] - self.cells[cell]), bytes)
    }

    /// Checks that every row stands in one cell, once, and every bit of the section. O(n), in memory of O(cells) but where rows are
    /// few among their numbers.
    #[cfg(test)]
    pub(crate) fn verify(&self) -> Result<(), ParseError> {
        self.verify_while(&|| true)
    }

    /// The same, which passes over the rest once `go_on` says no.
    pub(crate) fn verify_while(&self, go_on: &dyn Fn() -> bool) -> Result<(), ParseError> {
        let bad = |cell: usize, what| ParseError::invalid("ROWS", format!("cell {cell}: {what}"));
        let twice = |row: u64| ParseError::invalid("ROWS", format!("row {row} stands in two cells"));
        let mut ascents = Vec::with_capacity(self.cells.len() - 1);
        for cell in 0..self.cells.len() - 1 {
            if cell % 64 == 0 && !go_on() {
                return Ok(());
            }
            let sequence = self.sequence(cell);
            sequence.check_bits().map_err(|what| bad(cell, what))?;
            ascents.push(sequence.ascend());
        }
        // A cell of all rows takes no bytes, so the numbers say nothing about the size of the file then.
        if self.n == 0 || self.cells.windows(2).any(|pair| pair[1] - pair[0] == self.span) {
            return Ok(());
        }
        // Each cell has as many rows as it should, all different: where no row stands twice, none is missing.
        if self.n < self.span / SPARSE {
            // A few rows may have numbers up to 2^40, too many to go through.
            let mut rows = Vec::new();
            for (cell, ascent) in ascents.iter_mut().enumerate() {
                ascent.until(self.span, |row| rows.push(row)).map_err(|what| bad(cell, what))?;
            }
            rows.sort_unstable();
            if let Some(pair) = rows.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(twice(pair[0]));
            }
        } else {
            let mut seen = vec![0u64; PART.min(self.span).div_ceil(64) as usize];
            for start in (0..self.span).step_by(PART as usize) {
                if !go_on() {
                    return Ok(());
                }
                seen.fill(0);
                let mut again = None;
                for (cell, ascent) in ascents.iter_mut().enumerate() {
                    let end = (start + PART).min(self.span);
                    let looked = ascent.until(end, |row| {
                        let (word, bit) = ((row - start) as usize / 64, 1 << ((row - start) % 64));
                        if seen[word] & bit != 0 {
                            again = Some(row);
                        }
                        seen[word] |= bit;
                    });
                    looked.map_err(|what| bad(cell, what))?;
                }
                if let Some(row) = again {
                    return Err(twice(row));
                }
            }
        }
        for (cell, ascent) in ascents.iter().enumerate() {
            ascent.end().map_err(|what| bad(cell, what))?;
        }
        Ok(())
    }
}

/// Finds the places of ascending rows: a cursor in every cell.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    ids: RowIds<'a>,
    cursors: Vec<Cursor>,
}

impl<'a> Walk<'a> {
    /// Starts before `row`. O(cells).
    pub(crate) fn new(ids: RowIds<'a>, row: u64) -> Self {
        let cursors = (0..ids.cells.len() - 1).map(|cell| ids.sequence(cell).seek(row)).collect();
        Walk { ids, cursors }
    }

    /// No row below this comes next; `None` when all have been passed. O(cells).
    pub(crate) fn next_row(&self) -> Option<u64> {
        let cursors = self.cursors.iter().filter(|cursor| !cursor.is_behind());
        cursors.map(|cursor| cursor.row).min()
    }

    /// Gives row, cell and position of every row below `end` that has not been passed yet, cell after cell.
    /// O(cells + rows).
    ///
    /// On a damaged file rows may be missing or come twice, or come though they are passed.
    pub(crate) fn until(&mut self, end: u64, mut each: impl FnMut(u64, usize, u64)) {
        for (cell, cursor) in self.cursors.iter_mut().enumerate() {
            if cursor.row >= end {
                continue;
            }
            let sequence = self.ids.sequence(cell);
            while cursor.row < end {
                each(cursor.row, cell, self.ids.cells[cell] + cursor.member);
                sequence.advance(cursor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::elias_fano::encode;

    struct Rows {
        cells: Vec<u64>,
        starts: Vec<u64>,
        packed: Vec<u8>,
        /// The row at each position.
        row_at: Vec<u64>,
    }

    impl Rows {
        fn new(labels: &[usize], anchors: usize) -> Rows {
            let mut members = vec![Vec::new(); anchors];
            labels.iter().zip(0..).for_each(|(&label, row)| members[label].push(row));
            let (mut cells, mut packed) = (vec![0], Vec::new());
            for rows in &members {
                encode(labels.len() as u64, rows, &mut packed);
                cells.push(cells[cells.len() - 1] + rows.len() as u64);
            }
            let starts = starts(labels.len() as u64, &cells);
            assert_eq!(starts.last(), Some(&(packed.len() as u64)));
            Rows { cells, starts, packed, row_at: members.concat() }
        }

        fn ids(&self) -> RowIds<'_> {
            let n = self.row_at.len() as u64;
            RowIds { n, span: n, cells: &self.cells, starts: &self.starts, packed: &self.packed, by_position: false }
        }
    }

    proptest! {
        #[test]
        fn rows_and_positions_lead_to_each_other(
            labels in prop::collection::vec(0usize..12, 1..3000),
            used in 1usize..=12,
            from in 0.0f64..1.0,
            step in 1u64..700,
        ) {
            let labels: Vec<usize> = labels.iter().map(|label| label % used).collect();
            let rows = Rows::new(&labels, 12);
            let (ids, n) = (rows.ids(), labels.len() as u64);
            ids.verify().unwrap();
            for (position, &row) in rows.row_at.iter().enumerate() {
                prop_assert_eq!(ids.row(position as u64), row);
            }
            let from = (from * n as f64) as u64;
            let mut walk = Walk::new(ids, from);
            let mut next = from;
            while next < n {
                let (first, end) = (next, (next + step).min(n));
                let mut found = Vec::new();
                walk.until(end, |row, cell, position| found.push((row, cell, position)));
                found.sort_unstable();
                for &(row, cell, position) in &found {
                    prop_assert_eq!((row, rows.row_at[position as usize]), (next, next));
                    prop_assert_eq!((cell, ids.cell_of(position)), (labels[row as usize], cell));
                    next += 1;
                }
                prop_assert_eq!(next, end, "from {}", first);
            }
        }
    }

    #[test]
    fn rows_in_two_cells_are_found() {
        let mut rows = Rows::new(&[0, 1, 0, 1, 0], 2);
        rows.packed.clear();
        encode(5, &[0, 2, 3], &mut rows.packed);
        encode(5, &[1, 3], &mut rows.packed);
        let error = rows.ids().verify().unwrap_err();
        assert!(error.to_string().contains("row 3"), "{error}");
    }

    #[test]
    fn parts_are_looked_at_one_after_the_other() {
        let n = 2 * PART as usize + 77;
        let labels: Vec<usize> = (0..n).map(|i| [0, 1, 1][i * i % 3]).collect();
        let rows = Rows::new(&labels, 3);
        rows.ids().verify().unwrap();
        // A row of the last part in place of another, which stands in the other cell too.
        let (of_first, of_second) = rows.row_at.split_at(rows.cells[1] as usize);
        let mut of_first = of_first.to_vec();
        *of_first.last_mut().unwrap() = *of_second.last().unwrap();
        let mut packed = Vec::new();
        encode(n as u64, &of_first, &mut packed);
        encode(n as u64, of_second, &mut packed);
        let error = Rows { packed, ..rows }.ids().verify().unwrap_err();
        assert!(error.to_string().contains("stands in two cells"), "{error}");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let labels: Vec<usize> = (0..2500).map(|i| [0, 0, 0, 3, 4][i * i % 5]).collect();
        let mut rows = Rows::new(&labels, 6);
        let n = labels.len() as u64;
        for bit in 0..8 * rows.packed.len() {
            rows.packed[bit / 8] ^= 1 << (bit % 8);
            let ids = rows.ids();
            assert!(ids.verify().is_err(), "bit {bit}");
            assert!((0..n).step_by(7).all(|position| ids.row(position) < n), "bit {bit}");
            let mut seen = 0;
            Walk::new(ids, n / 2).until(n, |row, cell, position| {
                assert!(row < n && ids.cell_of(position) == cell);
                seen += 1;
            });
            assert!(seen <= n);
            rows.packed[bit / 8] ^= 1 << (bit % 8);
        }
        rows.ids().verify().unwrap();
    }
}
