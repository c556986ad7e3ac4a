//! One segment out of several sources: rows that stand in other segments and rows just encoded, put in cell order.

use std::{
    convert::Infallible,
    io::{self, Write},
};

use rayon::prelude::*;

use crate::{
    Error,
    format::{
        BLOCK, BlockShape, MOST_BARE_ROWS, Parsed, RefineRows, RowIds, Segment, Writer, place_side, place_symbols,
        put_refine_rows,
    },
    ids::Ids,
    live::{Bits, Ranks},
    refine::Refine,
    spool::Record,
};

/// Blocks put together at a time.
const BLOCKS: usize = 4096;

/// Rows of one origin, in the order of their numbers.
pub(crate) struct Source<'a> {
    rows: Rows<'a>,
    codes: Codes<'a>,
    /// Added to the numbers of its rows, to count them from the first of the new segment.
    base: u64,
}

enum Rows<'a> {
    Stored {
        ids: RowIds<'a>,
        dead: Bits,
        /// The rows that are left out, where those behind them move up.
        gaps: Ranks,
    },
    /// Rows of each cell.
    Fresh { cells: Vec<u64>, rows: Vec<u64> },
}

/// Where codes are.
#[derive(Clone, Copy)]
enum Codes<'a> {
    /// In blocks, by position, and what a refine layer has there.
    Blocks(&'a [u8], Option<RefineRows<'a>>),
    /// A record for each row.
    Records(&'a [u8]),
}

impl<'a> Source<'a> {
    /// The live rows of a segment of the file `bytes`. With `renumber` they get numbers without gaps.
    pub(crate) fn stored(segment: &'a Segment, bytes: &'a [u8], base: u64, renumber: bool) -> Source<'a> {
        let ids = segment.row_ids(bytes);
        let positions = || segment.deleted_positions(bytes);
        let rows = renumber.then(|| positions().map(|position| ids.row(position))).into_iter().flatten();
        let gaps = Ranks::new(Bits::new(segment.span, rows));
        let dead = Bits::new(segment.n, positions());
        let codes = Codes::Blocks(segment.codes(bytes), segment.refine_rows(bytes));
        Source { rows: Rows::Stored { ids, dead, gaps }, codes, base }
    }

    /// Rows just encoded: the anchor of each, and their records.
    pub(crate) fn fresh(labels: &[u32], anchors: usize, records: &'a [u8], base: u64) -> Source<'a> {
        let (cells, rows) = cell_order(labels, anchors);
        Source { rows: Rows::Fresh { cells, rows }, codes: Codes::Records(records), base }
    }

    /// The same with row numbers that are larger by `by`.
    pub(crate) fn shifted(mut self, by: u64) -> Self {
        self.base += by;
        self
    }

    /// How many rows it has in a cell.
    fn count(&self, cell: usize) -> u64 {
        match &self.rows {
            Rows::Stored { ids, dead, .. } => {
                (ids.cells[cell]..ids.cells[cell + 1]).filter(|&position| !dead.has(position)).count() as u64
            }
            Rows::Fresh { cells, .. } => cells[cell + 1] - cells[cell],
        }
    }

    /// Gives the rows of a cell: the number of each in the new segment, and where its code is.
    fn each<E>(&self, cell: usize, mut each: impl FnMut(u64, u64) -> Result<(), E>) -> Result<(), E> {
        match &self.rows {
            Rows::Stored { ids, dead, gaps } => ids.try_rows_of(cell, |position, row| match dead.has(position) {
                true => Ok(()),
                // On a damaged file more rows than this may be left out.
                false => each(self.base + row.saturating_sub(gaps.below(row)), position),
            }),
            Rows::Fresh { cells, rows } => {
                let rows = &rows[cells[cell] as usize..cells[cell + 1] as usize];
                rows.iter().try_for_each(|&r| each(self.base + r, r))
            }
        }
    }
}

impl<'a> Codes<'a> {
    /// Puts the code at `at` into place `i` of a zeroed block.
    fn place(self, record: Record, at: u64, block: &mut [u8], i: usize, symbols: &mut [u8]) {
        let shape = record.shape;
        match self {
            Codes::Blocks(blocks, _) => {
                let (b, from) = ((at / BLOCK as u64) as usize, (at % BLOCK as u64) as usize);
                let source = &blocks[b * shape.bytes()..(b + 1) * shape.bytes()];
                symbols.iter_mut().enumerate().for_each(|(t, symbol)| *symbol = shape.symbol(source, t, from));
                place_symbols(shape, block, i, symbols);
                let mut sides = [0; 4];
                let sides = &mut sides[..shape.side_nibbles];
                sides.iter_mut().enumerate().for_each(|(s, side)| *side = shape.side(source, s, from));
                place_side(shape, block, i, sides);
            }
            Codes::Records(records) => {
                let from = at as usize * record.len();
                record.place(&records[from..from + record.len()], block, i, symbols);
            }
        }
    }

    /// Symbols and factor code of the refine layer at `at`.
    fn refine(self, record: Record, at: u64) -> (&'a [u8], u8) {
        match self {
            Codes::Blocks(_, Some(rows)) => (rows.packed(at), rows.factor(at)),
            Codes::Blocks(_, None) => (&[], 0),
            Codes::Records(records) => record.refine(&records[at as usize * record.len()..][..record.len()]),
        }
    }
}

