//! A whole `.vlc` file, parsed and verified: `docs/format.md`, written from that text alone.

use crate::chain::CodeKind;
use crate::container;
use crate::model::{self, Chart, Meta, Side};
use crate::packed::Cursor;
use crate::rows;

/// Everything a file says, with every number of the model as an f64.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Section `META`.
    pub meta: Meta,
    /// d; zeros unless the metric is l2.
    pub center: Vec<f64>,
    /// d.
    pub mean: Vec<f64>,
    /// G.
    pub charts: Vec<Chart>,
    /// K: the chart of each anchor.
    pub chart_of: Vec<usize>,
    /// K, each with the `a` coordinates of its chart.
    pub anchors: Vec<Vec<f64>>,
    /// Factor levels and range of the gain.
    pub side: Side,
    /// The pairs of section `KEYV`.
    pub key_values: Vec<(String, String)>,
    /// K + 1: the first position of each cell, then n.
    pub cells: Vec<usize>,
    /// n: the anchor of each *row*.
    pub labels: Vec<usize>,
    /// n: the row at each position.
    pub row_at: Vec<usize>,
    /// n: the position of each row.
    pub position_of: Vec<usize>,
    /// n x T: the symbols at each *position*.
    pub symbols: Vec<Vec<u8>>,
    /// The factor code at each position; empty without a factor nibble.
    pub factor_codes: Vec<usize>,
    /// The gain code at each position; empty without gain nibbles.
    pub gain_codes: Vec<usize>,
}

/// Parses a file and checks all of it: header, table, hashes, padding, reserved bytes, sizes,
/// ranges, and that every row has one position. Bad bytes are an `Err`.
pub fn parse(bytes: &[u8]) -> Result<File, String> {
    let sections = container::sections(bytes)?;
    // `sections` has checked that the required ones are there.
    let section = |kind| container::find(&sections, kind).unwrap_or(&[]);

    let meta = model::meta(section(b"META"))?;
    let (center, mean) = model::mean(section(b"MEAN"), &meta)?;
    let charts = model::charts(section(b"CHRT"), &meta)?;
    let (chart_of, anchors) = model::anchors(section(b"ANCH"), &meta, &charts)?;
    let side = model::side(section(b"SIDE"), &meta)?;
    let key_values = match container::find(&sections, b"KEYV") {
        Some(bytes) => key_values(bytes)?,
        None => Vec::new(),
    };
    let cells = rows::cells(section(b"CELL"), &meta)?;
    // First ROWS: it bounds n.
    let row_at = rows::rows(section(b"ROWS"), &meta, &cells)?;
    let (mut labels, mut position_of) = (vec![0; meta.n], vec![0; meta.n]);
    for k in 0..meta.anchors {
        for position in cells[k]..cells[k + 1] {
            labels[row_at[position]] = k;
            position_of[row_at[position]] = position;
        }
    }
    let codes = codes(section(b"CODE"), &meta)?;
    Ok(File {
        meta,
        center,
        mean,
        charts,
        chart_of,
        anchors,
        side,
        key_values,
        cells,
        labels,
        row_at,
        position_of,
        symbols: codes.symbols,
        factor_codes: codes.factor,
        gain_codes: codes.gain,
    })
}

/// The codes of all positions.
struct Codes {
    symbols: Vec<Vec<u8>>,
    factor: Vec<usize>,
    gain: Vec<usize>,
}

/// Section 9: blocks of 32 positions, each a plane per symbol, then the side planes.
fn codes(bytes: &[u8], meta: &Meta) -> Result<Codes, String> {
    let mut at = Cursor::new("CODE", bytes);
    let mut codes = Codes { symbols: Vec::new(), factor: Vec::new(), gain: Vec::new() };
    for block in 0..meta.n.div_ceil(32) {
        let mut planes = Vec::new();
        for _ in 0..meta.symbols {
            planes.push(match meta.kind {
                CodeKind::Chain => nibbles(at.take(16)?),
                CodeKind::Pq8 => at.take(32)?.to_vec(),
            });
        }
        for _ in 0..meta.factor_nibbles + meta.gain_nibbles {
            planes.push(nibbles(at.take(16)?));
        }
        for i in 0..32 {
            let here: Vec<u8> = planes.iter().map(|plane| plane[i]).collect();
            if 32 * block + i >= meta.n {
                if here.iter().any(|&c| c != 0) {
                    return Err("CODE: the last block is not filled up with zeros".into());
                }
                continue;
            }
            let (symbols, sides) = here.split_at(meta.symbols);
            let (factor, gain) = sides.split_at(meta.factor_nibbles);
            codes.symbols.push(symbols.to_vec());
            codes.factor.extend(factor.iter().map(|&c| usize::from(c)));
            if !gain.is_empty() {
                // The least significant nibble is first.
                let code = gain.iter().rev().fold(0, |code, &c| 16 * code + usize::from(c));
                codes.gain.push(code);
            }
        }
    }
    at.end()?;
    Ok(codes)
}

/// The 32 nibbles of a plane of 16 bytes: byte i holds number i low and number 16 + i high.
fn nibbles(plane: &[u8]) -> Vec<u8> {
    let low = plane.iter().map(|byte| byte & 15);
    let high = plane.iter().map(|byte| byte >> 4);
    low.chain(high).collect()
}

/// Section 10: the pairs, keys ascending byte by byte and unique.
fn key_values(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let mut at = Cursor::new("KEYV", bytes);
    let mut pairs: Vec<(String, String)> = Vec::new();
    for _ in 0..at.u32()? {
        let (key, value) = (at.count32()?, at.count32()?);
        let mut text = |length| {
            let bytes = at.take(length)?.to_vec();
            String::from_utf8(bytes).map_err(|_| "KEYV: not UTF-8".to_string())
        };
        let (key, value) = (text(key)?, text(value)?);
        if pairs.last().is_some_and(|(before, _)| *before >= key) {
            return Err(format!("KEYV: key {key:?} is out of order"));
        }
        pairs.push((key, value));
    }
    at.end()?;
    Ok(pairs)
}
