//! One segment out of several sources: rows that stand in other segments and rows just encoded, put in cell order.

use std::{
    convert::Infallible,
    io::{self, Write},
};

use rayon::prelude::*;

use super::{lengths::Lengths, spool::Record};
use crate::{
    error::Error,
    format::{
        gain::{KIND as GAIN, LengthScale},
        parse::Parsed,
        refine::{RefineRows, put_refine_rows},
        row_ids::RowIds,
        rows::{BLOCK, BlockShape, place_side, place_symbols},
        segment::{MOST_BARE_ROWS, Segment},
        write::Writer,
    },
    ids::Ids,
    math::bits::{Bits, Ranks},
    model::{Side, refine::Refine},
};

/// Blocks put together at a time.
const BLOCKS: usize = 4096;

/// Rows of one origin, in the order of their numbers.
pub(crate) struct Source<'a> {
    rows: Rows<'a>,
    codes: Codes<'a>,
    /// The length of its rows.
    lengths: RowLengths<'a>,
    /// Added to the numbers of its rows, to count them from the first of the new segment.
    base: u64,
}

/// How long rows are.
#[derive(Clone, Copy)]
enum RowLengths<'a> {
    /// What their codes say on the model's scale, or that of their segment.
    Coded(Option<&'a LengthScale>),
    /// As they were given, in row order; empty where lengths are not kept.
    Exact(&'a [f32]),
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
    /// The rows of a segment of the file `bytes` that are not at the positions `dead`. Their numbers are those that they have without `gaps`.
    pub(crate) fn stored(segment: &'a Segment, bytes: &'a [u8], dead: Bits, base: u64, gaps: Bits) -> Source<'a> {
        let ids = segment.row_ids(bytes);
        let gaps = Ranks::new(gaps);
        let codes = Codes::Blocks(segment.codes(bytes), segment.refine_rows(bytes));
        let lengths = RowLengths::Coded(segment.scale());
        Source { rows: Rows::Stored { ids, dead, gaps }, codes, lengths, base }
    }

    /// Rows just encoded: the anchor of each, their records, and their lengths where these are kept.
    pub(crate) fn fresh(
        labels: &[u32],
        anchors: usize,
        records: &'a [u8],
        lengths: &'a [f32],
        base: u64,
    ) -> Source<'a> {
        let (cells, rows) = cell_order(labels, anchors);
        let (rows, codes) = (Rows::Fresh { cells, rows }, Codes::Records(records));
        Source { rows, codes, lengths: RowLengths::Exact(lengths), base }
    }

    /// The same with row numbers that are larger by `by`.
    pub(crate) fn shifted(mut self, by: u64) -> Self {
        self.base += by;
        self
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> u64 {
        match &self.rows {
            Rows::Stored { ids, dead, .. } => ids.n - dead.count(),
            Rows::Fresh { rows, .. } => rows.len() as u64,
        }
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
    /// Symbols and side nibbles of the code at `at`.
    fn read(self, record: Record, at: u64, symbols: &mut [u8], sides: &mut [u8]) {
        let shape = record.shape;
        match self {
            Codes::Blocks(blocks, _) => {
                let (b, from) = ((at / BLOCK as u64) as usize, (at % BLOCK as u64) as usize);
                let source = &blocks[b * shape.bytes()..(b + 1) * shape.bytes()];
                symbols.iter_mut().enumerate().for_each(|(t, symbol)| *symbol = shape.symbol(source, t, from));
                sides.iter_mut().enumerate().for_each(|(s, side)| *side = shape.side(source, s, from));
            }
            Codes::Records(records) => {
                let from = at as usize * record.len();
                record.read(&records[from..from + record.len()], symbols, sides);
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

/// A segment to be written, and what it is made of.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) new: NewSegment<'a>,
    pub(crate) sources: &'a [Source<'a>],
    pub(crate) ids: Option<&'a Ids>,
}

/// What a new segment is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSegment<'a> {
    pub(crate) number: u16,
    /// Its row numbers are `first..first + span`.
    pub(crate) first: u64,
    pub(crate) span: u64,
    pub(crate) anchors: usize,
    pub(crate) block: BlockShape,
    /// The model's factors and lengths.
    pub(crate) side: &'a Side,
    /// Bytes of the refine layer's symbols of a row; 0 without one.
    pub(crate) refine: usize,
}

impl NewSegment<'_> {
    /// One to be written with the model of a file.
    pub(crate) fn of(parsed: &Parsed, number: u16, first: u64, span: u64) -> NewSegment<'_> {
        let refine = parsed.refine.as_ref().map_or(0, Refine::width);
        let model = &parsed.model;
        NewSegment { number, first, span, anchors: model.anchors(), block: parsed.block, side: &model.side, refine }
    }

    /// Its own scale of lengths, where the model's does not hold those of all rows. One that a source has and that holds all is kept,
    /// so that rows which are copied from segment to segment stay as they are.
    fn scale(&self, sources: &[Source<'_>]) -> Option<LengthScale> {
        let (side, nibbles) = (self.side, self.side.gain_nibbles);
        let by_model = |source: &Source<'_>| match source.lengths {
            RowLengths::Coded(scale) => scale.is_none(),
            RowLengths::Exact(lengths) => lengths.par_iter().all(|&length| side.holds(length)),
        };
        if nibbles == 0 || sources.iter().all(by_model) {
            return None;
        }
        let parts: Vec<Lengths> = sources.iter().map(|source| source.all_lengths(self)).collect();
        let mut scales = sources.iter().zip(&parts).filter_map(|(source, part)| match source.lengths {
            RowLengths::Coded(Some(scale)) => Some((part.rows(), scale)),
            _ => None,
        });
        let largest = scales.by_ref().fold(None, |best: Option<(u64, &LengthScale)>, next| match best {
            Some(best) if best.0 >= next.0 => Some(best),
            _ => Some(next),
        });
        match largest {
            Some((_, scale)) if parts.iter().all(|part| part.all(|length| scale.holds(length))) => {
                Some(scale.clone())
            }
            _ => parts.into_iter().fold(Lengths::default(), Lengths::and).scale(nibbles),
        }
    }
}

