//! Which rows a search may return: a list of ids that are allowed, or of those that are not.

use std::sync::Arc;

use super::{
    Index,
    find::positions,
    masks::{set, without_deleted, words_of},
};
use crate::{
    error::Error,
    format::{parse::Parsed, segment::Segment},
    ids::{Ids, IdsKind, Wanted},
    ops::allowed::Allowed,
};

/// A list of rows by id. Ids that no row has are passed over, so a list may be of a larger collection.
///
/// Any sorted set of numbers will do: `Ids` collects from an iterator, such as that of a roaring bitmap.
#[derive(Debug, Clone, Copy)]
pub enum Filter<'a> {
    /// These rows alone.
    Allow(&'a Ids),
    /// All but these.
    Deny(&'a Ids),
}

/// A filter made ready for one commit of a store: a bit per row.
#[derive(Debug, Clone)]
pub struct RowFilter {
    masks: Vec<Arc<Allowed>>,
    count: u64,
    /// The commit it was made for.
    commit: u64,
}

impl RowFilter {
    /// Rows that may be returned.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether no row may.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn masks(&self) -> &[Arc<Allowed>] {
        &self.masks
    }

    /// Refuses a filter of another file, or of the same one before a change.
    pub(crate) fn check(&self, parsed: &Parsed) -> Result<(), Error> {
        if self.commit == parsed.layout.commit.table_hash {
            return Ok(());
        }
        Err(Error::Config(
            "the filter was made for another file, or for this one before it was changed; make it anew".into(),
        ))
    }
}

impl<D: AsRef<[u8]>> Index<D> {
    /// Makes a filter ready: O(ids + rows), or O(ids x anchors) for a few rows without ids of their own. It can be used for any number of
    /// searches of this index.
    ///
    /// # Errors
    /// [`Error::Config`] for ids of another kind than the store's, [`Error::Format`] where what they are looked up in is damaged.
    pub fn filter(&self, filter: Filter<'_>) -> Result<RowFilter, Error> {
        let (Filter::Allow(ids) | Filter::Deny(ids)) = filter;
        self.parsed().check_kind(Some(ids))?;
        let (wanted, bytes) = (Wanted::new(ids), self.bytes());
        self.masked(|segment| {
            let (mut words, named) = match filter {
                Filter::Allow(_) => (vec![0; words_of(segment)], true),
                Filter::Deny(_) => (vec![u32::MAX; words_of(segment)], false),
            };
            for (_, position) in positions(segment, bytes, &wanted) {
                set(&mut words, position, named);
            }
            words
        })
    }

    /// As [`Index::filter`], of the rows whose ids `allowed` takes: for sets that are no lists, such as a roaring bitmap. Asked once for each
    /// row, deleted ones among them, in no order that is promised. O(rows).
    ///
    /// # Errors
    /// [`Error::Config`] where ids are strings, [`Error::Format`] where row numbers or ids are damaged.
    ///
    /// ```
    /// # let values: Vec<f32> = (0..64_000).map(|i| ((i * 37 % 1013) as f32 / 500.0) - 1.0).collect();
    /// # let index = vlc::compress(vlc::MatRef::new(&values, 1000, 64)?, &vlc::Config::default())?;
    /// let even = index.filter_by(|id| id % 2 == 0)?;
    /// assert_eq!(even.len(), 500);
    /// # Ok::<(), vlc::Error>(())
    /// ```
    pub fn filter_by(&self, allowed: impl Fn(u64) -> bool) -> Result<RowFilter, Error> {
        if self.parsed().ids_kind() == Some(IdsKind::Text) {
            return Err(Error::Config("the ids of this file are strings, not numbers; name them in a list".into()));
        }
        let bytes = self.bytes();
        self.masked(|segment| {
            let (places, ids) = (segment.row_ids(bytes), segment.ids(bytes));
            let id = |row: u64| ids.and_then(|ids| ids.number(row as usize)).unwrap_or(segment.first + row);
            let mut words = vec![0; words_of(segment)];
            for cell in 0..places.cells.len() - 1 {
                places.rows_of(cell, |position, row| set(&mut words, position, allowed(id(row))));
            }
            words
        })
    }

    /// As [`Index::filter_by`], of the rows whose ids have a bit in `bits`: id i is bit `i % 64`, from the lowest, of word `i / 64`. Ids beyond
    /// the last word are not allowed.
    ///
    /// # Errors
    /// As [`Index::filter_by`].
    pub fn filter_bits(&self, bits: &[u64]) -> Result<RowFilter, Error> {
        let has = |id: u64| {
            usize::try_from(id / 64)
                .ok()
                .and_then(|word| bits.get(word))
                .is_some_and(|word| word >> (id % 64) & 1 == 1)
        };
        self.filter_by(has)
    }

    /// A filter of the bits that `of` gives the positions of each segment.
    fn masked(&self, of: impl Fn(&Segment) -> Vec<u32>) -> Result<RowFilter, Error> {
        self.check_lookup()?;
        let (parsed, bytes) = (self.parsed(), self.bytes());
        let masks = parsed.segments.iter().map(|segment| match segment.live() {
            // Nothing of it is searched, and what it says it holds need not have any bytes.
            0 => Arc::new(Allowed::new(Vec::new(), &vec![0; segment.cells.len()])),
            _ => Arc::new(without_deleted(segment, bytes, of(segment))),
        });
        let masks: Vec<_> = masks.collect();
        self.check_whole()?;
        let count = masks.iter().map(|mask| mask.count()).sum();
        Ok(RowFilter { masks, count, commit: parsed.layout.commit.table_hash })
    }
}
