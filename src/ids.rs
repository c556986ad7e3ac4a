//! Ids of rows, where their numbers will not do.

use std::{borrow::Cow, collections::HashMap, hash::Hash};

use crate::error::{Error, InputError};

/// Ids of rows, one each and all different: numbers or strings.
///
/// Without ids a row's id is its number: from 0, in the order of compression and of appending. It stays the row's own, whatever
/// is deleted or compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// Any numbers.
    Numbers(Vec<u64>),
    /// Any text, such as a UUID or the address of a passage.
    Text(Vec<String>),
}

impl Ids {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Ids::Numbers(ids) => ids.len(),
            Ids::Text(ids) => ids.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn kind(&self) -> IdsKind {
        match self {
            Ids::Numbers(_) => IdsKind::Numbers,
            Ids::Text(_) => IdsKind::Text,
        }
    }

    /// Refuses ids that are not one for each of `rows` rows, or not all different.
    pub(crate) fn check(&self, rows: usize) -> Result<(), Error> {
        if self.len() != rows {
            let message = format!("there are {} ids for {rows} rows; give one for each row", self.len());
            return Err(InputError::new(None, message).into());
        }
        match self {
            Ids::Numbers(ids) => all_different(ids),
            Ids::Text(ids) => all_different(ids),
        }
    }

    /// For each of them the first that is equal.
    pub(crate) fn firsts(&self) -> Vec<usize> {
        fn of<T: Hash + Eq>(ids: &[T]) -> Vec<usize> {
            let mut seen = HashMap::with_capacity(ids.len());
            ids.iter().enumerate().map(|(i, id)| *seen.entry(id).or_insert(i)).collect()
        }
        match self {
            Ids::Numbers(ids) => of(ids),
            Ids::Text(ids) => of(ids),
        }
    }

    /// An id for messages.
    pub(crate) fn name(&self, i: usize) -> String {
        match self {
            Ids::Numbers(ids) => ids[i].to_string(),
            Ids::Text(ids) => format!("{:?}", ids[i]),
        }
    }

    /// Those of `part` behind these.
    pub(crate) fn extend_from(&mut self, part: &Ids) {
        match (self, part) {
            (Ids::Numbers(all), Ids::Numbers(part)) => all.extend_from_slice(part),
            (Ids::Text(all), Ids::Text(part)) => all.extend_from_slice(part),
            _ => debug_assert!(false, "ids of two kinds"),
        }
    }
}

fn all_different<T: Hash + Eq + std::fmt::Debug>(ids: &[T]) -> Result<(), Error> {
    let mut seen = HashMap::with_capacity(ids.len());
    for (row, id) in ids.iter().enumerate() {
        if let Some(before) = seen.insert(id, row) {
            let message = format!("row {before} has the same id, {id:?}; ids must all be different");
            return Err(InputError::new(None, message).at_row(row).into());
        }
    }
    Ok(())
}

impl FromIterator<u64> for Ids {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Ids {
        Ids::Numbers(ids.into_iter().collect())
    }
}

impl FromIterator<String> for Ids {
    fn from_iter<I: IntoIterator<Item = String>>(ids: I) -> Ids {
        Ids::Text(ids.into_iter().collect())
    }
}

/// What a caller names rows by, looked up.
#[derive(Debug, Clone)]
pub(crate) enum Wanted<'a> {
    Numbers(HashMap<u64, usize>),
    Text(HashMap<Cow<'a, str>, usize>),
}

impl<'a> Wanted<'a> {
    pub(crate) fn new(ids: &'a Ids) -> Wanted<'a> {
        match ids {
            // Of equal ones the first stands for all: what comes later in a map is what stays.
            Ids::Numbers(ids) => Wanted::Numbers(ids.iter().enumerate().rev().map(|(i, &id)| (id, i)).collect()),
            Ids::Text(ids) => {
                Wanted::Text(ids.iter().enumerate().rev().map(|(i, id)| (Cow::from(id.as_str()), i)).collect())
            }
        }
    }
}

/// What ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdsKind {
    Numbers,
    Text,
}

impl IdsKind {
    /// The section they stand in.
    pub(crate) fn section(self) -> [u8; 4] {
        match self {
            IdsKind::Numbers => *b"IDSU",
            IdsKind::Text => *b"IDSS",
        }
    }
}
