//! Files taken apart, changed, and put together again with every hash right.

use vlc_reference::{
    container,
    header::{self, Fields, Slot, slot_bytes},
    rows::cell_bytes,
};
use xxhash_rust::xxh3::xxh3_64;

use super::Random;

/// Bytes of the header with both slots, since version 2.
pub const SLOTS_END: usize = 192;

#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    pub kind: [u8; 4],
    pub flags: u16,
    pub segment: u16,
    pub bytes: Vec<u8>,
}

pub fn section(kind: &[u8; 4], segment: u16, bytes: Vec<u8>) -> Section {
    Section { kind: *kind, flags: 0, segment, bytes }
}

pub fn sections(file: &[u8]) -> Vec<Section> {
    let of = |s: &container::Section<'_>| Section {
        kind: s.kind,
        flags: s.flags as u16,
        segment: s.segment as u16,
        bytes: s.bytes.to_vec(),
    };
    container::sections(file).unwrap().iter().map(of).collect()
}

/// The section of that kind that comes first.
#[track_caller]
pub fn part<'a>(sections: &'a mut [Section], kind: &[u8; 4]) -> &'a mut Vec<u8> {
    &mut sections.iter_mut().find(|s| s.kind == *kind).unwrap().bytes
}

/// A file of one commit of these sections with every hash right.
pub fn assemble(sections: &[Section]) -> Vec<u8> {
    assemble_as(3, sections)
}

/// The same in version 1, 2 or 3.
pub fn assemble_as(version: u32, sections: &[Section]) -> Vec<u8> {
    if version == 1 {
        return assemble_v1(sections);
    }
    let mut body = vec![0; SLOTS_END];
    let table = append(&mut body, sections);
    body.resize(body.len().next_multiple_of(64), 0);
    let (at, hash) = (body.len() as u64, xxh3_64(&table));
    body.extend(&table);
    body[..8].copy_from_slice(&header::MAGIC);
    body[8..12].copy_from_slice(&version.to_le_bytes());
    let features = container::FEATURES.iter().filter(|(.., kind)| sections.iter().any(|s| s.kind == **kind));
    let fields = Fields {
        generation: 1,
        table: at,
        entries: sections.len() as u32,
        table_hash: hash,
        features: features.fold(0, |all, (bit, ..)| all | 1 << bit),
    };
    body[header::SLOT + 64..SLOTS_END].copy_from_slice(&slot_bytes(version, fields));
    seal(&mut body);
    body
}

/// The same as version 1 has it.
pub fn assemble_v1(sections: &[Section]) -> Vec<u8> {
    let table_end = 64 + 32 * sections.len();
    let mut body = vec![0; table_end];
    let table = append(&mut body, sections);
    body[64..table_end].copy_from_slice(&table);
    body[..8].copy_from_slice(&header::MAGIC);
    body[8..12].copy_from_slice(&1u32.to_le_bytes());
    body[12..16].copy_from_slice(&(sections.len() as u32).to_le_bytes());
    let length = body.len() as u64;
    body[16..24].copy_from_slice(&length.to_le_bytes());
    seal(&mut body);
    body
}

/// Appends the sections, and returns their table.
fn append(body: &mut Vec<u8>, sections: &[Section]) -> Vec<u8> {
    let mut table = Vec::new();
    for s in sections {
        body.resize(body.len().next_multiple_of(64), 0);
        table.extend(s.kind);
        table.extend(s.flags.to_le_bytes());
        table.extend(s.segment.to_le_bytes());
        table.extend((body.len() as u64).to_le_bytes());
        table.extend((s.bytes.len() as u64).to_le_bytes());
        table.extend(xxh3_64(&s.bytes).to_le_bytes());
        body.extend(&s.bytes);
    }
    table
}

/// Makes the hashes of header, valid slots and tables right, as far as they lie in the file; everything else stays as it is.
pub fn seal(file: &mut [u8]) {
    if file[8] == 1 {
        let count = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
        let end = count.saturating_mul(32).saturating_add(64).min(file.len());
        let hash = xxh3_64(&file[64..end]);
        file[24..32].copy_from_slice(&hash.to_le_bytes());
    } else {
        for at in [64, 128] {
            let version = u32::from(file[8]);
            if let Slot::Valid(fields) = header::slot(&file[at..at + 64], version) {
                let from = usize::try_from(fields.table).unwrap_or(usize::MAX).min(file.len());
                let end = from.saturating_add(32 * fields.entries as usize).min(file.len());
                let fields = Fields { table_hash: xxh3_64(&file[from..end]), ..fields };
                file[at..at + 64].copy_from_slice(&slot_bytes(version, fields));
            }
        }
    }
    let hash = xxh3_64(&file[..56]);
    file[56..64].copy_from_slice(&hash.to_le_bytes());
}

/// `SEGM`: n rows of numbers `first..first + span`.
pub fn segm(n: u64, first: u64, span: u64) -> Vec<u8> {
    [n, first, span, 0].iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// `TOMB` for positions of a segment of n rows.
pub fn tomb(n: usize, positions: &[usize]) -> Vec<u8> {
    [&(positions.len() as u64).to_le_bytes()[..], &cell_bytes(n, positions)].concat()
}

/// `HIST` of these entries: first row, rows, sum of errors.
pub fn hist(entries: &[(u64, u64, u128)]) -> Vec<u8> {
    let entry = |&(first, rows, error): &(u64, u64, u128)| {
        [&first.to_le_bytes()[..], &rows.to_le_bytes(), &error.to_le_bytes()].concat()
    };
    entries.iter().flat_map(entry).collect()
}

/// Small numbers, powers of two and the ends of ranges: what counts and lengths go wrong with.
pub fn nasty(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => random.below(4) as u64,
        1 => 1 << random.below(64),
        2 => (1u64 << random.below(64)).wrapping_sub(1),
        3 => u64::MAX - random.below(3) as u64,
        4 => random.below(70_000) as u64,
        _ => random.next(),
    }
}

pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..1 + random.below(3) {
        if bytes.is_empty() {
            bytes.push(random.next() as u8);
            continue;
        }
        // Fields stand at the front more often than not.
        let most = if random.below(2) == 0 { bytes.len() } else { bytes.len().min(64) };
        let at = random.below(most);
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = nasty(random) as u8,
            2 | 3 => {
                let width = [2, 4, 8][random.below(3)];
                let at = at / width * width;
                let value = nasty(random).to_le_bytes();
                bytes.iter_mut().skip(at).zip(&value[..width]).for_each(|(b, v)| *b = *v);
            }
            4 => bytes.truncate(at),
            5 => bytes.resize(bytes.len() + 1 + random.below(70), random.next() as u8),
            _ => {
                let value = [f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX, 1e-45, 0.0][random.below(6)].to_le_bytes();
                bytes.iter_mut().skip(at / 4 * 4).zip(value).for_each(|(b, v)| *b = v);
            }
        }
    }
}
