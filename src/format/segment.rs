//! Segments: rows written by one commit, with what was deleted from them since (docs/format.md, sections 8 and 11).

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::{
    bits::u64_at,
    elias_fano::{self, Layout, Sequence},
    gain::LengthScale,
    header::SectionEntry,
    ids::Ids,
    meta::MOST_ROWS,
    refine::RefineRows,
    row_ids::{self, RowIds},
    rows::BlockShape,
};
use crate::{error::ParseError, ids::IdsKind, math::bits::Bits};

const SEGM_LEN: usize = 32;
/// Segments a file may have at most: a search goes through each.
pub(crate) const MOST_SEGMENTS: usize = 256;

/// Rows a file may have at most where a row takes no bytes, deleted ones counted: else a file of a kilobyte would keep its reader
/// busy for days.
pub(crate) const MOST_BARE_ROWS: u64 = 1 << 20;

/// Where the rows of a segment lie in the file.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Number of rows stored, deleted ones counted.
    pub(crate) n: u64,
    /// Row numbers of the segment are `first..first + span`, of which n stand in it.
    pub(crate) first: u64,
    pub(crate) span: u64,
    /// The first position of each cell, then n.
    pub(crate) cells: Vec<u64>,
    /// Where each cell starts in section `ROWS`.
    row_starts: Vec<u64>,
    rows: Range<usize>,
    codes: Range<usize>,
    /// Its scale of lengths, where that is not the model's, and the length of each code.
    scale: Option<(LengthScale, Vec<f32>)>,
    /// Bytes of a row's symbols in a refine layer, and where they are.
    refine: Option<(usize, Range<usize>)>,
    /// How many rows are deleted, and where their positions are.
    pub(crate) deleted: u64,
    tombs: Range<usize>,
    ids: Option<(IdsKind, Range<usize>)>,
}

/// What the segments of a file have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentShape {
    pub(super) anchors: usize,
    pub(super) block: BlockShape,
    /// Bytes of a row's symbols in a refine layer, where there is one.
    pub(super) refine: Option<usize>,
    pub(super) gain_nibbles: u8,
}

/// The facts of a segment as section `SEGM` has them.
pub(crate) fn facts_bytes(n: u64, first: u64, span: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEGM_LEN);
    for v in [n, first, span, 0] {
        out.extend_from_slice(&v.to_le_bytes());
    }
    out
}

/// Section `TOMB` for positions of a segment of n rows.
pub(crate) fn tombs_bytes(n: u64, positions: &Bits) -> Vec<u8> {
    let count = positions.count();
    let mut out = count.to_le_bytes().to_vec();
    elias_fano::encode_each(n, count, positions.iter(), &mut out);
    out
}

