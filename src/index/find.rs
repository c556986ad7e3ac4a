//! Where rows with certain ids are.

use crate::{
    format::{ids::Ids, segment::Segment},
    ids::Wanted,
    math::bits::Bits,
};

/// Rows whose search costs as much as a walk over so many, for each cell.
const SEEK: u64 = 16;

/// Number (in the list) and position of each wanted id in a segment, deleted rows among them. O(rows), and for a few rows without ids
/// of their own O(rows wanted x cells).
pub(crate) fn positions(segment: &Segment, bytes: &[u8], wanted: &Wanted<'_>) -> Vec<(usize, u64)> {
    let mut rows = local_rows(segment, bytes, wanted);
    rows.sort_unstable();
    let places = row_positions(segment, bytes, rows.iter().map(|(row, _)| *row));
    rows.iter().zip(places).filter_map(|(&(_, id), place)| place.map(|p| (id, p))).collect()
}

/// The wanted rows of a segment, counted from its first, with the number of the id.
fn local_rows(segment: &Segment, bytes: &[u8], wanted: &Wanted<'_>) -> Vec<(u64, usize)> {
    match (wanted, segment.ids(bytes)) {
        (Wanted::Numbers(wanted), None) => {
            let own = segment.first..segment.first + segment.span;
            wanted.iter().filter(|(row, _)| own.contains(row)).map(|(&row, &id)| (row - segment.first, id)).collect()
        }
        (Wanted::Numbers(wanted), Some(Ids::Numbers(ids))) => {
            ids.iter().zip(0..).filter_map(|(id, row)| wanted.get(&id).map(|&i| (row, i))).collect()
        }
        (Wanted::Text(wanted), Some(ids @ Ids::Text(..))) => {
            (0..segment.n).filter_map(|row| wanted.get(ids.text(row as usize)?).map(|&i| (row, i))).collect()
        }
        _ => Vec::new(),
    }
}

/// The positions of ascending rows, counted from the segment's first; `None` for a row that is not there. O(n + rows log rows), or O(rows x
/// cells) for a few.
fn row_positions(
    segment: &Segment,
    bytes: &[u8],
    rows: impl ExactSizeIterator<Item = u64> + Clone,
) -> Vec<Option<u64>> {
    let ids = segment.row_ids(bytes);
    let cells = ids.cells.len() as u64 - 1;
    let count = rows.len() as u64;
    if count == 0 {
        return Vec::new();
    }
    if count.saturating_mul(cells).saturating_mul(SEEK) < segment.span {
        return rows.map(|row| (0..cells as usize).find_map(|cell| ids.position_in(cell, row))).collect();
    }
    let wanted: Vec<u64> = rows.collect();
    let mut out = vec![None; wanted.len()];
    // A bit for each number tells most rows apart, where numbers are not many more than rows.
    let bits = (segment.span <= 16 * segment.n).then(|| Bits::new(segment.span, wanted.iter().copied()));
    for cell in 0..cells as usize {
        ids.rows_of(cell, |position, row| {
            if bits.as_ref().is_none_or(|bits| bits.has(row))
                && let Ok(i) = wanted.binary_search(&row)
            {
                out[i] = Some(position);
            }
        });
    }
    out
}
