//! Which row is where: `docs/format.md`, section 8.

use crate::model::Meta;
use crate::packed::Cursor;

/// The oracle keeps every row apart; a file of more is not for it. Without the limit, rows of no
/// bytes in one cell would be a small file that needs any amount of memory.
pub const LIMIT: usize = 1 << 26;

/// `CELL`: K + 1 positions that ascend from 0 to n.
pub fn cells(bytes: &[u8], meta: &Meta) -> Result<Vec<usize>, String> {
    let mut at = Cursor::new("CELL", bytes);
    let mut cells = Vec::new();
    for _ in 0..=meta.anchors {
        cells.push(at.count64()?);
    }
    at.end()?;
    if cells[0] != 0 || cells[meta.anchors] != meta.n || !cells.is_sorted() {
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

/// `ROWS`: the row at each position. All n rows must stand there, each once and those of a cell in
/// ascending order.
pub fn rows(bytes: &[u8], meta: &Meta, cells: &[usize]) -> Result<Vec<usize>, String> {
    if meta.n > LIMIT {
        return Err(format!("ROWS: {} rows; at most {LIMIT} here", meta.n));
    }
    let mut at = Cursor::new("ROWS", bytes);
    let mut row_at = Vec::new();
    for k in 0..meta.anchors {
        row_at.extend(cell(&mut at, meta.n, cells[k + 1] - cells[k])?);
    }
    at.end()?;
    let mut seen = vec![false; meta.n];
    for &row in &row_at {
        if seen[row] {
            return Err(format!("ROWS: row {row} stands there twice"));
        }
        seen[row] = true;
    }
    // There are n places, so none can be missing either.
    Ok(row_at)
}

/// The m rows of the next cell.
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
            return Err(format!("ROWS: the sample of bit {s} is not {}", rows.len()));
        }
        if bit(s) == 0 {
            zeros += 1;
            continue;
        }
        // Low bits may be looked up only for as many rows as there are.
        if rows.len() == m {
            return Err(format!("ROWS: more than {m} ones"));
        }
        let mut low = 0;
        for b in 0..l {
            low |= bit(length + rows.len() * l + b) << b;
        }
        let row = (zeros << l) + low;
        if row >= n || rows.last().is_some_and(|&before| before >= row) {
            return Err(format!("ROWS: row {row} does not ascend below {n}"));
        }
        rows.push(row);
    }
    if rows.len() != m {
        return Err(format!("ROWS: {} ones instead of {m}", rows.len()));
    }
    for s in length + m * l..8 * bytes.len() {
        if bit(s) != 0 {
            return Err("ROWS: a spare bit is not zero".into());
        }
    }
    Ok(rows)
}
