//! The header and the section table: `docs/format.md`, sections 1 and 2.

use crate::packed::Cursor;
use xxhash_rust::xxh3::xxh3_64;

/// The first eight bytes of a file.
pub const MAGIC: [u8; 8] = *b"\x89VLC\r\n\x1a\n";
/// The version that this reader knows.
pub const VERSION: u32 = 1;
/// The sections a file must have.
pub const REQUIRED: [&[u8; 4]; 8] = [b"META", b"MEAN", b"CHRT", b"ANCH", b"SIDE", b"CELL", b"ROWS", b"CODE"];
/// The sections that a reader loads to open a file; `KEYV` may be missing.
pub const MODEL: [&[u8; 4]; 7] = [b"META", b"MEAN", b"CHRT", b"ANCH", b"SIDE", b"CELL", b"KEYV"];
/// Model sections together have at most this many bytes.
pub const MODEL_LIMIT: usize = 1 << 30;

/// One entry of the section table with the bytes it points to.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// Four ASCII characters.
    pub kind: [u8; 4],
    /// Bit 0: a reader that does not know this kind must refuse the file.
    pub flags: u32,
    /// Where the section starts in the file.
    pub offset: usize,
    /// Its contents.
    pub bytes: &'a [u8],
}

/// The section of that kind, if there is one.
pub fn find<'a>(sections: &[Section<'a>], kind: &[u8; 4]) -> Option<&'a [u8]> {
    sections.iter().find(|s| s.kind == *kind).map(|s| s.bytes)
}

/// Checks everything about a file that can be checked without understanding its sections: magic,
/// version, length, the three kinds of hash, reserved bytes, order, alignment and padding of
/// the sections, which kinds there are, and the size of the model.
///
/// `file`: the whole file. Returns its sections in the order of the table.
pub fn sections(file: &[u8]) -> Result<Vec<Section<'_>>, String> {
    let entries = header(file)?;
    let table_end = 64 + 32 * entries;
    let mut table = Cursor::new("section table", &file[64..table_end]);
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut end = table_end;
    for _ in 0..entries {
        let mut kind = [0; 4];
        kind.copy_from_slice(table.take(4)?);
        let name = kind.escape_ascii().to_string();
        let flags = table.u32()?;
        let offset = table.count64()?;
        let length = table.count64()?;
        let hash = table.u64()?;

        if !kind.is_ascii() {
            return Err(format!("section kind {name} is not ASCII"));
        }
        if sections.iter().any(|s| s.kind == kind) {
            return Err(format!("there are two sections {name}"));
        }
        if flags & !1 != 0 {
            return Err(format!("{name}: reserved flags {flags:#x}"));
        }
        if flags & 1 == 1 && !REQUIRED.contains(&&kind) && kind != *b"KEYV" {
            return Err(format!("{name}: this reader does not know a section it must know"));
        }
        if offset % 64 != 0 || offset < end {
            return Err(format!("{name}: offset {offset} is unaligned or out of order"));
        }
        let bytes = match offset.checked_add(length).and_then(|to| file.get(offset..to)) {
            Some(bytes) => bytes,
            None => {
                return Err(format!("{name}: {length} bytes at {offset} pass the file's end"));
            }
        };
        Cursor::new("padding", &file[end..offset]).zeros(offset - end)?;
        if xxh3_64(bytes) != hash {
            return Err(format!("{name}: its hash is not that of its bytes"));
        }
        end = offset + length;
        sections.push(Section { kind, flags, offset, bytes });
    }
    if end != file.len() {
        return Err(format!("the last section ends at {end}, the file at {}", file.len()));
    }
    for kind in REQUIRED {
        if find(&sections, kind).is_none() {
            return Err(format!("there is no section {}", kind.escape_ascii()));
        }
    }
    let model: usize = MODEL.iter().filter_map(|k| find(&sections, k)).map(<[u8]>::len).sum();
    if model > MODEL_LIMIT {
        return Err(format!("a model of {model} bytes is above the limit of {MODEL_LIMIT}"));
    }
    Ok(sections)
}

/// Checks the 64 bytes of the header and the hash of the table. Returns the number of entries of
/// the table, which lies within the file.
fn header(file: &[u8]) -> Result<usize, String> {
    let mut header = Cursor::new("header", file);
    if header.take(8)? != MAGIC {
        return Err("this is not a .vlc file".into());
    }
    let version = header.u32()?;
    if version != VERSION {
        return Err(format!("file version {version}, this reader knows version {VERSION}"));
    }
    let entries = header.count32()?;
    let length = header.u64()?;
    let table_hash = header.u64()?;
    header.zeros(24)?;
    let header_hash = header.u64()?;

    if xxh3_64(&file[..56]) != header_hash {
        return Err("the header's hash is not that of its bytes".into());
    }
    if length != file.len() as u64 {
        return Err(format!("a file of {} bytes says it has {length}", file.len()));
    }
    if !(1..=64).contains(&entries) {
        return Err(format!("{entries} sections, 1 to 64 expected"));
    }
    if xxh3_64(header.take(32 * entries)?) != table_hash {
        return Err("the section table's hash is not that of its bytes".into());
    }
    Ok(entries)
}
