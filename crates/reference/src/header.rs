//! The header and its slots: `docs/format.md`, sections 1 and 14.

use crate::packed::Cursor;
use xxhash_rust::xxh3::xxh3_64;

/// The first eight bytes of a file.
pub const MAGIC: [u8; 8] = *b"\x89VLC\r\n\x1a\n";
/// The versions that this reader knows are 1 up to this one.
pub const VERSION: u32 = 2;
/// Where the first of the two slots starts, and how long each is.
pub const SLOT: usize = 64;

/// What a file's header says of its last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// 1 or 2.
    pub version: u32,
    /// Counts the commits; 1 for version 1.
    pub generation: u64,
    /// Where the section table starts.
    pub table: usize,
    /// How many entries it has.
    pub entries: usize,
    /// Where the committed part ends.
    pub end: usize,
}

/// One of the two slots of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// All bytes are zero.
    Empty,
    /// A byte has an odd number of ones, or what must be zero is not.
    Damaged,
    /// None of these, but its hash is wrong.
    Torn,
    /// A commit.
    Valid {
        /// 1 for the first commit.
        generation: u64,
        /// Where its table starts.
        table: u64,
        /// How many entries that has.
        entries: u32,
        /// XXH3-64 of the table.
        table_hash: u64,
    },
}

/// The commit of a file, its table within the file and of the right hash.
pub fn commit(file: &[u8]) -> Result<Commit, String> {
    let mut header = Cursor::new("header", file);
    if header.take(8)? != MAGIC {
        return Err("this is not a .vlc file".into());
    }
    let version = header.u32()?;
    if version == 0 || version > VERSION {
        return Err(format!("file version {version}, this reader knows versions 1 to {VERSION}"));
    }
    if xxh3_64(Cursor::new("header", file).take(56)?) != Cursor::new("header", file.get(56..).unwrap_or(&[])).u64()? {
        return Err("the header's hash is not that of its bytes".into());
    }
    if version == 1 { of_version_1(file) } else { of_version_2(file) }
}

/// Section 14: 64 bytes, then the table, then the sections up to the end of the file.
fn of_version_1(file: &[u8]) -> Result<Commit, String> {
    let mut header = Cursor::new("header", file);
    header.take(12)?;
    let entries = header.count32()?;
    let length = header.u64()?;
    let table_hash = header.u64()?;
    header.zeros(24)?;
    header.u64()?;
    if length != file.len() as u64 {
        return Err(format!("a file of {} bytes says it has {length}", file.len()));
    }
    if !(1..=64).contains(&entries) {
        return Err(format!("{entries} sections, 1 to 64 expected"));
    }
    if xxh3_64(header.take(32 * entries)?) != table_hash {
        return Err("the section table's hash is not that of its bytes".into());
    }
    Ok(Commit { version: 1, generation: 1, table: 64, entries, end: file.len() })
}

/// Section 1: reserved bytes, then two slots.
fn of_version_2(file: &[u8]) -> Result<Commit, String> {
    let mut header = Cursor::new("header", file);
    header.take(12)?;
    header.zeros(44)?;
    header.u64()?;
    let slots = [slot(header.take(SLOT)?), slot(header.take(SLOT)?)];
    let (chosen, torn) = choose(&slots).ok_or_else(|| format!("the header's slots are damaged: {slots:?}"))?;
    let Slot::Valid { generation, table, entries, table_hash } = *chosen else {
        return Err("the header has no valid slot".into());
    };
    if !(1..=4096).contains(&entries) {
        return Err(format!("{entries} sections, 1 to 4096 expected"));
    }
    let table = usize::try_from(table).map_err(|_| format!("a table at {table}"))?;
    let entries = entries as usize;
    let end = match table.checked_add(32 * entries) {
        Some(end) if end <= file.len() => end,
        _ => return Err(format!("a table of {entries} sections at {table} passes the file's end")),
    };
    if torn && file.len() == end {
        return Err("a slot is torn, but nothing stands behind the commit of the other".into());
    }
    if table % 64 != 0 {
        return Err(format!("a table at {table}, a multiple of 64 expected"));
    }
    if xxh3_64(&file[table..end]) != table_hash {
        return Err("the section table's hash is not that of its bytes".into());
    }
    Ok(Commit { version: 2, generation, table, entries, end })
}

/// The slot that has the commit of the file, and whether the other is torn; none in a damaged file.
fn choose(slots: &[Slot; 2]) -> Option<(&Slot, bool)> {
    match slots {
        [a @ Slot::Valid { generation: of_a, .. }, b @ Slot::Valid { generation: of_b, .. }] => {
            if a == b || of_a.checked_sub(1) == Some(*of_b) {
                Some((a, false))
            } else if of_b.checked_sub(1) == Some(*of_a) {
                Some((b, false))
            } else {
                None
            }
        }
        [a @ Slot::Valid { generation: 1, .. }, Slot::Empty]
        | [Slot::Empty, a @ Slot::Valid { generation: 1, .. }] => Some((a, false)),
        [a @ Slot::Valid { .. }, Slot::Torn] | [Slot::Torn, a @ Slot::Valid { .. }] => Some((a, true)),
        _ => None,
    }
}

/// What the 64 bytes of a slot are: 256 bits, seven to a byte, each byte with an even number of ones.
pub fn slot(bytes: &[u8]) -> Slot {
    if bytes.iter().all(|&byte| byte == 0) {
        return Slot::Empty;
    }
    let odd = bytes.iter().any(|byte| byte.count_ones() % 2 == 1);
    let mut bits = Vec::new();
    for byte in &bytes[..37] {
        for b in 0..7 {
            bits.push(byte >> b & 1);
        }
    }
    let behind = bits[256..].iter().chain(&bytes[37..]).any(|&bit| bit != 0);
    if odd || behind {
        return Slot::Damaged;
    }
    let mut fields = [0; 32];
    for i in 0..256 {
        fields[i / 8] |= bits[i] << (i % 8);
    }
    let u64_at = |at: usize| (0..8).map(|i| u64::from(fields[at + i]) << (8 * i)).sum();
    let u32_at = |at: usize| (0..4).map(|i| u32::from(fields[at + i]) << (8 * i)).sum::<u32>();
    if u32_at(28) != xxh3_64(&fields[..28]) as u32 {
        return Slot::Torn;
    }
    Slot::Valid { generation: u64_at(0), table: u64_at(8), entries: u32_at(16), table_hash: u64_at(20) }
}

/// The 64 bytes of a slot with this commit.
pub fn slot_bytes(generation: u64, table: u64, entries: u32, table_hash: u64) -> [u8; SLOT] {
    let mut fields = Vec::new();
    fields.extend(generation.to_le_bytes());
    fields.extend(table.to_le_bytes());
    fields.extend(entries.to_le_bytes());
    fields.extend(table_hash.to_le_bytes());
    let hash = xxh3_64(&fields) as u32;
    fields.extend(hash.to_le_bytes());
    let mut slot = [0_u8; SLOT];
    for i in 0..256 {
        slot[i / 7] |= (fields[i / 8] >> (i % 8) & 1) << (i % 7);
    }
    for byte in &mut slot {
        if byte.count_ones() % 2 == 1 {
            *byte |= 0x80;
        }
    }
    slot
}
