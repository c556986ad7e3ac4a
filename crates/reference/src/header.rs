//! The header and its slots: `docs/format.md`, sections 1 and 18.

use xxhash_rust::xxh3::xxh3_64;

use crate::packed::Cursor;

/// The first eight bytes of a file.
pub const MAGIC: [u8; 8] = *b"\x89VLC\r\n\x1a\n";
/// The versions that this reader knows are 1 up to this one.
pub const VERSION: u32 = 3;
/// Where the first of the two slots starts, and how long each is.
pub const SLOT: usize = 64;

/// What a file's header says of its last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// 1 to 3.
    pub version: u32,
    /// Counts the commits; 1 for version 1.
    pub generation: u64,
    /// Where the section table starts.
    pub table: usize,
    /// How many entries it has.
    pub entries: usize,
    /// Where the committed part ends.
    pub end: usize,
    /// What a reader must know, a bit for each; 0 before version 3.
    pub features: u64,
}

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// 1 for the first commit.
    pub generation: u64,
    /// Where its table starts.
    pub table: u64,
    /// How many entries that has.
    pub entries: u32,
    /// XXH3-64 of the table.
    pub table_hash: u64,
    /// What a reader must know.
    pub features: u64,
}

/// One of the two slots since version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// All bytes are zero.
    Empty,
    /// A byte has an odd number of ones, or what must be zero is not.
    Damaged,
    /// None of these, but its hash is wrong.
    Torn,
    /// A commit.
    Valid(Fields),
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
    if version == 1 { of_version_1(file) } else { with_slots(file, version) }
}

/// Section 18: 64 bytes, then the table, then the sections up to the end of the file.
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
    Ok(Commit { version: 1, generation: 1, table: 64, entries, end: file.len(), features: 0 })
}

/// Section 1: reserved bytes, then two slots.
fn with_slots(file: &[u8], version: u32) -> Result<Commit, String> {
    let mut header = Cursor::new("header", file);
    header.take(12)?;
    header.zeros(44)?;
    header.u64()?;
    let slots = [slot(header.take(SLOT)?, version), slot(header.take(SLOT)?, version)];
    let (chosen, torn) = choose(&slots).ok_or_else(|| format!("the header's slots are damaged: {slots:?}"))?;
    let Slot::Valid(Fields { generation, table, entries, table_hash, features }) = *chosen else {
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
    Ok(Commit { version, generation, table, entries, end, features })
}

/// The slot that has the commit of the file, and whether the other is torn; none in a damaged file.
fn choose(slots: &[Slot; 2]) -> Option<(&Slot, bool)> {
    match slots {
        [a @ Slot::Valid(of_a), b @ Slot::Valid(of_b)] => {
            if a == b || of_a.generation.checked_sub(1) == Some(of_b.generation) {
                Some((a, false))
            } else if of_b.generation.checked_sub(1) == Some(of_a.generation) {
                Some((b, false))
            } else {
                None
            }
        }
        [a @ Slot::Valid(Fields { generation: 1, .. }), Slot::Empty]
        | [Slot::Empty, a @ Slot::Valid(Fields { generation: 1, .. })] => Some((a, false)),
        [a @ Slot::Valid(_), Slot::Torn] | [Slot::Torn, a @ Slot::Valid(_)] => Some((a, true)),
        _ => None,
    }
}

/// Bytes that a slot's fields take: in version 2, and in version 3.
fn field_bytes(version: u32) -> usize {
    if version == 2 { 32 } else { 40 }
}

/// What the 64 bytes of a slot of a file of this version are: the bits of its fields, seven to a byte, each byte with an even
/// number of ones.
pub fn slot(bytes: &[u8], version: u32) -> Slot {
    if bytes.iter().all(|&byte| byte == 0) {
        return Slot::Empty;
    }
    let odd = bytes.iter().any(|byte| byte.count_ones() % 2 == 1);
    let len = field_bytes(version);
    let coded = (8 * len).div_ceil(7);
    let mut bits = Vec::new();
    for byte in &bytes[..coded] {
        for b in 0..7 {
            bits.push(byte >> b & 1);
        }
    }
    let behind = bits[8 * len..].iter().chain(&bytes[coded..]).any(|&bit| bit != 0);
    if odd || behind {
        return Slot::Damaged;
    }
    let mut fields = vec![0; len];
    for i in 0..8 * len {
        fields[i / 8] |= bits[i] << (i % 8);
    }
    let u64_at = |at: usize| (0..8).map(|i| u64::from(fields[at + i]) << (8 * i)).sum();
    let u32_at = |at: usize| (0..4).map(|i| u32::from(fields[at + i]) << (8 * i)).sum::<u32>();
    if u32_at(len - 4) != xxh3_64(&fields[..len - 4]) as u32 {
        return Slot::Torn;
    }
    let features = if version == 2 { 0 } else { u64_at(28) };
    Slot::Valid(Fields {
        generation: u64_at(0),
        table: u64_at(8),
        entries: u32_at(16),
        table_hash: u64_at(20),
        features,
    })
}

/// The 64 bytes of a slot with these fields, in a file of this version.
pub fn slot_bytes(version: u32, of: Fields) -> [u8; SLOT] {
    let mut fields = Vec::new();
    fields.extend(of.generation.to_le_bytes());
    fields.extend(of.table.to_le_bytes());
    fields.extend(of.entries.to_le_bytes());
    fields.extend(of.table_hash.to_le_bytes());
    if version > 2 {
        fields.extend(of.features.to_le_bytes());
    }
    let hash = xxh3_64(&fields) as u32;
    fields.extend(hash.to_le_bytes());
    let mut slot = [0_u8; SLOT];
    for i in 0..8 * fields.len() {
        slot[i / 7] |= (fields[i / 8] >> (i % 8) & 1) << (i % 7);
    }
    for byte in &mut slot {
        if byte.count_ones() % 2 == 1 {
            *byte |= 0x80;
        }
    }
    slot
}