impl Segment {
    /// The sections of segment `number` in `bytes`; `whole` is the number of rows where there is no `SEGM` (version 1).
    pub(super) fn parse(
        bytes: &[u8],
        entries: &[SectionEntry],
        number: u16,
        whole: Option<u64>,
        shape: SegmentShape,
    ) -> Result<Segment, ParseError> {
        let find =
            |kind: &[u8; 4]| entries.iter().find(|e| e.segment == number && e.kind == *kind).map(SectionEntry::range);
        let need = |kind: &'static str| {
            let mut name = [0; 4];
            name.copy_from_slice(kind.as_bytes());
            find(&name).ok_or(ParseError::Missing(kind))
        };
        let (n, first, span) = match whole {
            Some(n) => (n, 0, n),
            None => facts(&bytes[need("SEGM")?])?,
        };
        let cells = parse_cells(&bytes[need("CELL")?], shape.anchors, n)?;
        let row_starts = row_ids::starts(span, &cells);
        let sized = |kind: &'static str, expected: u64| {
            let range = need(kind)?;
            if range.len() as u64 == expected {
                return Ok(range);
            }
            Err(ParseError::invalid(kind, format!("{} bytes instead of {expected}", range.len())))
        };
        let rows = sized("ROWS", row_starts.last().copied().unwrap_or(0))?;
        let codes = sized("CODE", shape.block.code_bytes(n))?;
        let refine = match shape.refine {
            Some(width) => Some((width, sized("RFNC", RefineRows::len(n, width))?)),
            None if find(b"RFNC").is_some() => return Err(ParseError::Missing("RFNM")),
            None => None,
        };
        let scale = find(b"GAIN").map(|range| LengthScale::parse(&bytes[range], shape.gain_nibbles)).transpose()?;
        let scale = scale.map(|scale| {
            let table = scale.table(shape.gain_nibbles);
            (scale, table)
        });
        let (deleted, tombs) = match find(b"TOMB") {
            Some(range) => parse_tombs(bytes, range, n)?,
            None => (0, 0..0),
        };
        let ids = match (find(b"IDSU"), find(b"IDSS")) {
            (None, None) => None,
            (Some(range), None) => Some((IdsKind::Numbers, range)),
            (None, Some(range)) => Some((IdsKind::Text, range)),
            _ => return Err(ParseError::invalid("IDSS", "there are ids of two kinds")),
        };
        if let Some((kind, range)) = &ids {
            if span != n {
                return Err(ParseError::invalid("SEGM", "rows are missing in front of ids"));
            }
            Ids::new(*kind, n as usize, &bytes[range.clone()])?;
        }
        Ok(Segment { n, first, span, cells, row_starts, rows, codes, scale, refine, deleted, tombs, ids })
    }

    /// Rows that are not deleted.
    pub(crate) fn live(&self) -> u64 {
        self.n - self.deleted
    }

    /// Which row (counted from the segment's first) is where.
    pub(crate) fn row_ids<'a>(&'a self, bytes: &'a [u8]) -> RowIds<'a> {
        let packed = &bytes[self.rows.clone()];
        RowIds {
            n: self.n,
            span: self.span,
            cells: &self.cells,
            starts: &self.row_starts,
            packed,
            by_position: false,
        }
    }

    /// Its blocks of codes.
    pub(crate) fn codes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.codes.clone()]
    }

    /// Its own scale of lengths; `None` where it has the model's.
    pub(crate) fn scale(&self) -> Option<&LengthScale> {
        self.scale.as_ref().map(|(scale, _)| scale)
    }

    /// The length of each code of that scale.
    pub(super) fn gains(&self) -> Option<&[f32]> {
        self.scale.as_ref().map(|(_, table)| table.as_slice())
    }

    /// Its codes of the refine layer, where there is one.
    pub(crate) fn refine_rows<'a>(&self, bytes: &'a [u8]) -> Option<RefineRows<'a>> {
        self.refine.as_ref().map(|(width, range)| RefineRows { width: *width, bytes: &bytes[range.clone()] })
    }

    /// The ids of its rows in the order of their numbers; `None` where the number is the id.
    pub(crate) fn ids<'a>(&self, bytes: &'a [u8]) -> Option<Ids<'a>> {
        let (kind, range) = self.ids.as_ref()?;
        Ids::new(*kind, self.n as usize, &bytes[range.clone()]).ok()
    }

    /// The rows at positions, counted from the segment's first.
    pub(crate) fn rows_at(&self, bytes: &[u8], positions: &Bits) -> Bits {
        let places = self.row_ids(bytes);
        Bits::new(self.span, positions.iter().map(|p| places.row(p)))
    }

    /// The same where the numbers of those rows may be damaged, and no row number is left out: all that stand nowhere else. O(n).
    pub(crate) fn rows_left_out(&self, bytes: &[u8], positions: &Bits) -> Bits {
        let places = self.row_ids(bytes);
        let mut live = Bits::new(self.span, []);
        for cell in 0..places.cells.len() - 1 {
            places.rows_of(cell, |position, row| {
                if !positions.has(position) {
                    live.set(self.span, row);
                }
            });
        }
        Bits::new(self.span, (0..self.span).filter(|&row| !live.has(row)))
    }

    /// The ids of the rows but those that are `dead`, counted from the segment's first; `None` where the number is the id. O(n).
    pub(crate) fn ids_without(&self, bytes: &[u8], dead: &Bits) -> Option<crate::ids::Ids> {
        let ids = self.ids(bytes)?;
        let live = (0..self.n).filter(|&row| !dead.has(row)).map(|row| row as usize);
        Some(match ids {
            Ids::Numbers(numbers) => crate::ids::Ids::Numbers(live.map(|row| numbers.get(row)).collect()),
            Ids::Text(..) => {
                crate::ids::Ids::Text(live.map(|row| ids.text(row).unwrap_or_default().to_owned()).collect())
            }
        })
    }

    pub(crate) fn ids_kind(&self) -> Option<IdsKind> {
        self.ids.as_ref().map(|(kind, _)| *kind)
    }

    /// The positions that are deleted, ascending. They are not kept: a few bytes may stand for any number of them. O(deleted).
    pub(crate) fn deleted_positions<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = u64> + use<'a> {
        let (n, deleted) = (self.n, self.deleted);
        let mut at = (deleted > 0).then(|| {
            let sequence = Sequence::new(Layout::new(n, deleted), &bytes[self.tombs.start + 8..self.tombs.end]);
            (sequence, sequence.seek(0))
        });
        (0..deleted).map_while(move |_| {
            let (sequence, cursor) = at.as_mut()?;
            // Damaged bytes may say less than they should.
            let position = cursor.row.min(n - 1);
            sequence.advance(cursor);
            Some(position)
        })
    }

    /// Checks what opening does not: that every row stands in one place, and the bits of what was deleted.
    /// Passes over the rest once `go_on` says no.
    pub(super) fn verify(
        &self,
        bytes: &[u8],
        block: BlockShape,
        refine_symbols: usize,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), ParseError> {
        if self.deleted > 0 {
            let tombs = &bytes[self.tombs.start + 8..self.tombs.end];
            let sequence = Sequence::new(Layout::new(self.n, self.deleted), tombs);
            sequence.check().map_err(|what| ParseError::invalid("TOMB", what))?;
        }
        if !go_on() {
            return Ok(());
        }
        if let Some(ids) = self.ids(bytes) {
            ids.check()?;
        }
        self.verify_fill(bytes, block)?;
        if let Some(rows) = self.refine_rows(bytes) {
            rows.verify(self.n, refine_symbols)?;
        }
        self.row_ids(bytes).verify_while(go_on)
    }

    /// The places of the last block behind the last row are zero.
    fn verify_fill(&self, bytes: &[u8], shape: BlockShape) -> Result<(), ParseError> {
        let (codes, used) = (self.codes(bytes), self.n as usize % super::BLOCK);
        if used == 0 || shape.bytes() == 0 {
            return Ok(());
        }
        let last = &codes[codes.len() - shape.bytes()..];
        let is_zero = |i: usize| {
            (0..shape.symbols).all(|t| shape.symbol(last, t, i) == 0)
                && (0..shape.side_nibbles).all(|s| shape.side(last, s, i) == 0)
        };
        if (used..super::BLOCK).all(is_zero) {
            return Ok(());
        }
        Err(ParseError::invalid("CODE", "the places behind the last row are not zero"))
    }
}

