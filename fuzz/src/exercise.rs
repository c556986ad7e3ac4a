//! Everything a reader does with a store, whatever its bytes say.

use std::collections::HashSet;

use vlc::{Filter, Ids, Index, MatRef, Neighbors, RowFilter, SearchOptions};

use crate::memory::within;

/// Opens bytes, checks them and asks them everything, however many rows they claim. What is damaged may answer anything; what is sound must
/// be right; and nothing may take memory out of proportion to the bytes.
pub fn exercise(bytes: &[u8]) {
    let Ok(index) = within(bytes.len(), 0, || Index::from_bytes(bytes)) else { return };
    let sound = within(bytes.len(), 0, || index.verify().is_ok());
    let info = index.info();
    assert_eq!((info.n, info.dim as usize), (index.len() as u64, index.dim()));
    assert!(index.bytes().len() <= bytes.len());
    let n = index.len();
    // An id is a number, or text with what a string takes beside.
    let Ok(ids) = within(bytes.len(), 64 * n, || index.ids(0..n)) else {
        assert!(!sound, "a sound store does not tell its ids");
        return;
    };
    assert!(index.ids(0..n + 1).is_err());
    assert!(!sound || ids.len() == n, "{} ids of {n} rows", ids.len());
    let _ = (index.text_id(0), index.text_id(u64::MAX), index.embedding());
    let few = 4 * 8 * index.dim();
    within(bytes.len(), few, || decode(&index, sound));
    // Hits, and the set of ids that they are compared with.
    within(bytes.len(), 96 * n, || search(&index, &ids, sound));
}

fn decode(index: &Index<&[u8]>, sound: bool) {
    let (n, dim) = (index.len(), index.dim());
    let few = index.decode(0..n.min(5)).unwrap();
    assert_eq!((few.rows(), few.dim()), (n.min(5), dim));
    let last = index.decode(n.saturating_sub(1)..n).unwrap();
    if sound && (1..=5).contains(&n) {
        assert_eq!(bits(last.row(0)), bits(few.row(n - 1)), "a row decodes in two ways");
    }
    assert!(index.decode(n..n + 1).is_err());
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|v| v.to_bits()).collect()
}

fn search(index: &Index<&[u8]>, ids: &Ids, sound: bool) {
    let (n, dim) = (index.len(), index.dim());
    let values: Vec<f32> = (0..dim).map(|i| 0.5 - (i % 3) as f32).collect();
    let query = MatRef::new(&values, 1, dim).unwrap();
    let searcher = index;
    let all = numbers(ids);
    for k in [1, 10, n + 1, usize::MAX] {
        let found = searcher.search(query, &SearchOptions::new(k)).unwrap();
        if sound {
            check(index, &found, k.min(n), all.as_ref());
        }
    }
    let some: Ids = match ids {
        Ids::Numbers(ids) => ids.iter().step_by(3).copied().chain([u64::MAX / 3]).collect(),
        Ids::Text(ids) => ids.iter().step_by(3).cloned().chain([String::from("nobody")]).collect(),
    };
    let filters = [Filter::Allow(&some), Filter::Deny(&some)].map(|filter| index.filter(filter).unwrap());
    if sound && different(ids) {
        assert_eq!(filters.iter().map(RowFilter::len).sum::<u64>(), n as u64, "a row is neither allowed nor denied");
    }
    for filter in &filters {
        let found = searcher.search(query, &SearchOptions::new(10).filtered(filter)).unwrap();
        if sound {
            check(index, &found, 10.min(filter.len() as usize), all.as_ref());
        }
    }
}

/// The ids that a search may give; for text it gives numbers of rows, and any that has a text will do.
fn numbers(ids: &Ids) -> Option<HashSet<u64>> {
    match ids {
        Ids::Numbers(ids) => Some(ids.iter().copied().collect()),
        Ids::Text(_) => None,
    }
}

fn different(ids: &Ids) -> bool {
    match ids {
        Ids::Numbers(ids) => ids.iter().collect::<HashSet<_>>().len() == ids.len(),
        Ids::Text(ids) => ids.iter().collect::<HashSet<_>>().len() == ids.len(),
    }
}

fn check(index: &Index<&[u8]>, found: &Neighbors, count: usize, all: Option<&HashSet<u64>>) {
    let there = |id: &u64| all.map_or_else(|| index.text_id(*id).is_some(), |all| all.contains(id));
    assert_eq!(found.ids.dim(), count, "hits");
    assert!(found.ids.as_slice().iter().all(there), "a row that is not there");
    let scores = found.scores.row(0);
    assert!(scores.windows(2).all(|w| w[0] >= w[1] || w[0].is_nan() || w[1].is_nan()), "scores do not descend");
}
