//! The section table: `docs/format.md`, sections 2, 16, 17 and 18.

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    header::{self, Commit},
    packed::Cursor,
};

/// Kinds that stand in a file once, for all rows.
pub const OF_FILE: [&[u8; 4]; 11] =
    [b"META", b"MEAN", b"CHRT", b"ANCH", b"SIDE", b"SCOR", b"DECO", b"MREF", b"KEYV", b"HIST", b"FEAT"];
/// Kinds that stand in a file once for each segment.
pub const OF_SEGMENT: [&[u8; 4]; 9] =
    [b"SEGM", b"CELL", b"TOMB", b"GAIN", b"ROWS", b"CODE", b"IDSU", b"IDSS", b"SUMS"];
/// The kinds that came with version 3.
pub const SINCE_3: [&[u8; 4]; 4] = [b"FEAT", b"SUMS", b"GAIN", b"SCOR"];
/// The features that this reader knows, by bit, and the sections that call for them.
pub const FEATURES: [(u32, &str, &[u8; 4]); 2] = [(0, "lengths", b"GAIN"), (1, "scores", b"SCOR")];
/// The kinds of version 1.
pub const OF_VERSION_1: [&[u8; 4]; 9] =
    [b"META", b"MEAN", b"CHRT", b"ANCH", b"SIDE", b"KEYV", b"CELL", b"ROWS", b"CODE"];
/// What a model is, but for `META`.
pub const MODEL: [&[u8; 4]; 4] = [b"MEAN", b"CHRT", b"ANCH", b"SIDE"];
/// The sections that a reader loads and checks to open a file.
pub const AT_OPEN: [&[u8; 4]; 15] = [
    b"META", b"MEAN", b"CHRT", b"ANCH", b"SIDE", b"SCOR", b"DECO", b"MREF", b"KEYV", b"HIST", b"FEAT", b"SEGM",
    b"CELL", b"TOMB", b"GAIN",
];
/// Sections checked at open together have at most this many bytes.
pub const OPEN_LIMIT: usize = 1 << 30;
/// A file has at most so many segments.
pub const SEGMENTS: usize = 256;

/// One entry of the section table with the bytes it points to.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// Four ASCII characters.
    pub kind: [u8; 4],
    /// Bit 0: a reader that does not know this kind must refuse the file.
    pub flags: usize,
    /// Which segment it belongs to; 0 for what all rows share.
    pub segment: usize,
    /// Where the section starts in the file.
    pub offset: usize,
    /// Its contents.
    pub bytes: &'a [u8],
}

/// The last commit of a file.
#[derive(Clone, Debug)]
pub struct Container<'a> {
    /// What the header says.
    pub commit: Commit,
    /// The sections in the order of the table.
    pub sections: Vec<Section<'a>>,
    /// How many segments there are.
    pub segments: usize,
}

impl<'a> Container<'a> {
    /// The section of that kind that all rows share, if there is one.
    pub fn find(&self, kind: &[u8; 4]) -> Option<&'a [u8]> {
        self.of_segment(kind, 0)
    }

    /// The section of that kind of a segment, if there is one.
    pub fn of_segment(&self, kind: &[u8; 4], segment: usize) -> Option<&'a [u8]> {
        self.sections.iter().find(|s| s.kind == *kind && s.segment == segment).map(|s| s.bytes)
    }

    /// A section that must be there.
    pub fn required(&self, kind: &[u8; 4], segment: usize) -> Result<&'a [u8], String> {
        let missing = || format!("there is no section {} of segment {segment}", kind.escape_ascii());
        self.of_segment(kind, segment).ok_or_else(missing)
    }
}

/// The sections of a file in the order of the table.
pub fn sections(file: &[u8]) -> Result<Vec<Section<'_>>, String> {
    Ok(open(file)?.sections)
}