/// What a new segment is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSegment {
    pub(crate) number: u16,
    /// Its row numbers are `first..first + span`.
    pub(crate) first: u64,
    pub(crate) span: u64,
    pub(crate) anchors: usize,
    pub(crate) block: BlockShape,
    /// Bytes of the refine layer's symbols of a row; 0 without one.
    pub(crate) refine: usize,
}

impl NewSegment {
    /// One to be written with the model of a file.
    pub(crate) fn of(parsed: &Parsed, number: u16, first: u64, span: u64) -> NewSegment {
        let refine = parsed.refine.as_ref().map_or(0, Refine::width);
        NewSegment { number, first, span, anchors: parsed.model.anchors(), block: parsed.block, refine }
    }
}

/// Writes a segment with the rows of all sources. `report` hears of blocks done and may end it.
pub(crate) fn write_segment<W: Write>(
    writer: &mut Writer<W>,
    new: NewSegment,
    sources: &[Source<'_>],
    ids: Option<&Ids>,
    io: &dyn Fn(io::Error) -> Error,
    report: &dyn Fn(usize, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut cells = vec![0; new.anchors + 1];
    for cell in 0..new.anchors {
        cells[cell + 1] = cells[cell] + sources.iter().map(|source| source.count(cell)).sum::<u64>();
    }
    let rows_of = |cell: usize, out: &mut Vec<u64>| {
        let mut push = |row: u64, _: u64| -> Result<(), Infallible> {
            out.push(row);
            Ok(())
        };
        let Ok(()) = sources.iter().try_for_each(|source| source.each(cell, &mut push));
    };
    writer.write_places(new.number, (new.first, new.span), &cells, rows_of).map_err(io)?;

    // Each code is a pass over the rows.
    let n = cells[new.anchors] as usize;
    if new.block.bytes() == 0 && new.refine == 0 && n as u64 > MOST_BARE_ROWS {
        return Err(bare(n as u64));
    }
    let record = Record { shape: new.block, refine: new.refine };
    let total = if new.refine > 0 { 2 * n } else { n };
    let mut done = 0;
    in_order(sources, new.anchors, |part| {
        report(done, total)?;
        done += part.len();
        writer.write(&blocks_of(record, sources, part)).map_err(io)
    })?;
    if new.refine > 0 {
        writer.begin(*b"RFNC", new.number).map_err(io)?;
        in_order(sources, new.anchors, |part| {
            report(done, total)?;
            done += part.len();
            let mut bytes = Vec::with_capacity(part.len() * (new.refine + 1));
            let rows = part.iter().map(|&(source, at)| sources[source].codes.refine(record, at));
            put_refine_rows(rows, &mut bytes);
            writer.write(&bytes).map_err(io)
        })?;
    }
    report(total, total)?;
    match ids {
        Some(ids) => writer.section(ids.kind().section(), new.number, &ids.bytes()).map_err(io),
        None => Ok(()),
    }
}

/// What is said where too many rows would take no bytes.
pub(crate) fn bare(rows: u64) -> Error {
    Error::Config(format!(
        "{rows} rows would take no bytes in this file, as its model makes all rows alike; {MOST_BARE_ROWS} are allowed: compress them anew"
    ))
}

/// Gives source and place of all rows in cell order, [`BLOCKS`] whole blocks at a time but for the last ones.
fn in_order(
    sources: &[Source<'_>],
    anchors: usize,
    mut each: impl FnMut(&[(usize, u64)]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut waiting: Vec<(usize, u64)> = Vec::with_capacity(BLOCKS * BLOCK);
    for cell in 0..anchors {
        for (s, source) in sources.iter().enumerate() {
            source.each(cell, |_, at| -> Result<(), Error> {
                waiting.push((s, at));
                if waiting.len() == BLOCKS * BLOCK {
                    each(&waiting)?;
                    waiting.clear();
                }
                Ok(())
            })?;
        }
    }
    if waiting.is_empty() { Ok(()) } else { each(&waiting) }
}

/// The blocks of some rows, the last one filled up with zeros.
fn blocks_of(record: Record, sources: &[Source<'_>], rows: &[(usize, u64)]) -> Vec<u8> {
    let bytes = record.shape.bytes();
    let mut blocks = vec![0u8; rows.len().div_ceil(BLOCK) * bytes];
    blocks.par_chunks_mut(bytes.max(1)).zip(rows.par_chunks(BLOCK)).for_each(|(block, members)| {
        let mut symbols = vec![0; record.shape.symbols];
        for (i, &(source, at)) in members.iter().enumerate() {
            sources[source].codes.place(record, at, block, i, &mut symbols);
        }
    });
    blocks
}

/// Where the cells start, and the row at each position: a counting sort by anchor.
fn cell_order(labels: &[u32], anchors: usize) -> (Vec<u64>, Vec<u64>) {
    let mut cells = vec![0u64; anchors + 1];
    labels.iter().for_each(|&label| cells[label as usize + 1] += 1);
    for k in 0..anchors {
        cells[k + 1] += cells[k];
    }
    let mut next = cells.clone();
    let mut rows = vec![0u64; labels.len()];
    for (row, &label) in labels.iter().enumerate() {
        rows[next[label as usize] as usize] = row as u64;
        next[label as usize] += 1;
    }
    (cells, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_in_row_order() {
        let (cells, rows) = cell_order(&[2, 0, 2, 1, 0], 4);
        assert_eq!(cells, [0, 2, 3, 5, 5]);
        assert_eq!(rows, [1, 4, 3, 0, 2]);
    }
}
