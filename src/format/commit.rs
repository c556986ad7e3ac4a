//! Commit slots (docs/format.md, section 1): which bytes of a file are committed, written so that a torn write and a damaged one
//! can be told apart.

use xxhash_rust::xxh3::xxh3_64;

use super::bits::{u32_at, u64_at};
use crate::error::ParseError;

/// Bytes of a slot.
pub(crate) const SLOT_LEN: usize = 64;
/// Bytes of what a slot says: in version 2, and since.
const FIELDS: [usize; 2] = [32, 40];

/// A commit: where its table of sections stands. The committed part of the file ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Counts the commits of a file, from 1.
    pub(crate) generation: u64,
    /// Where the table starts.
    pub(crate) table: u64,
    pub(crate) entries: u32,
    /// XXH3-64 of the table.
    pub(crate) table_hash: u64,
    /// What a reader must know, a bit for each feature; 0 before version 3.
    pub(crate) features: u64,
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Never written.
    Empty,
    Valid(Commit),
    /// Part of an old slot and part of a new one: the writer did not get further.
    Torn,
    /// Bytes that no writer wrote.
    Damaged,
}

impl Commit {
    /// Bytes of the table.
    pub(crate) fn table_len(&self) -> u64 {
        u64::from(self.entries) * ENTRY_LEN as u64
    }

    /// Where the committed part of the file ends.
    pub(crate) fn end(&self) -> u64 {
        self.table.saturating_add(self.table_len())
    }

    /// The slot that a commit is written to: never that of the commit before it.
    pub(crate) fn slot_at(&self) -> u64 {
        HEADER_LEN as u64 + self.generation % 2 * SLOT_LEN as u64
    }

    /// The slot that the next commit is written to.
    pub(crate) fn other_slot_at(&self) -> u64 {
        HEADER_LEN as u64 + (self.generation + 1) % 2 * SLOT_LEN as u64
    }

    /// The bytes of its slot, as the newest version has it.
    pub(crate) fn to_slot(self) -> [u8; SLOT_LEN] {
        let mut fields = [0; FIELDS[1]];
        fields[..8].copy_from_slice(&self.generation.to_le_bytes());
        fields[8..16].copy_from_slice(&self.table.to_le_bytes());
        fields[16..20].copy_from_slice(&self.entries.to_le_bytes());
        fields[20..28].copy_from_slice(&self.table_hash.to_le_bytes());
        fields[28..36].copy_from_slice(&self.features.to_le_bytes());
        let hash = xxh3_64(&fields[..36]) as u32;
        fields[36..].copy_from_slice(&hash.to_le_bytes());
        coded(&fields)
    }
}

/// Bytes that fields take in a slot, seven bits to each.
const fn coded_len(fields: usize) -> usize {
    (8 * fields).div_ceil(7)
}

/// Fields as a slot has them: seven bits to a byte, the eighth making the number of its ones even.
fn coded(fields: &[u8]) -> [u8; SLOT_LEN] {
    let mut slot = [0; SLOT_LEN];
    let bits = 8 * fields.len();
    for (i, byte) in slot[..coded_len(fields.len())].iter_mut().enumerate() {
        let seven = (7 * i..(7 * i + 7).min(bits)).enumerate();
        *byte = seven.fold(0, |byte, (to, from)| byte | (fields[from / 8] >> (from % 8) & 1) << to);
        *byte |= (byte.count_ones() as u8 & 1) << 7;
    }
    slot
}

/// Reads a slot of a file of this version. Every byte has an even number of ones, so that of two different ones neither is a bit's flip
/// from the other: a mixture of two slots has even bytes only, and a flipped bit makes an odd one.
fn read(slot: &[u8], version: u32) -> Slot {
    if slot.iter().all(|&byte| byte == 0) {
        return Slot::Empty;
    }
    let len = FIELDS[usize::from(version > 2)];
    let (coded, rest) = slot.split_at(coded_len(len));
    if coded.iter().any(|byte| byte.count_ones() % 2 == 1) || rest.iter().any(|&byte| byte != 0) {
        return Slot::Damaged;
    }
    let mut fields = [0u8; FIELDS[1]];
    for to in 0..7 * coded.len() {
        let bit = coded[to / 7] >> (to % 7) & 1;
        match fields[..len].get_mut(to / 8) {
            Some(byte) => *byte |= bit << (to % 8),
            None if bit != 0 => return Slot::Damaged,
            None => (),
        }
    }
    let commit = Commit {
        generation: u64_at(&fields, 0),
        table: u64_at(&fields, 8),
        entries: u32_at(&fields, 16),
        table_hash: u64_at(&fields, 20),
        features: if version > 2 { u64_at(&fields, 28) } else { 0 },
    };
    let hash = u32_at(&fields, len - 4);
    if hash != xxh3_64(&fields[..len - 4]) as u32 { Slot::Torn } else { Slot::Valid(commit) }
}

/// What a file's slots say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) commit: Commit,
    /// Whether the other slot is torn, or holds the same commit: what a writer mends before it writes.
    pub(crate) torn: bool,
}