/// Checks everything about a file that can be checked without understanding its sections: magic,
/// version, slots, all hashes, reserved bytes, order and padding of the sections, which kinds
/// there are, and the size of what is read at open.
///
/// `file`: the whole file, and for version 2 whatever stands behind its committed part.
pub fn open(file: &[u8]) -> Result<Container<'_>, String> {
    let commit = header::commit(file)?;
    let mut table = Cursor::new("section table", &file[commit.table..commit.table + 32 * commit.entries]);
    let first = commit.version == 1;
    // What stands before the first section: a header and the table, or a header.
    let mut end = if first { commit.table + 32 * commit.entries } else { 192 };
    // Sections end with the file or where the table starts.
    let last = if first { file.len() } else { commit.table };
    let mut sections: Vec<Section<'_>> = Vec::new();
    for _ in 0..commit.entries {
        let mut kind = [0; 4];
        kind.copy_from_slice(table.take(4)?);
        let name = kind.escape_ascii().to_string();
        let flags = table.u16()?;
        let segment = table.u16()?;
        let offset = table.count64()?;
        let length = table.count64()?;
        let hash = table.u64()?;

        if !kind.is_ascii() {
            return Err(format!("section kind {name} is not ASCII"));
        }
        if kind != *b"DEAD" && sections.iter().any(|s| s.kind == kind && s.segment == segment) {
            return Err(format!("there are two sections {name}"));
        }
        if flags & !1 != 0 {
            return Err(format!("{name}: reserved flags {flags:#x}"));
        }
        let known = OF_SEGMENT.contains(&&kind) || OF_FILE.contains(&&kind) || kind == *b"DEAD";
        if first && known && !OF_VERSION_1.contains(&&kind) {
            return Err(format!("{name}: not in a file of version 1"));
        }
        if commit.version == 2 && SINCE_3.contains(&&kind) {
            return Err(format!("{name}: not in a file of version 2"));
        }
        if flags & 1 == 1 && !known {
            return Err(format!("{name}: this reader does not know a section it must know"));
        }
        if segment > 0 && (first || OF_FILE.contains(&&kind)) {
            return Err(format!("{name}: segment {segment} for what all rows share"));
        }
        if offset != end.next_multiple_of(64) {
            return Err(format!("{name}: offset {offset}, the section before ends at {end}"));
        }
        let bytes = match offset.checked_add(length) {
            Some(to) if to <= last => &file[offset..to],
            _ => return Err(format!("{name}: {length} bytes at {offset} pass the file's end")),
        };
        Cursor::new("padding", &file[end..offset]).zeros(offset - end)?;
        if xxh3_64(bytes) != hash {
            return Err(format!("{name}: its hash is not that of its bytes"));
        }
        end = offset + length;
        sections.push(Section { kind, flags, segment, offset, bytes });
    }
    let behind = if first { end } else { end.next_multiple_of(64) };
    if behind != last {
        return Err(format!("the last section ends at {end}, all of them at {last}"));
    }
    Cursor::new("padding", &file[end..last]).zeros(last - end)?;
    let container = Container { segments: count_segments(&sections, first)?, commit, sections };
    check_features(&container)?;
    check_sums(&container)?;
    check_kinds(container)
}

/// Section 16: the features of the commit are known and named, and those that sections call for are among them.
fn check_features(container: &Container<'_>) -> Result<(), String> {
    let features = container.commit.features;
    let mut names = Vec::new();
    let mut known = 0;
    for (bit, name, kind) in FEATURES {
        let used = features >> bit & 1 == 1;
        known |= 1 << bit;
        if used {
            names.extend([bit as u8, name.len() as u8]);
            names.extend(name.as_bytes());
        } else if container.sections.iter().any(|s| s.kind == *kind) {
            return Err(format!("{} without the feature {name}", kind.escape_ascii()));
        }
    }
    if features & !known != 0 {
        return Err(format!("features {features:#x}, this reader knows {known:#x}"));
    }
    match container.find(b"FEAT") {
        None if features == 0 => Ok(()),
        Some(section) if features != 0 && section == names => Ok(()),
        _ => Err("FEAT does not name the features".into()),
    }
}

/// Section 17: the hashes of the parts of long sections.
fn check_sums(container: &Container<'_>) -> Result<(), String> {
    for segment in 0..container.segments {
        let mut sums = Vec::new();
        for s in &container.sections {
            let summed = [*b"ROWS", *b"CODE", *b"RFNC", *b"IDSU", *b"IDSS"].contains(&s.kind);
            if summed && s.segment == segment && s.bytes.len() > 65_536 {
                sums.extend(s.bytes.chunks(65_536).flat_map(|part| xxh3_64(part).to_le_bytes()));
            }
        }
        match container.of_segment(b"SUMS", segment) {
            Some(found) if found != sums || sums.is_empty() => {
                return Err("SUMS are not those of the sections".into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Segments are numbered from 0 without gaps.
fn count_segments(sections: &[Section<'_>], first: bool) -> Result<usize, String> {
    if first {
        return Ok(1);
    }
    let count = sections.iter().filter(|s| s.kind == *b"SEGM").count();
    if count > SEGMENTS {
        return Err(format!("{count} segments, at most {SEGMENTS} expected"));
    }
    match sections.iter().find(|s| OF_SEGMENT.contains(&&s.kind) && s.segment >= count) {
        Some(s) => Err(format!("{} of segment {}; there are {count}", s.kind.escape_ascii(), s.segment)),
        None => Ok(count),
    }
}

/// Which sections a file must have, and which not.
fn check_kinds(container: Container<'_>) -> Result<Container<'_>, String> {
    container.required(b"META", 0)?;
    let elsewhere = container.find(b"MREF").is_some();
    if elsewhere && container.find(b"DECO").is_some() {
        return Err("DECO beside MREF".into());
    }
    for kind in MODEL {
        if elsewhere && container.find(kind).is_some() {
            return Err(format!("{} beside MREF", kind.escape_ascii()));
        }
        if !elsewhere {
            container.required(kind, 0)?;
        }
    }
    for segment in 0..container.segments {
        if container.commit.version > 1 {
            container.required(b"SEGM", segment)?;
        }
        for kind in [b"CELL", b"ROWS", b"CODE"] {
            container.required(kind, segment)?;
        }
    }
    let open: usize = container.sections.iter().filter(|s| AT_OPEN.contains(&&s.kind)).map(|s| s.bytes.len()).sum();
    if open > OPEN_LIMIT {
        return Err(format!("{open} bytes to open, the limit is {OPEN_LIMIT}"));
    }
    Ok(container)
}