/// What becomes of the length codes of a source in a segment with a scale of its own.
enum Recoding<'a> {
    /// They stay.
    Same,
    /// The new code of each.
    Codes(Vec<u16>),
    /// Rows are coded by their lengths.
    Lengths(&'a [f32], &'a LengthScale),
}

impl<'a> Source<'a> {
    /// The length of each of its codes.
    fn table(&self, side: &Side) -> Vec<f32> {
        match self.lengths {
            RowLengths::Coded(Some(scale)) => scale.table(side.gain_nibbles),
            _ => side.gain_table(),
        }
    }

    /// The lengths of its rows that are not deleted. O(n).
    fn all_lengths(&self, new: &NewSegment<'_>) -> Lengths {
        if let RowLengths::Exact(lengths) = self.lengths {
            return Lengths::of(lengths);
        }
        let mut all = Lengths::default();
        let table = self.table(new.side);
        let mut rows = vec![0u64; table.len()];
        if let (Codes::Blocks(blocks, _), Rows::Stored { ids, dead, .. }) = (self.codes, &self.rows) {
            let factors = new.side.factor_nibbles();
            for position in (0..ids.n).filter(|&position| !dead.has(position)) {
                let (b, i) = ((position / BLOCK as u64) as usize, (position % BLOCK as u64) as usize);
                let block = &blocks[b * new.block.bytes()..(b + 1) * new.block.bytes()];
                rows[new.block.gain_code(block, factors, i)] += 1;
            }
        }
        rows.iter().zip(table).for_each(|(&rows, length)| all.add(length, rows));
        all
    }

    /// How its codes are brought to `scale`, that of the new segment where it has one.
    fn recoding<'s>(&'s self, side: &Side, scale: Option<&'s LengthScale>) -> Recoding<'s> {
        match (self.lengths, scale) {
            (_, None) => Recoding::Same,
            (RowLengths::Coded(own), Some(scale)) if own == Some(scale) => Recoding::Same,
            (RowLengths::Coded(_), Some(scale)) => {
                Recoding::Codes(self.table(side).into_iter().map(|length| scale.code(length)).collect())
            }
            (RowLengths::Exact(lengths), Some(scale)) => Recoding::Lengths(lengths, scale),
        }
    }
}

impl Recoding<'_> {
    /// Brings the length code of the row at `at` to the new scale: nibbles, least significant first.
    fn apply(&self, at: u64, nibbles: &mut [u8]) {
        let code = match self {
            Recoding::Same => return,
            Recoding::Codes(codes) => {
                codes[nibbles.iter().rev().fold(0, |code, &nibble| code << 4 | usize::from(nibble))]
            }
            Recoding::Lengths(lengths, scale) => scale.code(lengths[at as usize]),
        };
        nibbles.iter_mut().enumerate().for_each(|(s, nibble)| *nibble = (code >> (4 * s) & 15) as u8);
    }
}

/// Writes a segment with the rows of all sources. `report` hears of blocks done and may end it.
pub(crate) fn write_segment<W: Write>(
    writer: &mut Writer<W>,
    new: NewSegment<'_>,
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
    let scale = new.scale(sources);
    let recodings: Vec<_> = sources.iter().map(|source| source.recoding(new.side, scale.as_ref())).collect();
    in_order(sources, new.anchors, |part| {
        report(done, total)?;
        done += part.len();
        writer.write(&blocks_of(record, new.side.factor_nibbles(), sources, &recodings, part)).map_err(io)
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
    if let Some(scale) = &scale {
        writer.section(GAIN, new.number, &scale.to_bytes()).map_err(io)?;
    }
    if let Some(ids) = ids {
        writer.section(ids.kind().section(), new.number, &ids.bytes()).map_err(io)?;
    }
    writer.end_segment(new.number).map_err(io)
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

/// The blocks of some rows, the last one filled up with zeros. Behind `factors` side nibbles of a row stand those of its length.
fn blocks_of(
    record: Record,
    factors: usize,
    sources: &[Source<'_>],
    recodings: &[Recoding<'_>],
    rows: &[(usize, u64)],
) -> Vec<u8> {
    let (shape, bytes) = (record.shape, record.shape.bytes());
    let mut blocks = vec![0u8; rows.len().div_ceil(BLOCK) * bytes];
    blocks.par_chunks_mut(bytes.max(1)).zip(rows.par_chunks(BLOCK)).for_each(|(block, members)| {
        let (mut symbols, mut sides) = (vec![0; shape.symbols], vec![0; shape.side_nibbles]);
        for (i, &(source, at)) in members.iter().enumerate() {
            sources[source].codes.read(record, at, &mut symbols, &mut sides);
            recodings[source].apply(at, &mut sides[factors..]);
            place_symbols(shape, block, i, &symbols);
            place_side(shape, block, i, &sides);
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