/// Both slots of a file of this version.
fn slots(bytes: &[u8], version: u32) -> [Slot; 2] {
    [0, 1].map(|i| read(&bytes[HEADER_LEN + i * SLOT_LEN..][..SLOT_LEN], version))
}

/// The commits that are whole in themselves, the latest first, whatever the other slot says.
pub(crate) fn whole(bytes: &[u8], version: u32) -> Vec<Commit> {
    let valid = slots(bytes, version).into_iter().filter_map(|slot| match slot {
        Slot::Valid(commit) => Some(commit),
        _ => None,
    });
    let mut commits: Vec<Commit> = valid.collect();
    commits.sort_by_key(|commit| std::cmp::Reverse(commit.generation));
    commits
}

/// The last commit of a file of `len` bytes that begins with `bytes`, which hold both slots.
pub(crate) fn last(bytes: &[u8], len: u64, version: u32) -> Result<Found, ParseError> {
    let [first, second] = slots(bytes, version);
    let damaged = || ParseError::Checksum { part: "the header".into() };
    let found = |commit, torn| Ok(Found { commit, torn });
    match (first, second) {
        (Slot::Valid(a), Slot::Valid(b)) if a == b => found(a, false),
        (Slot::Valid(a), Slot::Valid(b)) if a.generation.abs_diff(b.generation) == 1 => {
            found(if a.generation > b.generation { a } else { b }, false)
        }
        // The first commit of a file.
        (Slot::Valid(a), Slot::Empty) | (Slot::Empty, Slot::Valid(a)) if a.generation == 1 => found(a, false),
        // The second slot is written once everything it commits is there.
        (Slot::Valid(a), Slot::Torn) | (Slot::Torn, Slot::Valid(a)) if len > a.end() => found(a, true),
        _ => Err(damaged()),
    }
}

pub(crate) const ENTRY_LEN: usize = 32;

pub(crate) const HEADER_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::header::VERSION;

    fn header(slots: [[u8; SLOT_LEN]; 2]) -> Vec<u8> {
        [&[0; HEADER_LEN][..], &slots[0], &slots[1]].concat()
    }

    fn commit(generation: u64, random: u64) -> Commit {
        let (table, entries) = (random >> 24, random as u32 >> 20);
        Commit { generation, table, entries, table_hash: random.wrapping_mul(77), features: random.rotate_left(9) }
    }

    proptest! {
        #[test]
        fn commits_come_back(generation in 1u64.., table: u64, entries: u32, table_hash: u64, features: u64) {
            let commit = Commit { generation, table, entries, table_hash, features };
            prop_assert_eq!(read(&commit.to_slot(), VERSION), Slot::Valid(commit));
        }

        /// Any bytes of a new slot over an old one: the old commit, the new one or the other slot's, never a fourth thing; and
        /// every flipped bit of what was whole is damage.
        #[test]
        fn tears_are_not_damage(generation in 1u64..1000, randoms: [u64; 3], taken: [bool; SLOT_LEN], bit in 0..16 * SLOT_LEN) {
            let [before, last, next] = [0, 1, 2].map(|i| commit(generation - 1 + i, randoms[i as usize]));
            let old = if generation == 1 { [0; SLOT_LEN] } else { before.to_slot() };
            let new = next.to_slot();
            let torn: [u8; SLOT_LEN] = std::array::from_fn(|i| if taken[i] { new[i] } else { old[i] });
            let ordered =
                |a: [u8; SLOT_LEN], b: [u8; SLOT_LEN]| header(if next.slot_at() < last.slot_at() { [a, b] } else { [b, a] });
            let found = super::last(&ordered(torn, last.to_slot()), u64::MAX, VERSION).unwrap();
            prop_assert!(found.commit == last || found.commit == next);
            prop_assert_eq!(found.torn, torn != new && torn != old);
            let mut whole = ordered(new, last.to_slot());
            whole[HEADER_LEN + bit / 8] ^= 1 << (bit % 8);
            prop_assert!(super::last(&whole, u64::MAX, VERSION).is_err());
        }
    }

    #[test]
    fn a_torn_slot_has_something_behind_the_commit() {
        let (one, two) = (commit(1, 1 << 40), commit(2, 1 << 50));
        let mut slots = [two.to_slot(), one.to_slot()];
        slots[0][..6].fill(0);
        let bytes = header(slots);
        assert_eq!(last(&bytes, one.end() + 1, VERSION).unwrap(), Found { commit: one, torn: true });
        assert!(last(&bytes, one.end(), VERSION).is_err());
    }

    #[test]
    fn commits_that_do_not_follow_each_other_are_refused() {
        for (a, b) in [(1, 3), (4, 9)] {
            let bytes = header([commit(a, 5).to_slot(), commit(b, 6).to_slot()]);
            assert!(last(&bytes, u64::MAX, VERSION).is_err());
        }
        assert!(last(&header([[0; SLOT_LEN]; 2]), u64::MAX, VERSION).is_err());
        assert!(last(&header([commit(2, 5).to_slot(), [0; SLOT_LEN]]), u64::MAX, VERSION).is_err());
        let twice = [commit(7, 5).to_slot(); 2];
        assert_eq!(last(&header(twice), u64::MAX, VERSION).unwrap().commit, commit(7, 5));
    }
}
