//! Which rows a search may return: a list of ids that are allowed, or of those that are not.

pub(crate) use super::masks::{set, without_deleted, words_of};
use std::sync::Arc;

use super::{Index, find::positions};
use crate::{
    error::Error,
    format::parse::Parsed,
    ids::{Ids, Wanted},
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
        let (parsed, bytes) = (self.parsed(), self.bytes());
        let (Filter::Allow(ids) | Filter::Deny(ids)) = filter;
        parsed.check_kind(Some(ids))?;
        self.check_lookup()?;
        let wanted = Wanted::new(ids);
        let masks = parsed.segments.iter().map(|segment| {
            // Nothing of it is searched, and what it says it holds need not have any bytes.
            if segment.live() == 0 {
                return Arc::new(Allowed::new(Vec::new(), &vec![0; segment.cells.len()]));
            }
            let (mut words, named) = match filter {
                Filter::Allow(_) => (vec![0; words_of(segment)], true),
                Filter::Deny(_) => (vec![u32::MAX; words_of(segment)], false),
            };
            for (_, position) in positions(segment, bytes, &wanted) {
                set(&mut words, position, named);
            }
            Arc::new(without_deleted(segment, bytes, words))
        });
        let masks: Vec<_> = masks.collect();
        self.check_whole()?;
        let count = masks.iter().map(|mask| mask.count()).sum();
        Ok(RowFilter { masks, count, commit: parsed.layout.commit.table_hash })
    }
}
