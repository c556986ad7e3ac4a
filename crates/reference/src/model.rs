//! The sections shared by all rows: `docs/format.md`, sections 3 to 7.

use crate::{
    chain::{Code, CodeKind},
    distance::Metric,
    packed::Cursor,
};

/// The oracle keeps every number of a model as an f64; a model of more numbers than this (1 GiB
/// of f64) is not for it. Without the limit, anchors of 0 bits would be a small file that
/// needs any amount of memory.
pub const LIMIT: usize = 1 << 27;

/// Section `META`.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Rows of the segment.
    pub n: usize,
    /// Dimensions.
    pub d: usize,
    /// Cosine, dot or l2.
    pub metric: Metric,
    /// Chain or pq8.
    pub kind: CodeKind,
    /// m: how many earlier symbols a codeword depends on.
    pub lags: usize,
    /// K.
    pub anchors: usize,
    /// G.
    pub charts: usize,
    /// T: symbols per row.
    pub symbols: usize,
    /// 4-bit codes of the score factor per row: 0 to 2.
    pub factor_nibbles: usize,
    /// 4-bit codes of the gain per row: 0 to 3.
    pub gain_nibbles: usize,
    /// Mean squared error of the decoded training rows.
    pub energy: f64,
    /// The same when only the anchor is kept.
    pub anchor_energy: f64,
    /// Measured on held-out queries; NaN when it was not.
    pub recall: f64,
    /// The k of the recall.
    pub recall_k: u32,
    /// The number of queries it was measured on.
    pub recall_queries: u32,
    /// 0 none, 1 sample queries, 2 rows of the store.
    pub query_source: u32,
    /// The seed of the training.
    pub seed: u64,
    /// How many rows it was trained on.
    pub training_rows: u64,
    /// Exponent of the score factor.
    pub alpha: f64,
    /// Cells that automatic probing looks at for 10 and for 100 hits; 0 when it was not measured.
    pub probe_cells: [u32; 2],
}

/// One chart of section `CHRT`: y -> mean + sum over j of y_j b_j.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// From symbols to y.
    pub code: Code,
    /// a x d: `columns[j]` is b_j.
    pub columns: Vec<Vec<f64>>,
}

/// Sections `SIDE` and `SCOR`.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// 16 factor levels, or 256 with two nibbles; empty without a factor nibble.
    pub factor_levels: Vec<f64>,
    /// As many weights of the codeword; empty where they are 1.
    pub weights: Vec<f64>,
    /// As many lengths of what a learned decoder adds to the anchor; empty where it is taken as it is.
    pub reaches: Vec<f64>,
    /// lo and hi of the gain; none without gain nibbles.
    pub gain_range: Option<(f64, f64)>,
    /// The gain of all rows, without gain nibbles.
    pub one_gain: f64,
}

/// Section 3. Checks every range of the table. In version 1 it starts with the number of rows;
/// otherwise n is 0 here.
pub fn meta(bytes: &[u8], version: u32) -> Result<Meta, String> {
    let mut at = Cursor::new("META", bytes);
    let n = match version {
        1 => within("n", at.count64()?, 1, 1 << 40)?,
        _ => within("reserved", at.count64()?, 0, 0)?,
    };
    let d = within("d", at.count32()?, 1, 65_536)?;
    let metric = match at.u8()? {
        0 => Metric::Cosine,
        1 => Metric::Dot,
        2 => Metric::L2,
        other => return Err(format!("META: metric {other} is unknown")),
    };
    let kind = match at.u8()? {
        0 => CodeKind::Chain,
        1 => CodeKind::Pq8,
        other => return Err(format!("META: code kind {other} is unknown")),
    };
    let lags = within("lags", at.u8()?, 0, if kind == CodeKind::Chain { 7 } else { 0 })?;
    at.zeros(1)?;
    let anchors = within("anchors", at.count32()?, 1, 65_536)?;
    let charts = within("charts", at.count32()?, 1, 256)?;
    let symbols = within("symbols", at.count32()?, 0, 65_536)?;
    let factor_nibbles = within("factor nibbles", at.u8()?, 0, 2)?;
    let most = if metric == Metric::Cosine { 0 } else { 3 };
    let gain_nibbles = within("gain nibbles", at.u8()?, 0, most)?;
    at.zeros(2)?;
    let meta = Meta {
        n,
        d,
        metric,
        kind,
        lags,
        anchors,
        charts,
        symbols,
        factor_nibbles,
        gain_nibbles,
        energy: at.f64()?,
        anchor_energy: at.f64()?,
        recall: at.f32()?,
        recall_k: at.u32()?,
        recall_queries: at.u32()?,
        query_source: at.u32()?,
        seed: at.u64()?,
        training_rows: at.u64()?,
        alpha: at.f32()?,
        probe_cells: [at.u32()?, at.u32()?],
    };
    within("query source", meta.query_source as usize, 0, 2)?;
    at.zeros(36)?;
    at.end()?;
    Ok(meta)
}