fn facts(b: &[u8]) -> Result<(u64, u64, u64), ParseError> {
    let bad = |message: &str| Err(ParseError::invalid("SEGM", message));
    if b.len() != SEGM_LEN {
        return bad("its length is wrong");
    }
    let (n, first, span) = (u64_at(b, 0), u64_at(b, 8), u64_at(b, 16));
    if b[24..].iter().any(|&byte| byte != 0) {
        return bad("reserved bytes are not zero");
    }
    let fits = first.checked_add(span).is_some_and(|end| end <= MOST_ROWS);
    if n > span || span == 0 || !fits {
        return bad("its row numbers are out of range");
    }
    Ok((n, first, span))
}

fn parse_cells(b: &[u8], anchors: usize, n: u64) -> Result<Vec<u64>, ParseError> {
    let bad = |message: &str| ParseError::invalid("CELL", message);
    if b.len() != 8 * (anchors + 1) {
        return Err(bad("its length does not fit the number of anchors"));
    }
    let cells: Vec<u64> = (0..=anchors).map(|i| u64_at(b, 8 * i)).collect();
    if cells[0] != 0 || cells.last() != Some(&n) || cells.windows(2).any(|w| w[0] > w[1]) {
        return Err(bad("the cells do not ascend from 0 to n"));
    }
    Ok(cells)
}

fn parse_tombs(bytes: &[u8], range: Range<usize>, n: u64) -> Result<(u64, Range<usize>), ParseError> {
    let bad = |message: &str| Err(ParseError::invalid("TOMB", message));
    if range.len() < 8 {
        return bad("ends before its contents do");
    }
    let count = u64_at(bytes, range.start);
    if count == 0 || count > n {
        return bad("more rows are deleted than there are, or none");
    }
    if range.len() as u64 - 8 != Layout::new(n, count).bytes() {
        return bad("its length does not fit the number of rows");
    }
    Ok((count, range))
}

/// Whether the bytes of a section hash to what its entry says.
pub(super) fn intact(bytes: &[u8], entry: &SectionEntry) -> Result<(), ParseError> {
    matches(entry, xxh3_64(&bytes[entry.range()]))
}

/// Whether that is the hash of its entry.
pub(super) fn matches(entry: &SectionEntry, hash: u64) -> Result<(), ParseError> {
    if hash == entry.hash {
        return Ok(());
    }
    Err(ParseError::Checksum { part: format!("section {}", entry.name()) })
}
