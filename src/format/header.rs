//! Header and section table (docs/format.md, sections 1 and 2).

use xxhash_rust::xxh3::xxh3_64;

use super::{ParseError, VERSION};

pub(crate) const MAGIC: [u8; 8] = *b"\x89VLC\r\n\x1a\n";
pub(crate) const HEADER_LEN: usize = 64;
pub(crate) const ENTRY_LEN: usize = 32;
pub(crate) const ALIGN: u64 = 64;
const MAX_SECTIONS: u32 = 64;
/// Flag of a section that a reader must know.
pub(crate) const FLAG_MUST_KNOW: u32 = 1;

/// One section: where it lies and what it hashes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SectionEntry {
    pub(crate) kind: [u8; 4],
    pub(crate) flags: u32,
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

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Where the first section starts.
pub(crate) fn sections_start(sections: usize) -> u64 {
    ((HEADER_LEN + sections * ENTRY_LEN) as u64).next_multiple_of(ALIGN)
}

/// The header and table of a file of `file_len` bytes.
pub(crate) fn write(entries: &[SectionEntry], file_len: u64) -> Vec<u8> {
    let mut table = Vec::with_capacity(entries.len() * ENTRY_LEN);
    for e in entries {
        table.extend_from_slice(&e.kind);
        table.extend_from_slice(&e.flags.to_le_bytes());
        table.extend_from_slice(&e.offset.to_le_bytes());
        table.extend_from_slice(&e.len.to_le_bytes());
        table.extend_from_slice(&e.hash.to_le_bytes());
    }
    let mut out = Vec::with_capacity(HEADER_LEN + table.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    out.extend_from_slice(&file_len.to_le_bytes());
    out.extend_from_slice(&xxh3_64(&table).to_le_bytes());
    out.resize(HEADER_LEN - 8, 0);
    let hash = xxh3_64(&out);
    out.extend_from_slice(&hash.to_le_bytes());
    out.extend_from_slice(&table);
    out
}

/// Reads and checks header and table. Allocates at most 64 entries.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<SectionEntry>, ParseError> {
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
        return Err(ParseError::Version { found: version });
    }
    if !intact {
        return Err(ParseError::Checksum { part: "the header".into() });
    }
    if version == 0 {
        return Err(ParseError::invalid("header", "version 0 does not exist"));
    }
    let sections = u32_at(bytes, 12);
    if sections == 0 || sections > MAX_SECTIONS {
        return Err(ParseError::invalid("header", format!("{sections} sections; 1 to {MAX_SECTIONS} are allowed")));
    }
    let expected = u64_at(bytes, 16);
    let start = sections_start(sections as usize);
    if expected != found || found < start {
        return Err(ParseError::Length { expected: expected.max(start), found });
    }
    if bytes[32..HEADER_LEN - 8].iter().any(|&b| b != 0) {
        return Err(ParseError::invalid("header", "reserved bytes are not zero"));
    }
    let table = &bytes[HEADER_LEN..HEADER_LEN + sections as usize * ENTRY_LEN];
    if xxh3_64(table) != u64_at(bytes, 24) {
        return Err(ParseError::Checksum { part: "the section table".into() });
    }
    let mut entries: Vec<SectionEntry> = Vec::with_capacity(sections as usize);
    let mut end = start;
    for e in table.chunks_exact(ENTRY_LEN) {
        let mut kind = [0; 4];
        kind.copy_from_slice(&e[..4]);
        let entry =
            SectionEntry { kind, flags: u32_at(e, 4), offset: u64_at(e, 8), len: u64_at(e, 16), hash: u64_at(e, 24) };
        if entries.iter().any(|other| other.kind == kind) {
            return Err(ParseError::invalid("section table", format!("section {} stands twice", entry.name())));
        }
        if entry.flags & !FLAG_MUST_KNOW != 0 {
            return Err(ParseError::invalid("section table", format!("section {} has unknown flags", entry.name())));
        }
        let fits = entry.offset.checked_add(entry.len).is_some_and(|end| end <= found);
        if !fits || entry.offset != end.next_multiple_of(ALIGN) {
            return Err(ParseError::invalid("section table", format!("section {} is out of place", entry.name())));
        }
        end = entry.offset + entry.len;
        entries.push(entry);
    }
    if end != found {
        return Err(ParseError::Length { expected: end, found });
    }
    Ok(entries)
}
