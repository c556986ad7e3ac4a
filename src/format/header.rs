//! Header and section table (docs/format.md, sections 1 and 2).

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use super::{
    bits::{u16_at, u32_at, u64_at},
    commit::{self, Commit, ENTRY_LEN, HEADER_LEN, SLOT_LEN},
};
use crate::error::ParseError;

/// The first bytes of a `.vlc` file, of any version.
pub const MAGIC: [u8; 8] = *b"\x89VLC\r\n\x1a\n";
pub(crate) const ALIGN: u64 = 64;
/// Bytes of the header with its slots, since version 2.
pub(crate) const SLOTS_END: usize = HEADER_LEN + 2 * SLOT_LEN;
/// Sections a file may have at most, in version 1 and since.
pub(crate) const MAX_SECTIONS: [u32; 2] = [64, 4096];
/// Flag of a section that a reader must know.
pub(crate) const FLAG_MUST_KNOW: u16 = 1;
/// Bytes that earlier commits used.
pub(crate) const DEAD: [u8; 4] = *b"DEAD";

/// One section: where it lies and what it hashes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SectionEntry {
    pub(crate) kind: [u8; 4],
    pub(crate) flags: u16,
    /// Of which segment.
    pub(crate) segment: u16,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) hash: u64,
}

impl SectionEntry {
    pub(crate) fn name(&self) -> String {
        self.kind.escape_ascii().to_string()
    }

    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.offset as usize..(self.offset + self.len) as usize
    }
}

/// What the header and the table of sections say.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) version: u32,
    /// In version 1, which knows no commits, one that covers the whole file as number 0.
    pub(crate) commit: Commit,
    /// Whether a writer was interrupted and the file needs mending before the next write.
    pub(crate) torn: bool,
    pub(crate) entries: Vec<SectionEntry>,
    /// Where the committed part ends.
    pub(crate) end: u64,
}

/// Where the first section of a file of version 1 starts.
fn sections_start(sections: u64) -> u64 {
    (HEADER_LEN as u64 + sections * ENTRY_LEN as u64).next_multiple_of(ALIGN)
}

/// The bytes of a table of sections.
pub(crate) fn table_bytes(entries: &[SectionEntry]) -> Vec<u8> {
    let mut table = Vec::with_capacity(entries.len() * ENTRY_LEN);
    for e in entries {
        table.extend_from_slice(&e.kind);
        table.extend_from_slice(&e.flags.to_le_bytes());
        table.extend_from_slice(&e.segment.to_le_bytes());
        table.extend_from_slice(&e.offset.to_le_bytes());
        table.extend_from_slice(&e.len.to_le_bytes());
        table.extend_from_slice(&e.hash.to_le_bytes());
    }
    table
}

/// The header of a file of one commit. One that goes on from the commits of another file stands in both slots.
pub(crate) fn write(commit: &Commit) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOTS_END);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.resize(HEADER_LEN - 8, 0);
    let hash = xxh3_64(&out);
    out.extend_from_slice(&hash.to_le_bytes());
    out.resize(SLOTS_END, 0);
    out[commit.slot_at() as usize..][..SLOT_LEN].copy_from_slice(&commit.to_slot());
    if commit.generation > 1 {
        out[commit.other_slot_at() as usize..][..SLOT_LEN].copy_from_slice(&commit.to_slot());
    }
    out
}

/// Reads and checks header and table. Allocates at most 4,096 entries.
pub(crate) fn parse(bytes: &[u8]) -> Result<Layout, ParseError> {
    let found = bytes.len() as u64;
    if !bytes.starts_with(&MAGIC[..MAGIC.len().min(bytes.len())]) {
        return Err(ParseError::Magic);
    }
    if bytes.len() < HEADER_LEN {
        return Err(ParseError::Length { expected: HEADER_LEN as u64, found });
    }
    let version = u32_at(bytes, 8);
    let intact = u64_at(bytes, HEADER_LEN - 8) == xxh3_64(&bytes[..HEADER_LEN - 8]);
    // A newer version may lay out the rest of its header differently, so its number is believed as it stands.
    if version > VERSION {
        return Err(ParseError::Version { found: version, newest: VERSION });
    }
    if !intact {
        return Err(ParseError::Checksum { part: "the header".into() });
    }
    if version == 0 {
        return Err(ParseError::invalid("header", "version 0 does not exist"));
    }
    let reserved = if version == 1 { 32 } else { 12 };
    let (commit, torn) = if version == 1 { (whole(bytes)?, false) } else { committed(bytes, version)? };
    if bytes[reserved..HEADER_LEN - 8].iter().any(|&b| b != 0) {
        return Err(ParseError::invalid("header", "reserved bytes are not zero"));
    }
    let (entries, end) = table_of(bytes, version, &commit)?;
    Ok(Layout { version, commit, torn, entries, end })
}

