//! The fixed facts of a file (docs/format.md, section 3).

use super::bits::{u32_at, u64_at};
use crate::{
    error::ParseError,
    model::kinds::{CodeKind, Metric},
};

pub(crate) const META_LEN: usize = 128;
/// Rows a file may have at most. They are counted in `usize`, which has 32 bits in a browser.
pub(crate) const MOST_ROWS: u64 = if usize::BITS < 64 { u32::MAX as u64 } else { 1 << 40 };
const RESERVED: std::ops::Range<usize> = 92..META_LEN;

/// Symbols a row may have: more could not act, as each does through at most eight lags.
pub(crate) fn most_symbols(dim: u32) -> u64 {
    (8 * u64::from(dim)).min(65_536)
}

/// Section `META`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Meta {
    pub(crate) dim: u32,
    pub(crate) metric: Metric,
    pub(crate) kind: CodeKind,
    pub(crate) lags: u8,
    pub(crate) anchors: u32,
    pub(crate) charts: u32,
    pub(crate) symbols: u32,
    pub(crate) factor_nibbles: u8,
    pub(crate) gain_nibbles: u8,
    pub(crate) energy: f64,
    pub(crate) anchor_energy: f64,
    /// NaN when it was not measured.
    pub(crate) recall: f32,
    pub(crate) recall_k: u32,
    pub(crate) recall_queries: u32,
    pub(crate) query_source: u32,
    pub(crate) seed: u64,
    pub(crate) training_rows: u64,
    pub(crate) alpha: f32,
    /// Cells to look at for the two numbers of hits of [`crate::search::probe::MEASURED`]; 0 when it was not measured.
    pub(crate) probe_cells: [u32; 2],
}

impl Meta {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(META_LEN);
        // The rows, in version 1.
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.dim.to_le_bytes());
        out.push(match self.metric {
            Metric::Cosine => 0,
            Metric::Dot => 1,
            Metric::L2 => 2,
        });
        out.push(match self.kind {
            CodeKind::Chain => 0,
            CodeKind::Pq8 => 1,
        });
        out.push(self.lags);
        out.push(0);
        for v in [self.anchors, self.charts, self.symbols] {
            out.extend_from_slice(&v.to_le_bytes());
        }
        out.extend_from_slice(&[self.factor_nibbles, self.gain_nibbles, 0, 0]);
        out.extend_from_slice(&self.energy.to_le_bytes());
        out.extend_from_slice(&self.anchor_energy.to_le_bytes());
        out.extend_from_slice(&self.recall.to_le_bytes());
        for v in [self.recall_k, self.recall_queries, self.query_source] {
            out.extend_from_slice(&v.to_le_bytes());
        }
        out.extend_from_slice(&self.seed.to_le_bytes());
        out.extend_from_slice(&self.training_rows.to_le_bytes());
        out.extend_from_slice(&self.alpha.to_le_bytes());
        for v in self.probe_cells {
            out.extend_from_slice(&v.to_le_bytes());
        }
        out.resize(META_LEN, 0);
        out
    }

    /// The facts, and the number of rows that version 1 has among them.
    pub(crate) fn parse(b: &[u8], version: u32) -> Result<(Meta, u64), ParseError> {
        let bad = |message: String| ParseError::invalid("META", message);
        if b.len() != META_LEN {
            return Err(bad(format!("{} bytes instead of {META_LEN}", b.len())));
        }
        if [b[15], b[30], b[31]].iter().chain(&b[RESERVED]).any(|&byte| byte != 0) {
            return Err(bad("reserved bytes are not zero".into()));
        }
        let n = u64_at(b, 0);
        let meta = Meta {
            dim: u32_at(b, 8),
            metric: match b[12] {
                0 => Metric::Cosine,
                1 => Metric::Dot,
                2 => Metric::L2,
                other => return Err(bad(format!("metric {other} is unknown"))),
            },
            kind: match b[13] {
                0 => CodeKind::Chain,
                1 => CodeKind::Pq8,
                other => return Err(bad(format!("code kind {other} is unknown"))),
            },
            lags: b[14],
            anchors: u32_at(b, 16),
            charts: u32_at(b, 20),
            symbols: u32_at(b, 24),
            factor_nibbles: b[28],
            gain_nibbles: b[29],
            energy: f64::from_bits(u64_at(b, 32)),
            anchor_energy: f64::from_bits(u64_at(b, 40)),
            recall: f32::from_bits(u32_at(b, 48)),
            recall_k: u32_at(b, 52),
            recall_queries: u32_at(b, 56),
            query_source: u32_at(b, 60),
            seed: u64_at(b, 64),
            training_rows: u64_at(b, 72),
            alpha: f32::from_bits(u32_at(b, 80)),
            probe_cells: [u32_at(b, 84), u32_at(b, 88)],
        };
        let within = |what: &str, value: u64, lo: u64, hi: u64| {
            if (lo..=hi).contains(&value) {
                Ok(())
            } else {
                Err(bad(format!("{what} is {value}; {lo} to {hi} are allowed")))
            }
        };
        let (least, most) = if version == 1 { (1, MOST_ROWS) } else { (0, 0) };
        within("n", n, least, most)?;
        within("d", meta.dim.into(), 1, 65_536)?;
        within("anchors", meta.anchors.into(), 1, 65_536)?;
        within("charts", meta.charts.into(), 1, 256)?;
        within("symbols", meta.symbols.into(), 0, most_symbols(meta.dim))?;
        within("lags", meta.lags.into(), 0, if meta.kind == CodeKind::Chain { 7 } else { 0 })?;
        within("factor nibbles", meta.factor_nibbles.into(), 0, 2)?;
        within("gain nibbles", meta.gain_nibbles.into(), 0, 3)?;
        within("query source", meta.query_source.into(), 0, 2)?;
        // Of other metrics `SCOR` may say that all rows have one gain.
        if meta.metric == Metric::Cosine && meta.gain_nibbles > 0 {
            return Err(bad("gain nibbles and metric do not fit".into()));
        }
        Ok((meta, n))
    }
}