fn within(name: &str, value: usize, low: usize, high: usize) -> Result<usize, String> {
    if value < low || value > high {
        return Err(format!("META: {name} is {value}, {low} to {high} expected"));
    }
    Ok(value)
}

/// Section 4: center (zeros unless the metric is l2) and mean, d numbers each.
pub fn mean(bytes: &[u8], meta: &Meta) -> Result<(Vec<f64>, Vec<f64>), String> {
    let mut at = Cursor::new("MEAN", bytes);
    let center = match meta.metric {
        Metric::L2 => at.f32s(meta.d)?,
        Metric::Cosine | Metric::Dot => vec![0.0; meta.d],
    };
    let mean = at.f32s(meta.d)?;
    at.end()?;
    Ok((center, mean))
}

/// Section 5: the G charts. `b_j[i] = scale_j (q - (2^bits_j - 1) / 2)`, a table's entry is
/// `scale_j q`.
pub fn charts(bytes: &[u8], meta: &Meta) -> Result<Vec<Chart>, String> {
    let table_len = match meta.kind {
        CodeKind::Chain => 16 * (meta.lags + 1),
        CodeKind::Pq8 => 256,
    };
    let mut at = Cursor::new("CHRT", bytes);
    let mut charts = Vec::new();
    let mut numbers = 0;
    for _ in 0..meta.charts {
        let start = at.at();
        let active = at.count32()?;
        if active > meta.d {
            return Err(format!("CHRT: {active} directions of {} dimensions", meta.d));
        }
        let length = at.count32()?;
        let mut widths = Vec::new();
        for _ in 0..meta.symbols {
            widths.push(at.u16()?);
        }
        if widths.iter().sum::<usize>() != active {
            return Err(format!("CHRT: the widths do not add up to {active}"));
        }
        numbers += active * (meta.d + table_len);
        if numbers > LIMIT {
            return Err("CHRT: too many numbers for the oracle".into());
        }
        let scale = at.f32s(active)?;
        let bits = at.take(active)?;
        let mut columns = Vec::new();
        for j in 0..active {
            let bits = usize::from(bits[j]);
            if !(1..=16).contains(&bits) {
                return Err(format!("CHRT: a column of {bits} bits"));
            }
            let middle = ((1_u32 << bits) - 1) as f64 / 2.0;
            let mut column = Vec::new();
            for q in at.packed(bits, meta.d)? {
                column.push(scale[j] * (f64::from(q) - middle));
            }
            columns.push(column);
        }
        let scale = at.f32s(active)?;
        let mut tables = Vec::new();
        for j in 0..active {
            let mut table = Vec::new();
            for &q in at.take(table_len)? {
                table.push(scale[j] * f64::from(q as i8));
            }
            tables.push(table);
        }
        at.pad(4)?;
        if at.at() - start != length {
            return Err(format!("CHRT: {} bytes, its length says {length}", at.at() - start));
        }
        let (kind, lags) = (meta.kind, meta.lags);
        let code = Code { kind, lags, widths, tables };
        charts.push(Chart { code, columns });
    }
    at.end()?;
    Ok(charts)
}

