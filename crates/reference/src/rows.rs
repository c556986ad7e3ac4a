//! Which row is where: `docs/format.md`, section 8.

use crate::packed::{Cursor, pack};

/// The oracle keeps every row apart; a file of more is not for it. Without the limit, rows of no
/// bytes in one cell would be a small file that needs any amount of memory.
pub const LIMIT: usize = 1 << 26;

/// `CELL`: K + 1 positions that ascend from 0 to n.
pub fn cells(bytes: &[u8], anchors: usize, n: usize) -> Result<Vec<usize>, String> {
    let mut at = Cursor::new("CELL", bytes);
    let mut cells = Vec::new();
    for _ in 0..=anchors {
        cells.push(at.count64()?);
    }
    at.end()?;
    if cells[0] != 0 || cells[anchors] != n || !cells.is_sorted() {
        return Err("CELL: the positions do not ascend from 0 to n".into());
    }
    Ok(cells)
}

/// The low bits of the m rows of a cell: the l of fewest bits, the least of several. 0 < m < n.
pub fn low_bits(n: usize, m: usize) -> usize {
    let mut best = 0;
    for l in 0..=40 {
        if m * l + m + ((n - 1) >> l) < m * best + m + ((n - 1) >> best) {
            best = l;
        }
    }
    best
}

/// `ROWS`: the row, below `span`, at each position. None stands there twice, and those of a cell
/// ascend.
pub fn rows(bytes: &[u8], span: usize, cells: &[usize]) -> Result<Vec<usize>, String> {
    if span > LIMIT {
        return Err(format!("ROWS: a span of {span} is too large for the oracle"));
    }
    let mut at = Cursor::new("ROWS", bytes);
    let mut row_at = Vec::new();
    for k in 1..cells.len() {
        row_at.extend(cell(&mut at, span, cells[k] - cells[k - 1])?);
    }
    at.end()?;
    let mut seen = vec![false; span];
    for &row in &row_at {
        if seen[row] {
            return Err(format!("ROWS: row {row} stands there twice"));
        }
        seen[row] = true;
    }
    Ok(row_at)
}

/// `TOMB`: the positions of the deleted rows of a segment of n, a count of 1 to n first.
pub fn deleted(bytes: &[u8], n: usize) -> Result<Vec<usize>, String> {
    if n > LIMIT {
        return Err(format!("TOMB: {n} rows are too many for the oracle"));
    }
    let mut at = Cursor::new("TOMB", bytes);
    let count = at.count64()?;
    if count == 0 || count > n {
        return Err(format!("TOMB: {count} deleted rows of {n}"));
    }
    let positions = cell(&mut at, n, count)?;
    at.end()?;
    Ok(positions)
}

/// The next cell: m numbers below n.
fn cell(at: &mut Cursor<'_>, n: usize, m: usize) -> Result<Vec<usize>, String> {
    if m == 0 {
        return Ok(Vec::new());
    }
    if m == n {
        return Ok((0..n).collect());
    }
    let l = low_bits(n, m);
    let length = m + ((n - 1) >> l);
    let mut samples = Vec::new();
    for _ in 0..length.div_ceil(4096) - 1 {
        samples.push(if n <= 1 << 32 { at.count32()? } else { at.count64()? });
    }
    let bytes = at.take((length + m * l).div_ceil(8))?;
    let bit = |s: usize| usize::from(bytes[s / 8] >> (s % 8) & 1);

    let mut rows = Vec::new();
    let mut zeros = 0;
    for s in 0..length {
        if s > 0 && s % 4096 == 0 && samples[s / 4096 - 1] != rows.len() {
            return Err(at.error(&format!("the sample of bit {s} is not {}", rows.len())));
        }
        if bit(s) == 0 {
            zeros += 1;
            continue;
        }
        // Low bits may be looked up only for as many rows as there are.
        if rows.len() == m {
            return Err(at.error(&format!("more than {m} ones")));
        }
        let mut low = 0;
        for b in 0..l {
            low |= bit(length + rows.len() * l + b) << b;
        }
        let row = (zeros << l) + low;
        if row >= n || rows.last().is_some_and(|&before| before >= row) {
            return Err(at.error(&format!("row {row} does not ascend below {n}")));
        }
        rows.push(row);
    }
    if rows.len() != m {
        return Err(at.error(&format!("{} ones instead of {m}", rows.len())));
    }
    for s in length + m * l..8 * bytes.len() {
        if bit(s) != 0 {
            return Err(at.error("a spare bit is not zero"));
        }
    }
    Ok(rows)
}

/// The inverse of reading a cell: the bytes of ascending numbers below n.
pub fn cell_bytes(n: usize, rows: &[usize]) -> Vec<u8> {
    if rows.is_empty() || rows.len() == n {
        return Vec::new();
    }
    let l = low_bits(n, rows.len());
    let mut bits: Vec<u32> = Vec::new();
    let mut high = 0;
    for row in rows {
        while high < row >> l {
            bits.push(0);
            high += 1;
        }
        bits.push(1);
    }
    bits.resize(bits.len() + ((n - 1) >> l) - high, 0);
    let mut bytes = Vec::new();
    for end in (4096..bits.len()).step_by(4096) {
        let ones = bits[..end].iter().sum::<u32>();
        bytes.extend(ones.to_le_bytes());
        // A longer span has longer samples.
        bytes.resize(bytes.len() + if n <= 1 << 32 { 0 } else { 4 }, 0);
    }
    for row in rows {
        bits.extend((0..l).map(|b| (row >> b & 1) as u32));
    }
    bytes.extend(pack(&bits, 1));
    bytes
}

/// Section 7: the pieces of a scale of gains of a segment, each as codes, first and last gain.
pub fn gain_pieces(bytes: &[u8], nibbles: usize) -> Result<Vec<(usize, f64, f64)>, String> {
    let mut at = Cursor::new("GAIN", bytes);
    let (mut pieces, mut before, mut all) = (Vec::new(), 0.0, 0);
    while at.at() < bytes.len() {
        let (codes, first, last) = (at.u16()?, at.f32()?, at.f32()?);
        let ascend = before < first && first <= last && last.is_finite();
        if codes == 0 || !ascend || (codes == 1 && first < last) {
            return Err(format!("GAIN: {codes} codes from {first} to {last} behind {before}"));
        }
        pieces.push((codes, first, last));
        (before, all) = (last, all + codes);
    }
    if nibbles == 0 || !(1..=16).contains(&pieces.len()) || all > (1 << (4 * nibbles)) - 1 {
        return Err(format!("GAIN: {all} codes in {} pieces for {nibbles} nibbles", pieces.len()));
    }
    Ok(pieces)
}