/// The table of a commit, and where what is committed ends.
fn table_of(bytes: &[u8], version: u32, commit: &Commit) -> Result<(Vec<SectionEntry>, u64), ParseError> {
    let found = bytes.len() as u64;
    let most = MAX_SECTIONS[usize::from(version > 1)];
    if commit.entries == 0 || commit.entries > most {
        return Err(ParseError::invalid("header", format!("{} sections; 1 to {most} are allowed", commit.entries)));
    }
    let table = commit.table as usize..commit.end() as usize;
    if commit.end() > found {
        return Err(ParseError::Length { expected: commit.end(), found });
    }
    if xxh3_64(&bytes[table.clone()]) != commit.table_hash {
        return Err(ParseError::Checksum { part: "the section table".into() });
    }
    // Sections lie one behind the other, the table of a commit behind the last.
    let (start, behind) = match version {
        1 => (sections_start(commit.entries.into()), found),
        _ => (SLOTS_END as u64, commit.table),
    };
    let entries = parse_table(&bytes[table], start, behind, version)?;
    Ok((entries, if version == 1 { found } else { commit.end() }))
}

/// The layouts that a damaged file may still have: of each commit whose slot and table are whole, the latest first.
pub(crate) fn salvage(bytes: &[u8]) -> Vec<Layout> {
    if bytes.len() < SLOTS_END || !bytes.starts_with(&MAGIC) {
        return parse(bytes).into_iter().collect();
    }
    // The number of the version is in the damaged part itself; a slot of one is none of another.
    let of = |version: u32| {
        commit::whole(bytes, version).into_iter().filter_map(move |commit| {
            check_commit(&commit).ok()?;
            let (entries, end) = table_of(bytes, version, &commit).ok()?;
            Some(Layout { version, commit, torn: false, entries, end })
        })
    };
    match parse(bytes) {
        Ok(layout) => vec![layout],
        Err(_) => (2..=VERSION).rev().flat_map(of).collect(),
    }
}

/// The one commit of a file of version 1.
fn whole(bytes: &[u8]) -> Result<Commit, ParseError> {
    let (entries, found) = (u32_at(bytes, 12), bytes.len() as u64);
    let (expected, start) = (u64_at(bytes, 16), sections_start(entries.into()));
    if entries <= MAX_SECTIONS[0] && (expected != found || found < start) {
        return Err(ParseError::Length { expected: expected.max(start), found });
    }
    let table_hash = u64_at(bytes, 24);
    Ok(Commit { generation: 0, table: HEADER_LEN as u64, entries, table_hash, features: 0 })
}

/// The last commit of a file of version 2 or later, and whether a later one was interrupted.
fn committed(bytes: &[u8], version: u32) -> Result<(Commit, bool), ParseError> {
    let found = bytes.len() as u64;
    if bytes.len() < SLOTS_END {
        return Err(ParseError::Length { expected: SLOTS_END as u64, found });
    }
    let commit::Found { commit, torn } = commit::last(bytes, found, version)?;
    check_commit(&commit)?;
    Ok((commit, torn))
}

fn check_commit(commit: &Commit) -> Result<(), ParseError> {
    if !commit.table.is_multiple_of(ALIGN) || commit.table < SLOTS_END as u64 || commit.table > 1 << 62 {
        return Err(ParseError::invalid("header", "the section table is out of place"));
    }
    Ok(())
}

/// The entries of a table whose sections lie from `start` to `behind`.
fn parse_table(table: &[u8], start: u64, behind: u64, version: u32) -> Result<Vec<SectionEntry>, ParseError> {
    let mut entries: Vec<SectionEntry> = Vec::with_capacity(table.len() / ENTRY_LEN);
    let mut seen = HashSet::new();
    let mut end = start;
    for e in table.chunks_exact(ENTRY_LEN) {
        let mut kind = [0; 4];
        kind.copy_from_slice(&e[..4]);
        let (flags, segment) = (u16_at(e, 4), u16_at(e, 6));
        let entry =
            SectionEntry { kind, flags, segment, offset: u64_at(e, 8), len: u64_at(e, 16), hash: u64_at(e, 24) };
        let bad = |what: &str| Err(ParseError::invalid("section table", format!("section {} {what}", entry.name())));
        if !seen.insert((kind, segment)) && kind != DEAD {
            return bad("stands twice");
        }
        if flags & !FLAG_MUST_KNOW != 0 || (version == 1 && segment != 0) {
            return bad("has unknown flags");
        }
        let fits = entry.offset.checked_add(entry.len).is_some_and(|end| end <= behind);
        if !fits || entry.offset != end.next_multiple_of(ALIGN) {
            return bad("is out of place");
        }
        end = entry.offset + entry.len;
        entries.push(entry);
    }
    let expected = if version == 1 { end } else { end.next_multiple_of(ALIGN) };
    if expected != behind {
        return Err(ParseError::Length { expected, found: behind });
    }
    Ok(entries)
}

/// The newest version of the file this build reads and the one it writes.
pub const VERSION: u32 = 3;