/// Section 6: the chart of every anchor, and the anchors, each with the `a` coordinates of its
/// chart: anchor_kj = offset_j + scale_j q.
pub fn anchors(bytes: &[u8], meta: &Meta, charts: &[Chart]) -> Result<(Vec<usize>, Vec<Vec<f64>>), String> {
    let mut at = Cursor::new("ANCH", bytes);
    let mut chart_of = Vec::new();
    for _ in 0..meta.anchors {
        let chart = at.u8()?;
        if chart >= charts.len() {
            return Err(format!("ANCH: there is no chart {chart}"));
        }
        chart_of.push(chart);
    }
    at.pad(4)?;
    let mut anchors = vec![Vec::new(); meta.anchors];
    let mut numbers = 0;
    for g in 0..charts.len() {
        let active = charts[g].columns.len();
        let of_chart: Vec<usize> = (0..meta.anchors).filter(|&k| chart_of[k] == g).collect();
        numbers += active * of_chart.len();
        if numbers > LIMIT {
            return Err("ANCH: too many numbers for the oracle".into());
        }
        let offset = at.f32s(active)?;
        let scale = at.f32s(active)?;
        let bits = at.take(active)?;
        for j in 0..active {
            let packed = at.packed(usize::from(bits[j]), of_chart.len())?;
            for (i, &k) in of_chart.iter().enumerate() {
                anchors[k].push(offset[j] + scale[j] * f64::from(packed[i]));
            }
        }
        // Read as: every chart is padded, so that the floats of the next one are aligned.
        at.pad(4)?;
    }
    at.end()?;
    Ok((chart_of, anchors))
}

/// Section 7: the levels of the score factor and the range of the gain; then what `SCOR` adds.
pub fn side(bytes: &[u8], score: Option<&[u8]>, meta: &Meta) -> Result<Side, String> {
    let mut at = Cursor::new("SIDE", bytes);
    let levels = if meta.factor_nibbles == 0 { 0 } else { 16_usize.pow(meta.factor_nibbles as u32) };
    let factor_levels = at.f32s(levels)?;
    let gain_range = if meta.gain_nibbles > 0 { Some((at.f32()?, at.f32()?)) } else { None };
    at.end()?;
    let mut side = Side { factor_levels, weights: Vec::new(), reaches: Vec::new(), gain_range, one_gain: 1.0 };
    // Only there may rows of other metrics than the cosine be without gains.
    let one_gain = meta.metric != Metric::Cosine && meta.gain_nibbles == 0;
    let Some(bytes) = score else {
        if one_gain || meta.factor_nibbles > 1 {
            return Err("META: its nibbles take a section SCOR".into());
        }
        return Ok(side);
    };
    let mut at = Cursor::new("SCOR", bytes);
    let (gain, tables) = (at.f32()?, at.u32()?);
    // What an error of a factor or a weight costs, for writers.
    at.f32s(3)?;
    if one_gain != (gain > 0.0) || !gain.is_finite() || gain < 0.0 {
        return Err(format!("SCOR: a gain of {gain}"));
    }
    if tables > 3 || tables > 0 && levels == 0 {
        return Err(format!("SCOR: tables {tables:#x} for {levels} codes"));
    }
    if one_gain {
        side.one_gain = gain;
    }
    if tables & 1 == 1 {
        side.weights = at.f32s(levels)?;
    }
    if tables & 2 == 2 {
        side.reaches = at.f32s(levels)?;
    }
    if side.weights.iter().chain(&side.reaches).any(|value| !value.is_finite()) {
        return Err("SCOR: a value is not finite".into());
    }
    if side.reaches.iter().any(|&reach| reach < 0.0) {
        return Err("SCOR: a reach below 0".into());
    }
    at.end()?;
    Ok(side)
}
