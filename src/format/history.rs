//! What was appended to a file and how well the model fitted it (docs/format.md, section 12).

use super::bits::u64_at;
use crate::error::ParseError;

const ENTRY: usize = 32;
/// Entries a file keeps; older ones are added together.
const MOST: usize = 256;
/// One in the fixed point that errors are added up in: whole numbers, whose sum does not depend on the order.
const ONE: f64 = 4_294_967_296.0;

/// Rows encoded with a model that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// The number of the first of them.
    pub(crate) first: u64,
    pub(crate) rows: u64,
    /// Sum of |u - u_hat|^2 of the rows, each rounded to a multiple of 2^-32.
    pub(crate) error: u128,
}

/// An error in fixed point.
pub(crate) fn fixed(error: f64) -> u128 {
    (error.max(0.0) * ONE).round() as u128
}

impl Written {
    /// Mean squared error of a row.
    pub(crate) fn energy(&self) -> f64 {
        self.error as f64 / ONE / self.rows.max(1) as f64
    }
}

/// Section `HIST`.
pub(crate) fn bytes(history: &[Written]) -> Vec<u8> {
    let mut entries = history.to_vec();
    while entries.len() > MOST {
        let second = entries.remove(1);
        // What a file says may be anything.
        entries[0].rows = entries[0].rows.saturating_add(second.rows);
        entries[0].error = entries[0].error.saturating_add(second.error);
    }
    let mut out = Vec::with_capacity(entries.len() * ENTRY);
    for entry in entries {
        out.extend_from_slice(&entry.first.to_le_bytes());
        out.extend_from_slice(&entry.rows.to_le_bytes());
        out.extend_from_slice(&entry.error.to_le_bytes());
    }
    out
}

pub(crate) fn parse(b: &[u8]) -> Result<Vec<Written>, ParseError> {
    if b.is_empty() || !b.len().is_multiple_of(ENTRY) || b.len() > MOST * ENTRY {
        return Err(ParseError::invalid("HIST", "its length is wrong"));
    }
    let of = |entry: &[u8]| Written {
        first: u64_at(entry, 0),
        rows: u64_at(entry, 8),
        error: u128::from(u64_at(entry, 16)) | u128::from(u64_at(entry, 24)) << 64,
    };
    Ok(b.chunks_exact(ENTRY).map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_old_ones_are_added_up() {
        let all: Vec<Written> =
            (0..300).map(|i| Written { first: 10 * i, rows: 10, error: fixed(0.25) * 10 }).collect();
        assert_eq!(parse(&bytes(&all[..5])).unwrap(), all[..5]);
        let kept = parse(&bytes(&all)).unwrap();
        assert_eq!((kept.len(), kept[0].rows, kept[0].first), (MOST, 450, 0));
        assert_eq!((kept[0].energy(), kept[1].energy(), kept[1].first), (0.25, 0.25, 450));
        assert!(parse(&[]).is_err() && parse(&[0; 33]).is_err());
    }
}
