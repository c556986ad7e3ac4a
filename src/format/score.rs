//! What a score takes beside factor levels and a scale of gains (docs/format.md, section 7).

use super::{
    bits::u32_at,
    meta::Meta,
    model::{Reader, put_f32s},
};
use crate::{
    error::ParseError,
    model::{Side, kinds::Metric},
};

/// Section `SCOR`.
pub(crate) const KIND: [u8; 4] = *b"SCOR";
/// Bytes before its tables.
pub(crate) const HEAD: usize = 20;
const WEIGHTS: u32 = 1 << 0;
const REACHES: u32 = 1 << 1;

/// The section of a model, where it needs one.
pub(crate) fn score_bytes(side: &Side, metric: Metric) -> Option<Vec<u8>> {
    let one_gain = metric != Metric::Cosine && side.gain_nibbles == 0;
    if !one_gain && side.factors.len() <= 16 && side.weights.is_empty() && side.reaches.is_empty() {
        return None;
    }
    let flag = |table: &[f32], flag: u32| if table.is_empty() { 0 } else { flag };
    let mut out = Vec::new();
    put_f32s(&[if one_gain { side.gain_range.0 } else { 0.0 }], &mut out);
    out.extend_from_slice(&(flag(&side.weights, WEIGHTS) | flag(&side.reaches, REACHES)).to_le_bytes());
    put_f32s(&side.costs, &mut out);
    put_f32s(&side.weights, &mut out);
    put_f32s(&side.reaches, &mut out);
    Some(out)
}

/// Completes what `SIDE` says.
pub(super) fn complete(side: &mut Side, bytes: Option<&[u8]>, meta: &Meta) -> Result<(), ParseError> {
    let one_gain = meta.metric != Metric::Cosine && meta.gain_nibbles == 0;
    let Some(bytes) = bytes else {
        return match (one_gain, meta.factor_nibbles) {
            (true, _) => Err(ParseError::invalid("META", "gain nibbles and metric do not fit")),
            (false, 2..) => Err(ParseError::invalid("META", "two factor nibbles without a section SCOR")),
            _ => Ok(()),
        };
    };
    let mut r = Reader::new("SCOR", bytes);
    let head = r.take(HEAD)?;
    let (gain, tables) = (f32::from_bits(u32_at(head, 0)), u32_at(head, 4));
    let bad = |what: &str| Err(ParseError::invalid("SCOR", what));
    if one_gain && !(gain > 0.0 && gain.is_finite()) || !one_gain && gain != 0.0 {
        return bad("the gain of all rows does not fit the metric");
    }
    if tables & !(WEIGHTS | REACHES) != 0 {
        return bad("it has tables that are unknown");
    }
    if tables != 0 && side.factors.is_empty() {
        return bad("it has tables, and rows have no codes for them");
    }
    side.costs = [8, 12, 16].map(|at| f32::from_bits(u32_at(head, at)));
    if side.costs.iter().any(|cost| !cost.is_finite()) {
        return bad("a cost is not finite");
    }
    let mut table = |flag: u32| r.f32s(if tables & flag == 0 { 0 } else { side.factors.len() });
    (side.weights, side.reaches) = (table(WEIGHTS)?, table(REACHES)?);
    if side.reaches.iter().any(|reach| *reach < 0.0) {
        return bad("a reach is below 0");
    }
    if one_gain {
        side.gain_range = (gain, gain);
    }
    r.end()
}
