//! Reads a file's model and checks what can be checked without touching the rows; `verify` checks the rest.

use std::{collections::BTreeMap, ops::Range};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    BLOCK, BlockShape, Labels, Meta, ParseError, SectionEntry,
    bits::{packed_len, spare_bits_are_zero},
    header::{self, FLAG_MUST_KNOW, u32_at, u64_at},
    model,
    rows::samples_before,
};
use crate::model::Model;

/// Sections that are checked when a file is opened.
const OPEN: [[u8; 4]; 7] = [*b"META", *b"MEAN", *b"CHRT", *b"ANCH", *b"SIDE", *b"CELL", *b"KEYV"];
/// Kinds this build knows.
const KNOWN: [[u8; 4]; 3] = [*b"LABL", *b"SLCT", *b"CODE"];
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
    pub(crate) samples_before: Vec<u64>,
    pub(crate) block: BlockShape,
    /// The gain of each gain code.
    pub(crate) gains: Vec<f32>,
    labels: Range<usize>,
    samples: Range<usize>,
    codes: Range<usize>,
}

impl Parsed {
    /// The row labels of the file `bytes` that this was parsed from.
    pub(crate) fn labels<'a>(&'a self, bytes: &'a [u8]) -> Labels<'a> {
        Labels {
            n: self.meta.n,
            bits: self.meta.label_bits,
            packed: &bytes[self.labels.clone()],
            samples: &bytes[self.samples.clone()],
            cells: &self.cells,
            samples_before: &self.samples_before,
        }
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
    let samples_before = samples_before(&cells);
    let block = BlockShape { kind: meta.kind, symbols: meta.symbols as usize, side_nibbles: model.side.nibbles() };

    let rows = |kind: &'static str, expected: u64| {
        let range = find(kind)?;
        if range.len() as u64 == expected {
            return Ok(range);
        }
        Err(ParseError::invalid(kind, format!("{} bytes instead of {expected}", range.len())))
    };
    let n = meta.n;
    let labels = rows("LABL", packed_len(n as usize, meta.label_bits) as u64)?;
    let samples = samples_before.last().copied().unwrap_or(0) * Labels::sample_width(n) as u64;
    let samples = rows("SLCT", samples)?;
    let codes = rows("CODE", block.code_bytes(n))?;
    let gains = model.side.gain_table();
    Ok(Parsed { entries, meta, model, metadata, cells, samples_before, block, gains, labels, samples, codes })
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

/// Checks every byte: all hashes, all padding, and that labels, cells and samples agree. O(file).
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
    let labels = parsed.labels(bytes);
    if !spare_bits_are_zero(labels.packed, labels.bits, labels.n as usize) {
        return Err(ParseError::invalid("LABL", "spare bits are not zero"));
    }
    verify_fill(parsed, bytes)?;
    verify_labels(&labels)
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

fn verify_labels(labels: &Labels<'_>) -> Result<(), ParseError> {
    let width = Labels::sample_width(labels.n);
    let mut members = vec![0u64; labels.cells.len() - 1];
    for row in 0..labels.n {
        let label = labels.label(row) as usize;
        let Some(member) = members.get_mut(label) else {
            return Err(ParseError::invalid("LABL", format!("row {row} has anchor {label}, which does not exist")));
        };
        if *member % super::SELECT_STRIDE as u64 == 0 {
            let sample = (labels.samples_before[label] + *member / super::SELECT_STRIDE as u64) as usize;
            let stored = match labels.samples.get(sample * width..(sample + 1) * width) {
                Some(b) if width == 4 => u64::from(u32_at(b, 0)),
                Some(b) => u64_at(b, 0),
                None => u64::MAX,
            };
            if stored != row {
                return Err(ParseError::invalid("SLCT", format!("sample {sample} does not lead to row {row}")));
            }
        }
        *member += 1;
    }
    let expected = labels.cells.windows(2).map(|w| w[1] - w[0]);
    if members.iter().copied().eq(expected) {
        return Ok(());
    }
    Err(ParseError::invalid("CELL", "the cells do not have as many rows as there are labels"))
}
