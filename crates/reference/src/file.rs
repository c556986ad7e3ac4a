//! The model of a `.vlc` file with the rows of one segment: `docs/format.md`, sections 3 to 10,
//! written from that text alone.

use crate::{
    chain::CodeKind,
    container::Container,
    learned::{self, Learned},
    model::{self, Chart, Meta, Side},
    packed::Cursor,
    rows,
    store::Store,
};

/// A model, with every number of it as an f64, and the codes of some rows.
///
/// Rows are counted from the first of the segment. Where a segment has fewer rows than numbers
/// (n < s), `labels` and `position_of` of the missing ones mean nothing.
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
    /// The learned decoder, where there is one.
    pub learned: Option<Learned>,
    /// The pairs of section `KEYV`.
    pub key_values: Vec<(String, String)>,
    /// K + 1: the first position of each cell, then n.
    pub cells: Vec<usize>,
    /// s: the anchor of each *row*.
    pub labels: Vec<usize>,
    /// n: the row at each position.
    pub row_at: Vec<usize>,
    /// s: the position of each row.
    pub position_of: Vec<usize>,
    /// n x T: the symbols at each *position*.
    pub symbols: Vec<Vec<u8>>,
    /// The factor code at each position; empty without a factor nibble.
    pub factor_codes: Vec<usize>,
    /// The gain code at each position; empty without gain nibbles.
    pub gain_codes: Vec<usize>,
    /// Section `GAIN` of the segment: codes, first and last gain of each piece; empty where the scale of the model is used.
    pub gain_pieces: Vec<(usize, f64, f64)>,
}

/// Parses a file of one segment that has all its rows, and checks all of it: header, table,
/// hashes, padding, reserved bytes, sizes, ranges, and that every row has one position. Bad
/// bytes are an `Err`; so are files of another kind, which [`Store`] reads.
pub fn parse(bytes: &[u8]) -> Result<File, String> {
    Store::parse(bytes)?.into_file()
}

/// As [`parse`], for a file whose model is in another one.
pub fn parse_with_model(bytes: &[u8], model: &[u8]) -> Result<File, String> {
    Store::parse_with_model(bytes, model)?.into_file()
}

impl File {
    /// The model of a file, without rows. `other` is the file that has it, be it the same.
    pub fn model(container: &Container<'_>, other: &Container<'_>) -> Result<File, String> {
        let section = |kind| other.required(kind, 0);
        let meta = model::meta(container.required(b"META", 0)?, container.commit.version)?;
        let (center, mean) = model::mean(section(b"MEAN")?, &meta)?;
        let charts = model::charts(section(b"CHRT")?, &meta)?;
        let (chart_of, anchors) = model::anchors(section(b"ANCH")?, &meta, &charts)?;
        let side = model::side(section(b"SIDE")?, other.find(b"SCOR"), &meta)?;
        let learned = match (other.find(b"DECO"), charts.as_slice()) {
            (None, _) => None,
            (Some(bytes), [chart]) if meta.alpha.is_finite() => Some(learned::parse(bytes, chart.columns.len())?),
            _ => return Err("DECO: one chart and a finite alpha are expected beside it".into()),
        };
        if learned.is_some() && other.find(b"RFNM").is_some() {
            return Err("DECO beside RFNM".into());
        }
        if !side.weights.is_empty() && other.find(b"RFNM").is_some() {
            return Err("weights in SCOR beside RFNM".into());
        }
        Ok(File {
            cells: vec![0; meta.anchors + 1],
            meta,
            center,
            mean,
            charts,
            chart_of,
            anchors,
            side,
            learned,
            key_values: key_values(container)?,
            labels: Vec::new(),
            row_at: Vec::new(),
            position_of: Vec::new(),
            symbols: Vec::new(),
            factor_codes: Vec::new(),
            gain_codes: Vec::new(),
            gain_pieces: Vec::new(),
        })
    }

    /// This model with the n rows of a segment, whose numbers are below `span`.
    pub fn with_rows(
        &self,
        container: &Container<'_>,
        segment: usize,
        n: usize,
        span: usize,
    ) -> Result<File, String> {
        let mut file = self.clone();
        file.meta.n = n;
        file.cells = rows::cells(container.required(b"CELL", segment)?, self.meta.anchors, n)?;
        // First ROWS: it bounds n and the span.
        file.row_at = rows::rows(container.required(b"ROWS", segment)?, span, &file.cells)?;
        (file.labels, file.position_of) = (vec![0; span], vec![0; span]);
        for k in 0..self.meta.anchors {
            for position in file.cells[k]..file.cells[k + 1] {
                file.labels[file.row_at[position]] = k;
                file.position_of[file.row_at[position]] = position;
            }
        }
        if let Some(bytes) = container.of_segment(b"GAIN", segment) {
            file.gain_pieces = rows::gain_pieces(bytes, self.meta.gain_nibbles)?;
        }
        file.codes(container.required(b"CODE", segment)?)?;
        Ok(file)
    }

    /// Section 9: blocks of 32 positions, each a plane per symbol, then the side planes.
    fn codes(&mut self, bytes: &[u8]) -> Result<(), String> {
        let meta = &self.meta;
        let mut at = Cursor::new("CODE", bytes);
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
                self.symbols.push(symbols.to_vec());
                // The least significant nibble is first.
                let code = |nibbles: &[u8]| nibbles.iter().rev().fold(0, |code, &c| 16 * code + usize::from(c));
                if !factor.is_empty() {
                    self.factor_codes.push(code(factor));
                }
                if !gain.is_empty() {
                    self.gain_codes.push(code(gain));
                }
            }
        }
        at.end()
    }
}

/// The 32 nibbles of a plane of 16 bytes: byte i holds number i low and number 16 + i high.
fn nibbles(plane: &[u8]) -> Vec<u8> {
    let low = plane.iter().map(|byte| byte & 15);
    let high = plane.iter().map(|byte| byte >> 4);
    low.chain(high).collect()
}

/// Section 10: the pairs, keys ascending byte by byte and unique; none where there is no section.
fn key_values(container: &Container<'_>) -> Result<Vec<(String, String)>, String> {
    let Some(bytes) = container.find(b"KEYV") else {
        return Ok(Vec::new());
    };
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
