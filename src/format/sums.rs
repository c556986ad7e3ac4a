//! Hashes of parts of long sections, so that damage is known to a part and the rest can be saved (docs/format.md, section 17).

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{bits::u64_at, header::SectionEntry};
use crate::error::ParseError;

/// Bytes that one hash is of; the last part of a section may be shorter.
pub(crate) const PART: usize = 1 << 16;
/// Sections that have such hashes, where they are longer than one part.
const SUMMED: [[u8; 4]; 5] = [*b"ROWS", *b"CODE", *b"RFNC", *b"IDSU", *b"IDSS"];
/// The section that holds them.
pub(super) const KIND: [u8; 4] = *b"SUMS";

/// Hashes the parts of a section as its bytes come.
pub(super) struct Summing {
    hasher: Xxh3,
    filled: usize,
    done: Vec<u64>,
}

impl Summing {
    /// For a section of a kind that is summed.
    pub(super) fn of(kind: [u8; 4]) -> Option<Summing> {
        SUMMED.contains(&kind).then(|| Summing { hasher: Xxh3::new(), filled: 0, done: Vec::new() })
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART - self.filled));
            self.hasher.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == PART {
                self.end_part();
            }
        }
    }

    fn end_part(&mut self) {
        self.done.push(self.hasher.digest());
        self.hasher.reset();
        self.filled = 0;
    }

    /// The hashes as `SUMS` has them; none of a section of one part, which its own hash is of.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.end_part();
        }
        if self.done.len() < 2 { Vec::new() } else { self.done.iter().flat_map(|sum| sum.to_le_bytes()).collect() }
    }
}

/// Bytes of the hashes of a section of `len` bytes.
pub(crate) fn sums_len(len: u64) -> u64 {
    let parts = len.div_ceil(PART as u64);
    if parts < 2 { 0 } else { 8 * parts }
}

/// The sections of a segment that `SUMS` has hashes of, in the order of the table.
fn summed(entries: &[SectionEntry], segment: u16) -> impl Iterator<Item = &SectionEntry> {
    entries.iter().filter(move |e| e.segment == segment && SUMMED.contains(&e.kind) && sums_len(e.len) > 0)
}

/// Refuses hashes that are not one for each part.
pub(super) fn check(entries: &[SectionEntry], sums: &SectionEntry) -> Result<(), ParseError> {
    let expected: u64 = summed(entries, sums.segment).map(|e| sums_len(e.len)).sum();
    if sums.len == expected && expected > 0 {
        return Ok(());
    }
    Err(ParseError::invalid("SUMS", format!("{} bytes instead of {expected}", sums.len)))
}

/// The parts of a section that are not what was written, as ranges of its bytes: all of it where nothing tells more.
pub(crate) fn damaged(entries: &[SectionEntry], bytes: &[u8], section: &SectionEntry) -> Vec<std::ops::Range<u64>> {
    let contents = &bytes[section.range()];
    if xxh3_64(contents) == section.hash {
        return Vec::new();
    }
    let whole = || std::iter::once(0..section.len).collect();
    let Some(sums) = entries.iter().find(|e| e.kind == KIND && e.segment == section.segment) else { return whole() };
    let sums_bytes = &bytes[sums.range()];
    if sums_len(section.len) == 0 || check(entries, sums).is_err() || xxh3_64(sums_bytes) != sums.hash {
        return whole();
    }
    let before = summed(entries, section.segment).take_while(|e| e.kind != section.kind);
    let from = before.map(|e| sums_len(e.len)).sum::<u64>() as usize;
    let parts =
        contents.chunks(PART).enumerate().filter(|(i, part)| u64_at(sums_bytes, from + 8 * i) != xxh3_64(part));
    let ranges: Vec<_> = parts.map(|(i, part)| (i * PART) as u64..(i * PART + part.len()) as u64).collect();
    // The hash of the whole says that something is wrong.
    if ranges.is_empty() { whole() } else { ranges }
}
