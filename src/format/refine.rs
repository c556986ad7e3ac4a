//! The refine layer: sections `RFNM` and `RFNC` (docs/format.md, section 14).

use super::{
    bits::u32_at,
    meta::{Meta, most_symbols},
    model::{Reader, chart_bytes, parse_chart, put_f32s},
};
use crate::{
    error::ParseError,
    model::{kinds::CodeKind, refine::Refine},
};

const PART: &str = "RFNM";
/// Symbols there can be, as for the codes that are scanned.
pub(crate) const MOST_SYMBOLS: usize = 65_536;

/// Section `RFNM`.
pub(crate) fn refine_bytes(refine: &Refine) -> Vec<u8> {
    let mut out = (refine.symbols() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&[refine.chart().code.lags as u8, 0, 0, 0]);
    put_f32s(&[refine.alpha()], &mut out);
    put_f32s(refine.factors(), &mut out);
    chart_bytes(refine.chart(), &mut out);
    out
}

pub(super) fn parse(bytes: &[u8], meta: &Meta) -> Result<Refine, ParseError> {
    let mut r = Reader::new(PART, bytes);
    let head = r.take(8)?;
    let (symbols, lags) = (u32_at(head, 0), head[4]);
    if !(1..=most_symbols(meta.dim)).contains(&symbols.into()) || lags > 7 || head[5..].iter().any(|&b| b != 0) {
        return Err(ParseError::invalid(PART, format!("{symbols} symbols and {lags} lags are not allowed")));
    }
    let alpha = r.f32s(1)?[0];
    let factors = r.f32s(16)?;
    let code = Meta { kind: CodeKind::Chain, symbols, lags, ..meta.clone() };
    let chart = parse_chart(&mut r, &code)?;
    r.end()?;
    Ok(Refine::new(meta.metric, meta.dim as usize, chart, factors, alpha))
}

/// Section `RFNC`: further codes of the rows of a segment, by position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefineRows<'a> {
    /// Bytes of a row's symbols.
    pub(super) width: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> RefineRows<'a> {
    /// Bytes of the section for n rows.
    pub(super) fn len(n: u64, width: usize) -> u64 {
        n * width as u64 + n.div_ceil(2)
    }

    /// Where the pair of a position starts.
    fn pair(&self, position: u64) -> usize {
        (position / 2) as usize * (2 * self.width + 1)
    }

    /// The symbols of the row at a position, as [`pack`](crate::model::packed::pack) has them.
    pub(crate) fn packed(&self, position: u64) -> &'a [u8] {
        let at = self.pair(position) + 1 + (position % 2) as usize * self.width;
        &self.bytes[at..at + self.width]
    }

    /// Its factor code.
    pub(crate) fn factor(&self, position: u64) -> u8 {
        self.bytes[self.pair(position)] >> (4 * (position % 2)) & 15
    }

    /// Checks that spare nibbles are zero.
    pub(super) fn verify(&self, n: u64, symbols: usize) -> Result<(), ParseError> {
        let symbols_fill = symbols % 2 == 1 && (0..n).any(|p| self.packed(p).last().is_some_and(|b| b >> 4 != 0));
        let factor_fill = n % 2 == 1 && self.bytes[self.pair(n - 1)] >> 4 != 0;
        if symbols_fill || factor_fill {
            return Err(ParseError::invalid("RFNC", "spare bits are not zero"));
        }
        Ok(())
    }
}

/// Appends the rows of an even number of positions, or the last ones of a section: symbols and factor code of each.
pub(crate) fn put_refine_rows<'a>(rows: impl Iterator<Item = (&'a [u8], u8)>, out: &mut Vec<u8>) {
    let mut first = 0;
    for (i, (packed, factor)) in rows.enumerate() {
        if i % 2 == 0 {
            first = out.len();
            out.push(factor & 15);
        } else {
            out[first] |= factor << 4;
        }
        out.extend_from_slice(packed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        for (n, width) in [(0usize, 3), (1, 3), (2, 1), (7, 4), (8, 5)] {
            let row = |i: usize| -> Vec<u8> { (0..width).map(|b| (i * 31 + b * 7 + 1) as u8).collect() };
            let all: Vec<Vec<u8>> = (0..n).map(row).collect();
            let mut bytes = Vec::new();
            put_refine_rows(all.iter().enumerate().map(|(i, row)| (row.as_slice(), (i * 5 % 16) as u8)), &mut bytes);
            assert_eq!(bytes.len() as u64, RefineRows::len(n as u64, width));
            let rows = RefineRows { width, bytes: &bytes };
            for (i, row) in all.iter().enumerate() {
                assert_eq!((rows.packed(i as u64), rows.factor(i as u64)), (row.as_slice(), (i * 5 % 16) as u8));
            }
            rows.verify(n as u64, 2 * width).unwrap();
        }
    }

    #[test]
    fn spare_bits_are_found() {
        let odd = [3u8, 0x21, 0x03];
        RefineRows { width: 2, bytes: &odd }.verify(1, 3).unwrap();
        assert!(RefineRows { width: 2, bytes: &[0x13, 0x21, 0x03] }.verify(1, 4).is_err(), "behind the last factor");
        assert!(RefineRows { width: 2, bytes: &[3, 0x21, 0x13] }.verify(1, 3).is_err(), "behind the last symbol");
    }
}
