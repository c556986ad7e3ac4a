//! The model sections `MEAN`, `CHRT`, `ANCH` and `SIDE` (docs/format.md, sections 4 to 7).

use super::{
    bits::{pack, packed_len, spare_bits_are_zero, u32_at, unpack_one},
    meta::Meta,
};
use crate::{
    error::ParseError,
    model::{Chart, Code, Model, Quantized, Side, kinds::Metric, symmetric_offset},
};

pub(super) fn put_f32s(values: &[f32], out: &mut Vec<u8>) {
    for v in values {
        out.extend_from_slice(&v.to_le_bytes());
    }
}

pub(super) fn align4(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn put_columns(q: &Quantized, out: &mut Vec<u8>) {
    for (j, &bits) in q.bits.iter().enumerate() {
        pack(q.codes[j * q.len..(j + 1) * q.len].iter().map(|&c| u32::from(c)), bits, out);
    }
}

pub(crate) fn mean_bytes(model: &Model) -> Vec<u8> {
    let mut out = Vec::new();
    if model.metric == Metric::L2 {
        put_f32s(&model.center, &mut out);
    }
    put_f32s(&model.mean, &mut out);
    out
}

pub(crate) fn charts_bytes(model: &Model) -> Vec<u8> {
    let mut out = Vec::new();
    model.charts.iter().for_each(|chart| chart_bytes(chart, &mut out));
    out
}

/// Appends a chart, where a multiple of 4 bytes stands before it.
pub(super) fn chart_bytes(chart: &Chart, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&(chart.active() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for w in &chart.code.widths {
        out.extend_from_slice(&w.to_le_bytes());
    }
    put_f32s(&chart.decoder.scale, out);
    out.extend_from_slice(&chart.decoder.bits);
    put_columns(&chart.decoder, out);
    put_f32s(&chart.code.scale, out);
    out.extend_from_slice(bytemuck::cast_slice(&chart.code.table_codes));
    align4(out);
    let len = (out.len() - start) as u32;
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
}

pub(crate) fn anchors_bytes(model: &Model) -> Vec<u8> {
    let mut out = model.anchor_chart.clone();
    align4(&mut out);
    for chart in &model.charts {
        put_f32s(&chart.anchors.offset, &mut out);
        put_f32s(&chart.anchors.scale, &mut out);
        out.extend_from_slice(&chart.anchors.bits);
        put_columns(&chart.anchors, &mut out);
        align4(&mut out);
    }
    out
}

pub(crate) fn side_bytes(side: &Side) -> Vec<u8> {
    let mut out = Vec::new();
    put_f32s(&side.factors, &mut out);
    if side.gain_nibbles > 0 {
        put_f32s(&[side.gain_range.0, side.gain_range.1], &mut out);
    }
    out
}

/// Reads a section front to back; every length is checked against what is left before anything is allocated.
pub(super) struct Reader<'a> {
    part: &'static str,
    bytes: &'a [u8],
    at: usize,
    /// Packed values so far, and their bytes.
    values: u64,
    packed: u64,
}

/// Packed values of a section beyond which four to a byte are allowed: unpacked they take 32 times as much as one of a bit.
const FREE_VALUES: u64 = 1 << 21;
const VALUES_TO_A_BYTE: u64 = 4;

impl<'a> Reader<'a> {
    pub(super) fn new(part: &'static str, bytes: &'a [u8]) -> Self {
        Reader { part, bytes, at: 0, values: 0, packed: 0 }
    }

    fn bad(&self, message: impl Into<String>) -> ParseError {
        ParseError::invalid(self.part, message)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], ParseError> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.bad("ends before its contents do"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// Floats of two bytes.
    pub(super) fn halves(&mut self, count: usize) -> Result<Vec<f32>, ParseError> {
        let bytes = self.take(count.checked_mul(2).ok_or_else(|| self.bad("too large"))?)?;
        let values: Vec<f32> =
            bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(self.bad("holds a value that is not finite"));
        }
        Ok(values)
    }

    pub(super) fn f32s(&mut self, count: usize) -> Result<Vec<f32>, ParseError> {
        let bytes = self.take(count.checked_mul(4).ok_or_else(|| self.bad("too large"))?)?;
        let values: Vec<f32> = (0..count).map(|i| f32::from_bits(u32_at(bytes, 4 * i))).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(self.bad("holds a value that is not finite"));
        }
        Ok(values)
    }

    pub(super) fn columns(&mut self, bits: &[u8], len: usize) -> Result<Vec<u16>, ParseError> {
        // In 64 bits, which it fits whatever the file says.
        let total: u64 = bits.iter().map(|&b| packed_len(len, b) as u64).sum();
        if total > (self.bytes.len() - self.at) as u64 {
            return Err(self.bad("ends before its contents do"));
        }
        self.values += bits.len() as u64 * len as u64;
        self.packed += total;
        if self.values > FREE_VALUES + VALUES_TO_A_BYTE * self.packed {
            let message = format!(
                "{} values in {} bytes: of so many, {VALUES_TO_A_BYTE} to a byte are allowed",
                self.values, self.packed
            );
            return Err(self.bad(message));
        }
        let mut codes = Vec::with_capacity(bits.len() * len);
        for &b in bits {
            let column = self.take(packed_len(len, b))?;
            if !spare_bits_are_zero(column, b, len) {
                return Err(self.bad("spare bits are not zero"));
            }
            codes.extend((0..len).map(|i| unpack_one(column, b, i) as u16));
        }
        Ok(codes)
    }

    fn align4(&mut self, start: usize) -> Result<(), ParseError> {
        let pad = (self.at - start).next_multiple_of(4) - (self.at - start);
        if self.take(pad)?.iter().any(|&b| b != 0) {
            return Err(self.bad("padding is not zero"));
        }
        Ok(())
    }

    pub(super) fn end(&self) -> Result<(), ParseError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.bad("goes on after its contents")) }
    }
}

