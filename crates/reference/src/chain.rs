//! Chain codes and pq8 codes: `docs/format.md`, section 5.

use crate::distance::squared_l2;

/// How symbols become coordinates. The numbers in a file are 0 and 1 in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeKind {
    /// 16 values a symbol; a codeword depends on this symbol and the `lags` before it.
    Chain,
    /// 256 values a symbol, each subspace on its own.
    Pq8,
}

impl CodeKind {
    /// How many values a symbol has.
    pub fn values(self) -> usize {
        match self {
            CodeKind::Chain => 16,
            CodeKind::Pq8 => 256,
        }
    }
}

/// The code of one chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Code {
    /// Chain or pq8.
    pub kind: CodeKind,
    /// m: how many earlier symbols a codeword depends on; 0 for pq8.
    pub lags: usize,
    /// T: the number of directions of each subspace. They add up to a.
    pub widths: Vec<usize>,
    /// a x S with S = 16 (m + 1) or 256: `tables[j][16 * l + c]` or `tables[j][c]`.
    pub tables: Vec<Vec<f64>>,
}

/// The coordinates that symbols stand for. For a direction j of subspace t,
///
/// ```text
/// chain:  y_j = anchor_j + sum over l = 0..min(m, t) of table_j[16 l + c_(t-l)]
/// pq8:    y_j = anchor_j + table_j[c_t]
/// ```
///
/// where subspace t covers the next `widths[t]` directions after those of subspace t - 1.
/// `anchor`: a, `symbols`: T. Returns a coordinates.
pub fn decode(code: &Code, anchor: &[f64], symbols: &[u8]) -> Vec<f64> {
    assert_eq!(symbols.len(), code.widths.len(), "one symbol per subspace");
    let mut y = Vec::new();
    for t in 0..symbols.len() {
        for _ in 0..code.widths[t] {
            let j = y.len();
            let mut sum = anchor[j];
            for l in 0..=code.lags.min(t) {
                let c = usize::from(symbols[t - l]);
                assert!(c < code.kind.values(), "symbol {c} has no codeword");
                sum += code.tables[j][16 * l + c];
            }
            y.push(sum);
        }
    }
    assert_eq!(y.len(), anchor.len(), "the widths add up to the directions");
    y
}

/// The error of a given sequence: |target - decode(symbols)|^2. `anchor`, `target`: a.
pub fn error(code: &Code, anchor: &[f64], target: &[f64], symbols: &[u8]) -> f64 {
    squared_l2(target, &decode(code, anchor, symbols))
}

/// The sequence of least [`error`] and that error, by trying all 16^T (256^T) of them.
///
/// Of several best sequences the first in lexicographic order wins: the one with the lower c_0,
/// then the lower c_1, ... This is the oracle of the Viterbi search: only for tiny T, at most
/// 2^24 sequences.
pub fn encode_exhaustive(code: &Code, anchor: &[f64], target: &[f64]) -> (Vec<u8>, f64) {
    let symbols = code.widths.len();
    let bits = symbols * code.kind.values().ilog2() as usize;
    assert!(bits <= 24, "2^{bits} sequences are too many to try");
    let first = vec![0; symbols];
    let first_error = error(code, anchor, target, &first);
    let mut best = (first, first_error);
    for number in 1..1_usize << bits {
        let sequence = digits(number, code.kind.values(), symbols);
        let error = error(code, anchor, target, &sequence);
        if error < best.1 {
            best = (sequence, error);
        }
    }
    best
}

/// The `count` digits of `number` in base `base` (16 or 256), the most significant first.
fn digits(number: usize, base: usize, count: usize) -> Vec<u8> {
    let mut digits = vec![0; count];
    let mut rest = number;
    for t in (0..count).rev() {
        digits[t] = (rest % base) as u8;
        rest /= base;
    }
    digits
}
