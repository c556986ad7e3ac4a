//! Reads a file's model and checks what can be checked without touching the rows; `verify` checks the rest.

use std::{collections::BTreeMap, ops::Range};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    BLOCK, BlockShape, Meta, ParseError, RowIds, SectionEntry,
    header::{self, FLAG_MUST_KNOW, u32_at, u64_at},
    model, row_ids,
};
use crate::model::Model;

/// Sections that are checked when a file is opened.
const OPEN: [[u8; 4]; 7] = [*b"META", *b"MEAN", *b"CHRT", *b"ANCH", *b"SIDE", *b"CELL", *b"KEYV"];
/// Kinds this build knows.
const KNOWN: [[u8; 4]; 2] = [*b"ROWS", *b"CODE"];
/// Bytes the sections checked at open may have together.
const MAX_MODEL: u64 = 1 << 30;

/// A file's facts and model, and where its rows lie.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) entries: Vec<SectionEntry>,
    pub(crate) meta: Meta,
    pub(crate) model: Model,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) cells: Vec<u64>,
    /// Where each cell starts in section `ROWS`.
    row_starts: Vec<u64>,
    pub(crate) block: BlockShape,
    /// The gain of each gain code.
    pub(crate) gains: Vec<f32>,
    rows: Range<usize>,
    codes: Range<usize>,
}

impl Parsed {
    /// Which row is where in the file `bytes` that this was parsed from.
    pub(crate) fn row_ids<'a>(&'a self, bytes: &'a [u8]) -> RowIds<'a> {
        RowIds { n: self.meta.n, cells: &self.cells, starts: &self.row_starts, packed: &bytes[self.rows.clone()] }
    }

    /// The blocks of codes of the file `bytes` that this was parsed from.
    pub(crate) fn codes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.codes.clone()]
    }
}

/// Reads header, table and model. The cost depends on the size of the model, not on n.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let entries = header::parse(bytes)?;
    let model_bytes: u64 = entries.iter().filter(|e| OPEN.contains(&e.kind)).map(|e| e.len).sum();
    if model_bytes > MAX_MODEL {
        return Err(ParseError::invalid(
            "section table",
            format!("{model_bytes} bytes of model; {MAX_MODEL} are allowed"),
        ));
    }
    for e in &entries {
        let open = OPEN.contains(&e.kind);
        if !open && !KNOWN.contains(&e.kind) && e.flags & FLAG_MUST_KNOW != 0 {
            return Err(ParseError::Unknown(e.name()));
        }
        if open && xxh3_64(&bytes[e.range()]) != e.hash {
            return Err(ParseError::Checksum { part: format!("section {}", e.name()) });
        }
    }
    let find = |kind: &'static str| {
        let found = entries.iter().find(|e| e.kind == kind.as_bytes());
        found.map(SectionEntry::range).ok_or(ParseError::Missing(kind))
    };
    let section = |kind: &'static str| find(kind).map(|range| &bytes[range]);
    let meta = Meta::parse(section("META")?)?;
    let model = model::parse(&meta, section("MEAN")?, section("CHRT")?, section("ANCH")?, section("SIDE")?)?;
    let metadata = match section("KEYV") {
        Ok(keyv) => parse_metadata(keyv)?,
        Err(_) => BTreeMap::new(),
    };
    let cells = parse_cells(section("CELL")?, &meta)?;
    let row_starts = row_ids::starts(&cells);
    let block = BlockShape { kind: meta.kind, symbols: meta.symbols as usize, side_nibbles: model.side.nibbles() };

    let payload = |kind: &'static str, expected: u64| {
        let range = find(kind)?;
        if range.len() as u64 == expected {
            return Ok(range);
        }
        Err(ParseError::invalid(kind, format!("{} bytes instead of {expected}", range.len())))
    };
    let rows = payload("ROWS", row_starts.last().copied().unwrap_or(0))?;
    let codes = payload("CODE", block.code_bytes(meta.n))?;
    let gains = model.side.gain_table();
    Ok(Parsed { entries, meta, model, metadata, cells, row_starts, block, gains, rows, codes })
}

fn parse_cells(b: &[u8], meta: &Meta) -> Result<Vec<u64>, ParseError> {
    let bad = |message: &str| ParseError::invalid("CELL", message);
    if b.len() != 8 * (meta.anchors as usize + 1) {
        return Err(bad("its length does not fit the number of anchors"));
    }
    let cells: Vec<u64> = (0..=meta.anchors as usize).map(|i| u64_at(b, 8 * i)).collect();
    if cells[0] != 0 || cells.last() != Some(&meta.n) || cells.windows(2).any(|w| w[0] > w[1]) {
        return Err(bad("the cells do not ascend from 0 to n"));
    }
    Ok(cells)
}

fn parse_metadata(b: &[u8]) -> Result<BTreeMap<String, String>, ParseError> {
    let bad = |message: &str| ParseError::invalid("KEYV", message);
    let mut pairs: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = b.get(4..).ok_or_else(|| bad("ends before its contents do"))?;
    for _ in 0..u32_at(b, 0) {
        if rest.len() < 8 {
            return Err(bad("ends before its contents do"));
        }
        let (key_len, value_len) = (u32_at(rest, 0) as usize, u32_at(rest, 4) as usize);
        rest = &rest[8..];
        if rest.len() < key_len || rest.len() - key_len < value_len {
            return Err(bad("ends before its contents do"));
        }
        let text = |b: &[u8]| std::str::from_utf8(b).map(str::to_owned).map_err(|_| bad("is not UTF-8"));
        let key = text(&rest[..key_len])?;
        if pairs.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(bad("its keys do not ascend"));
        }
        pairs.insert(key, text(&rest[key_len..key_len + value_len])?);
        rest = &rest[key_len + value_len..];
    }
    if rest.is_empty() { Ok(pairs) } else { Err(bad("goes on after its contents")) }
}

/// Checks every byte: all hashes, all padding, and that every row is in one cell. O(file).
pub(crate) fn verify(parsed: &Parsed, bytes: &[u8]) -> Result<(), ParseError> {
    let mut end = header::sections_start(parsed.entries.len()) as usize;
    let table_end = header::HEADER_LEN + parsed.entries.len() * header::ENTRY_LEN;
    let mut padding = Vec::new();
    padding.push(table_end..end);
    for e in &parsed.entries {
        padding.push(end..e.range().start);
        end = e.range().end;
        if xxh3_64(&bytes[e.range()]) != e.hash {
            return Err(ParseError::Checksum { part: format!("section {}", e.name()) });
        }
    }
    if padding.into_iter().any(|range| bytes[range].iter().any(|&b| b != 0)) {
        return Err(ParseError::invalid("padding", "bytes between sections are not zero"));
    }
    verify_fill(parsed, bytes)?;
    parsed.row_ids(bytes).verify()
}

/// The places of the last block behind the last row are zero.
fn verify_fill(parsed: &Parsed, bytes: &[u8]) -> Result<(), ParseError> {
    let (shape, codes) = (parsed.block, parsed.codes(bytes));
    let used = parsed.meta.n as usize % BLOCK;
    if used == 0 || shape.bytes() == 0 {
        return Ok(());
    }
    let last = &codes[codes.len() - shape.bytes()..];
    let is_zero = |i: usize| {
        (0..shape.symbols).all(|t| shape.symbol(last, t, i) == 0)
            && (0..shape.side_nibbles).all(|s| shape.side(last, s, i) == 0)
    };
    if (used..BLOCK).all(is_zero) {
        return Ok(());
    }
    Err(ParseError::invalid("CODE", "the places behind the last row are not zero"))
}