pub(super) fn parse_chart(r: &mut Reader<'_>, meta: &Meta) -> Result<Chart, ParseError> {
    let (start, dim, symbols) = (r.at, meta.dim as usize, meta.symbols as usize);
    let head = r.take(8)?;
    let (active, len) = (u32_at(head, 0) as usize, u32_at(head, 4) as usize);
    if active > dim {
        return Err(r.bad(format!("{active} directions of {dim} dimensions")));
    }
    let widths: Vec<u16> = r.take(2 * symbols)?.chunks_exact(2).map(|w| u16::from_le_bytes([w[0], w[1]])).collect();
    if widths.iter().map(|&w| usize::from(w)).sum::<usize>() != active {
        return Err(r.bad("the widths do not add up to the number of directions"));
    }
    let scale = r.f32s(active)?;
    let bits = r.take(active)?.to_vec();
    if bits.iter().any(|b| !(1..=16).contains(b)) {
        return Err(r.bad("column bits out of range"));
    }
    let codes = r.columns(&bits, dim)?;
    let offset = scale.iter().zip(&bits).map(|(&s, &b)| symmetric_offset(s, b)).collect();
    let decoder = Quantized { len: dim, bits, scale, offset, codes };
    let mut code = Code {
        kind: meta.kind,
        lags: meta.lags.into(),
        widths,
        scale: r.f32s(active)?,
        table_codes: Vec::new(),
        tables: Vec::new(),
    };
    code.table_codes = bytemuck::cast_slice(r.take(active * code.entries())?).to_vec();
    for (direction, &scale) in code.table_codes.chunks_exact(code.entries()).zip(&code.scale) {
        code.tables.extend(direction.iter().map(|&q| scale * f32::from(q)));
    }
    r.align4(start)?;
    if r.at - start != len {
        return Err(r.bad("a chart's length does not fit its contents"));
    }
    Ok(Chart { decoder, code, anchors: Quantized::default() })
}

fn parse_side(bytes: &[u8], meta: &Meta) -> Result<Side, ParseError> {
    let mut r = Reader::new("SIDE", bytes);
    let levels = if meta.factor_nibbles == 0 { 0 } else { 1 << (4 * meta.factor_nibbles) };
    let factors = r.f32s(levels)?;
    let mut gain_range = (1.0, 1.0);
    if meta.gain_nibbles > 0 {
        let range = r.f32s(2)?;
        gain_range = (range[0], range[1]);
        if !(range[0] > 0.0 && range[1] >= range[0]) {
            return Err(r.bad("the range of the gain is empty"));
        }
    }
    r.end()?;
    Ok(Side { factors, gain_nibbles: meta.gain_nibbles, gain_range, ..Side::default() })
}

/// Reads the model from its four sections; what `SCOR` says of its `Side` comes after ([`complete`](super::score::complete)).
pub(crate) fn parse(meta: &Meta, base: [&[u8]; 4]) -> Result<Model, ParseError> {
    let [mean, charts, anchors, side] = base;
    let (dim, count) = (meta.dim as usize, meta.anchors as usize);
    let mut r = Reader::new("MEAN", mean);
    let center = if meta.metric == Metric::L2 { r.f32s(dim)? } else { vec![0.0; dim] };
    let mean = r.f32s(dim)?;
    r.end()?;

    let mut r = Reader::new("CHRT", charts);
    let mut list = Vec::new();
    for _ in 0..meta.charts {
        list.push(parse_chart(&mut r, meta)?);
    }
    r.end()?;

    let mut r = Reader::new("ANCH", anchors);
    let anchor_chart = r.take(count)?.to_vec();
    r.align4(0)?;
    let mut members = vec![0usize; list.len()];
    for &g in &anchor_chart {
        match members.get_mut(usize::from(g)) {
            Some(m) => *m += 1,
            None => return Err(r.bad(format!("an anchor belongs to chart {g}, which does not exist"))),
        }
    }
    for (chart, &len) in list.iter_mut().zip(&members) {
        let start = r.at;
        let active = chart.active();
        let offset = r.f32s(active)?;
        let scale = r.f32s(active)?;
        let bits = r.take(active)?.to_vec();
        // At least one bit, so that what is allocated is bounded by the bytes there are.
        if bits.iter().any(|b| !(1..=16).contains(b)) {
            return Err(r.bad("direction bits out of range"));
        }
        let codes = r.columns(&bits, len)?;
        r.align4(start)?;
        chart.anchors = Quantized { len, bits, scale, offset, codes };
    }
    r.end()?;
    let side = parse_side(side, meta)?;
    Ok(Model { metric: meta.metric, dim, center, mean, charts: list, anchor_chart, side })
}
